"""Borders of looks are told from all else."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from geomag import geometry
from geomag.masks import SceneMask
from geomag.tile import Tile
from geomag.values import Size

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_steps_at_borders_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("measure_seams")
    size = Size(16, 32)
    left, right = geometry.tiles(size, 16, 1)
    levels = np.full((16, 16), 51, np.uint8)
    mask = SceneMask(size, (Tile(left, levels), Tile(right, levels * 3)), 0, 1.0)
    down, across = tool._steps(mask)
    assert down[0] == (0.0, 0)
    assert down[1] == (0.0, 15 * 32)
    assert across[0] == (pytest.approx(16 * 0.4, abs=1e-4), 16)
    assert across[1] == (0.0, 16 * 30)
