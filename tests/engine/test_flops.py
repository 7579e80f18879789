"""What a model costs, against sums made by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from geomag import geometry
from geomag.engine import flops
from geomag.errors import ConfigError
from geomag.model import GeoMag
from geomag.values import Size

from ..stand_ins import Parrot, Shades
from .running import ROOT, SMALL

SIDE = 32


class Convolved(Shades):
    """Shades through one convolution, whose cost is known."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().forward(self.mix(pixels))


def model() -> GeoMag:
    return GeoMag(
        vision_encoder=Convolved(),
        llm_adapter=Parrot((3, 3)),
        granularity_controller=dict(type="tiny/rules"),
        cropper=dict(type="baselines/whole"),
        mask_head=dict(type="tiny/mask_head", hidden=2),
        overview_side=SIDE,
    )


def test_every_look_is_encoded_once() -> None:
    counter = flops.Counter(model())
    multiplications = 3 * 3 * SIDE * SIDE
    for looks in (1, 5, 17):
        answer = counter.answer(4096, looks)
        assert answer.encoding == looks * 2 * multiplications
        assert answer.masks == looks * counter.answer(4096, 1).masks > 0
        assert answer.total == answer.encoding + answer.relevance + answer.language + answer.masks


@pytest.mark.parametrize("looks", [1, 2, 7, 63, 64, 65, 200])
def test_tokens_stay_within_what_the_language_model_takes(looks: int) -> None:
    tokens = flops.Counter(model()).answer(4096, looks).tokens
    assert 1 <= tokens <= 64
    assert tokens >= min(looks, 64)


@pytest.mark.parametrize("side", [1, 31, 32, 33, 64, 100, 1000, 4096, 5001])
def test_looks_are_those_of_the_pyramid(side: int) -> None:
    scene = Size(side, side)
    pyramid = [
        view for scale in geometry.rungs(scene, SIDE) for view in geometry.tiles(scene, SIDE, scale)
    ]
    assert flops.looks_of(side, SIDE) == 1 + len(pyramid)
    assert flops.looks_of(side, SIDE, 0) == 1
    assert flops.looks_of(side, SIDE, 16) == 1 + min(16, len(pyramid))


def test_parts_are_counted() -> None:
    whole = model()
    whole.vision_encoder.gain.requires_grad_(False)
    found = {part.name: part for part in flops.parts(whole)}
    assert found["vision_encoder"] == flops.Part("vision_encoder", 10, 9, 40)
    assert found["vision_encoder.mix"].parameters == 9
    assert "granularity_controller" not in found  # it is no module
    slots = [part.parameters for name, part in found.items() if "." not in name]
    assert sum(slots) == sum(one.numel() for one in whole.parameters())


def test_what_looks_at_numbers_is_named() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="mask_head MaskHead cannot be"):
        flops.Counter(model())


def test_the_tool_prints_what_is_counted() -> None:
    command = [sys.executable, str(ROOT / "tools/get_flops.py"), SMALL, "--device", "cpu", "--json"]
    ran = subprocess.run(
        [*command, "--scenes", "256", "1024", "--views", "0", "inf"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert [(row["side"], row["looks"]) for row in report["answers"]] == [
        (256, 1),
        (256, 1 + flops.looks_of(256, 64) - 1),
        (1024, 1),
        (1024, flops.looks_of(1024, 64)),
    ]
    assert math.isclose(report["answers"][3]["encoding"], 273 * report["answers"][2]["encoding"])
