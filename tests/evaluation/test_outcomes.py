"""Pixels that masks and shapes share, counted by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from geomag.data.samples import Bitmap, Polygons
from geomag.evaluation.outcomes import Examined, Outcome, OutcomeKeeper, Overlap, compare
from geomag.masks import SceneMask
from geomag.tile import Tile
from geomag.values import Box, Size, View

SIZE = Size(70, 90)


def mask(rows: slice, columns: slice) -> SceneMask:
    probability = np.zeros((SIZE.height, SIZE.width), np.uint8)
    probability[rows, columns] = 255
    view = View(Box(0, 0, SIZE.width, SIZE.height), SIZE, SIZE)
    return SceneMask(SIZE, (Tile(view, probability),), 0, 0.9)


def square(left: float, top: float, side: float) -> Polygons:
    right, bottom = left + side, top + side
    ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    return Polygons([ring], SIZE)


@pytest.mark.parametrize("block", [16, 33, 512])
def test_overlap_is_counted_once_whatever_the_blocks(block: int) -> None:
    drawn = [mask(slice(10, 20), slice(10, 20)), mask(slice(15, 25), slice(10, 20))]
    shapes = [square(10, 20, 10), square(15, 20, 10)]
    # Marked: rows 10 to 25, columns 10 to 20. Wanted: rows 20 to 30, columns 10 to 25.
    expected = Overlap(intersection=50, union=150 + 150 - 50, predicted=150, truth=150)
    assert compare(drawn, shapes, SIZE, block) == expected


def test_a_pixel_belongs_to_what_covers_half_of_it() -> None:
    assert compare([], [square(10, 10, 2.4)], SIZE).truth == 4
    assert compare([], [square(10, 10, 2.5)], SIZE).truth == 8  # a corner is covered by a quarter
    assert compare([], [square(10, 10, 2.8)], SIZE).truth == 9


def test_nothing_is_nothing() -> None:
    assert compare([], [], SIZE) == Overlap(0, 0, 0, 0)
    assert compare([mask(slice(0), slice(0))], [], SIZE) == Overlap(0, 0, 0, 0)


def test_agrees_with_the_whole_scene_at_once() -> None:
    generator = np.random.default_rng(0)
    marked = generator.random((SIZE.height, SIZE.width)) < 0.3
    wanted = generator.random((SIZE.height, SIZE.width)) < 0.3
    view = View(Box(0, 0, SIZE.width, SIZE.height), SIZE, SIZE)
    drawn = SceneMask(SIZE, (Tile(view, marked.astype(np.uint8) * 255),), 0, 1.0)
    found = compare([drawn], [Bitmap(wanted)], SIZE, 17)
    assert found.intersection == (marked & wanted).sum()
    assert found.union == (marked | wanted).sum()
    assert (found.predicted, found.truth) == (marked.sum(), wanted.sum())


def test_keeper_keeps_plain_data() -> None:
    kept = Outcome("a", "class", "every ship", "", "", Overlap(1, 2, 1, 2), False, 3, 4, 5)
    keeper = OutcomeKeeper()
    keeper.process(None, [Examined(None, (kept, kept), ())])  # type: ignore[arg-type]
    assert keeper.evaluate(1) == {}
    assert len(keeper.outcomes) == 2
    assert keeper.outcomes[0]["overlap"] == {
        "intersection": 1,
        "union": 2,
        "predicted": 1,
        "truth": 2,
    }
