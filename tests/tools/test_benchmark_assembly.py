"""The benchmark of assembly: both sides draw the same, and the bounds are read off rightly."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("benchmark_assembly")


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("window_arms")


def run(arm: str, stride: int, merging: float, peak: float) -> dict[str, Any]:
    return {
        **{"arm": arm, "stride": stride, "windows": 256, "loaded": 4e8, "peak": peak},
        **{"network": 5.0, "merging": merging, "total": 5 + merging},
    }


def runs(tool: ModuleType, merging: float, peak: float, stride: int = 256) -> list[Any]:
    stock, own, dense = tool.ARMS
    return [
        run(stock, stride, 100.0, 3e9),
        run(own, stride, merging, peak),
        run(dense, stride, 50.0, 2.9e9),
    ]


def test_bounds(tool: ModuleType) -> None:
    assert not tool.missed(runs(tool, 9.9, 1.4e9))
    assert tool.missed(runs(tool, 10.1, 1.4e9))
    assert tool.missed(runs(tool, 9.9, 1.6e9))
    assert tool.missed(runs(tool, 9.9, 1.4e9) + runs(tool, 30.0, 1.4e9, stride=224))


def test_table_compares_with_mmsegmentation(tool: ModuleType) -> None:
    found = runs(tool, 4.0, 1.2e9) + runs(tool, 6.0, 1.2e9) + runs(tool, 5.0, 1.4e9)
    stock, own, dense = tool.table(found).splitlines()[2:]
    cells = [cell.strip() for cell in own.strip("| ").split("|")]
    assert cells[:3] == ["256", "GeoMag", "256"]
    assert cells[4] == "5.00 s"
    assert cells[7:] == ["1000 MB", "0.050", "yes", "0.47", "yes"]
    assert stock.rstrip(" |").endswith("MB")
    assert dense.count("no ") == 2


def test_alike_counts_bits(tool: ModuleType) -> None:
    one, other = np.zeros((2, 64), bool), np.zeros((2, 64), bool)
    one[0, :40], other[0, 10:50] = True, True
    share, overlap = tool.alike(np.packbits(one), np.packbits(other))
    assert share == pytest.approx(1 - 20 / 128)
    assert overlap == pytest.approx(30 / 50)


def blotches(pixels: Tensor) -> Tensor:
    """Logits `[N, CLASSES, h/4, w/4]` that follow from a pixel's surroundings alone."""
    grey = F.avg_pool2d(pixels.mean(1, keepdim=True), 4)
    levels = torch.linspace(0.3, 0.7, 10).view(1, -1, 1, 1)
    return (grey - levels) * 40


def picture(side: int) -> Any:
    coarse = np.random.default_rng(0).uniform(0, 255, (side // 64, side // 64, 3))
    smooth = F.interpolate(torch.from_numpy(coarse).permute(2, 0, 1)[None], (side, side))
    return F.avg_pool2d(smooth, 31, 1, 15)[0].permute(1, 2, 0).numpy().astype(np.uint8)


def test_own_arm_draws_the_scene(arms: ModuleType) -> None:
    pixels = picture(640)
    values = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    whole = F.interpolate(blotches(values), (640, 640), mode="bilinear")[0].numpy() > 0
    with torch.inference_mode():
        drawn, told = arms.own(blotches, 256, dense=True)(pixels)
    assert told["windows"] == 9
    assert told["merging"] > 0
    assert ((drawn > 0) == whole).mean() > 0.99
    with torch.inference_mode():
        drawn, _ = arms.own(blotches, 256, dense=False)(pixels)
    assert drawn is None


@pytest.mark.parametrize("stride", [256, 224])
def test_both_arms_draw_the_same(arms: ModuleType, stride: int) -> None:
    pytest.importorskip("mmseg", reason="mmsegmentation is not installed")
    pixels = picture(640)
    with torch.inference_mode():
        theirs, told = arms.stock(blotches, stride)(pixels)
        ours, _ = arms.own(blotches, stride, dense=True)(pixels)
    assert told["windows"] == 9
    assert theirs.shape == ours.shape == (10, 640, 640)
    assert ((theirs > 0) == (ours > 0)).mean() > 0.99


@pytest.mark.skipif(find_spec("mmseg") is not None, reason="mmsegmentation is installed")
def test_says_what_is_missing() -> None:
    ran = subprocess.run(
        [sys.executable, str(TOOLS / "benchmark_assembly.py")], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: mmsegmentation is not installed here; python -m pip")
    assert len(ran.stderr.splitlines()) == 1


def test_faults_are_told(tool: ModuleType) -> None:
    from geomag.errors import DataError

    for arguments, message in (
        (["--side", "4000"], "--side 4000: expected a multiple of 1024"),
        (["--strides", "100"], "--strides 100: expected even numbers"),
    ):
        with pytest.raises(DataError, match=message):
            tool.measure(tool._parser().parse_args(arguments))
