"""Encoders, language adapters and mask heads of every family, each beside each of the others.

Where plugins/openmmlab is installed and can be used, its components take part.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from geomag import plugins
from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled
from geomag.inference import Predictor
from geomag.model import GeoMag
from geomag.registry import VISION_ENCODERS

Part = Mapping[str, Any]
SIDE = 64
"""Pixels along a look, or the next that an encoder's stride divides."""
ENCODERS: dict[str, Part] = {
    "clip": {"type": "reference/encoder", "architecture": {"model_type": "clip_vision_model"}},
    "siglip": {"type": "reference/encoder", "architecture": {"model_type": "siglip_vision_model"}},
    "dinov3": {"type": "reference/encoder", "architecture": {"model_type": "dinov3_vit"}},
    "tiny": {"type": "tiny/encoder"},
}
ADAPTERS: dict[str, Part] = {
    "llama": {"type": "reference/causal_lm", "architecture": {"model_type": "llama"}},
    "qwen3": {"type": "reference/causal_lm", "architecture": {"model_type": "qwen3"}},
    "qwen2_5_vl": {"type": "reference/vlm"},
    "qwen3_vl": {"type": "reference/vlm", "architecture": {"model_type": "qwen3_vl"}},
    "tiny": {"type": "tiny/llm_adapter"},
}
HEADS: dict[str, Part] = {
    "sam": {"type": "reference/sam"},
    "sam2": {"type": "reference/sam2"},
    "tiny": {"type": "tiny/mask_head"},
}


def with_others(kind: str, parts: Mapping[str, Part]) -> dict[str, Part]:
    """`parts`, with the arguments for tests of what is installed; those of openmmlab join."""
    stock = {
        f"{plugin.name}/{component.name}": component
        for plugin in plugins.inventory().plugins
        for component in plugin.components
        if component.kind == kind and not component.unavailable
    }
    known = {name: {**stock[part["type"]].tiny, **part} for name, part in parts.items()}
    return known | {
        name: {"type": name, **component.tiny}
        for name, component in stock.items()
        if name.startswith("openmmlab/")
    }


def pairwise(*sides: list[str]) -> list[tuple[str, ...]]:
    """Rows in which every two names of different sides meet at least once."""
    draw = random.Random(0)
    missing = {
        frozenset([(i, a), (j, b)])
        for i, j in itertools.combinations(range(len(sides)), 2)
        for a in sides[i]
        for b in sides[j]
    }
    rows = list(itertools.product(*sides))
    draw.shuffle(rows)
    chosen: list[tuple[str, ...]] = []
    while missing:
        best = max(rows, key=lambda row: len(missing & _met(row)))
        chosen.append(best)
        missing -= _met(best)
    return chosen


def _met(row: tuple[str, ...]) -> set[frozenset[tuple[int, str]]]:
    return {frozenset(pair) for pair in itertools.combinations(enumerate(row), 2)}


KINDS = {
    kind: with_others(kind, parts)
    for kind, parts in (
        ("vision_encoder", ENCODERS),
        ("llm_adapter", ADAPTERS),
        ("mask_head", HEADS),
    )
}
GRID = pairwise(*(list(parts) for parts in KINDS.values()))


@pytest.mark.parametrize(("encoder", "adapter", "head"), GRID)
def test_learns_and_answers(encoder: str, adapter: str, head: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    seeing = VISION_ENCODERS.build(KINDS["vision_encoder"][encoder])
    side = math.ceil(SIDE / seeing.strides[-1]) * seeing.strides[-1]
    built = GeoMag(
        vision_encoder=seeing,
        llm_adapter=dict(KINDS["llm_adapter"][adapter]),
        granularity_controller=dict(type="reference/controller"),
        cropper=dict(type="tiny/cropper", width=16, threshold=0.0),
        mask_head=dict(KINDS["mask_head"][head]),
        overview_side=side,
        max_new_tokens=4,
    )
    data = ViewSampled(
        DrawnScenes(length=2, seed=0, size=(2 * side, 3 * side)),
        side=side,
        closer_views=1,
        exchanges=2,
    )
    losses = built.loss([data[0], data[1]])
    assert all(value.isfinite() for value in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    cold = [
        name
        for name, value in built.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    assert not cold

    pixels = np.random.default_rng(0).random((2 * side, 3 * side, 3), np.float32)
    answer = Predictor(built.eval()).open(pixels).ask("every airplane", max_views=2)
    assert len(answer.looks) == 3


def test_the_grid_is_whole() -> None:
    met = set().union(*(_met(row) for row in GRID))
    sides = [list(parts) for parts in KINDS.values()]
    pairs = sum(len(a) * len(b) for a, b in itertools.combinations(sides, 2))
    assert len(met) == pairs
    assert len(GRID) < len(list(itertools.product(*sides)))
