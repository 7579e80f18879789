"""Single objects that a mask finds, worked out by hand on a few squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from geomag.data.facts import Facts
from geomag.data.instructions import segment
from geomag.data.samples import Bitmap, Kind, LabelledSample, Polygons
from geomag.evaluation.instances import SmallObject, recall, recalled, small_objects
from geomag.limits import Limits
from geomag.masks import SceneMask
from geomag.scenes.array import ArrayScene
from geomag.tile import Tile
from geomag.values import Box, Size, Turn, View

SIZE = Size(100, 100)


def square(left: float, top: float, side: float) -> Polygons:
    right, bottom = left + side, top + side
    ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    return Polygons([ring], SIZE)


def rectangle(rows: slice, columns: slice) -> Bitmap:
    mask = np.zeros((SIZE.height, SIZE.width), bool)
    mask[rows, columns] = True
    return Bitmap(mask)


def sample() -> LabelledSample:
    """Two small ships, and a pier that is just not small."""
    shapes = (square(1, 1, 4), square(22, 1, 4), square(40, 40, 32))
    scene = ArrayScene(np.zeros((SIZE.height, SIZE.width, 3), np.uint8))
    kinds = (Kind("ship"), Kind("pier"))
    made = LabelledSample(scene, shapes, ("ship", "ship", "pier"), (), "harbour", kinds)
    return replace(made, exchanges=tuple(segment(Facts(made), kind) for kind in kinds))


def test_a_part_recalls_the_object_it_agrees_with() -> None:
    mask = np.zeros((SIZE.height, SIZE.width), bool)
    mask[0:4, 0:4] = True  # the first shape, whole
    mask[4:8, 4:8] = True  # touches that at a corner alone; half of the second shape
    mask[20:24, 20:32] = True  # two squares and the gap between them: 16 of 48 is each
    shapes = [
        square(0, 0, 4),
        rectangle(slice(4, 8), slice(4, 12)),  # 16 of 32
        rectangle(slice(4, 8), slice(4, 13)),  # 16 of 36
        square(20, 20, 4),
        square(28, 20, 4),
        square(36, 36, 4),  # nothing is marked there
        square(2.8, 2.8, 0.4),  # covers no pixel by half
    ]
    assert recalled(mask, shapes) == [True, True, False, False, False, False, False]


def test_what_is_marked_nowhere_or_everywhere_recalls_nothing() -> None:
    assert recalled(np.zeros((100, 100), bool), [square(0, 0, 4)]) == [False]
    assert recalled(np.ones((100, 100), bool), [square(0, 0, 4)]) == [False]
    assert recalled(np.ones((100, 100), bool), [square(0, 0, 100)]) == [True]


class Told:
    """Marks a corner of 5 x 5 pixels with all tiles, and one of 50 x 50 from the overview."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float | None]] = []

    def answer(
        self, scene: object, turns: Sequence[Turn], looks: object, limits: Limits, threshold: float
    ) -> SimpleNamespace:
        self.asked.append((turns[-1].text, limits.max_views))
        side = 5 if limits.max_views else 50
        levels = np.zeros((SIZE.height, SIZE.width), np.uint8)
        levels[:side, :side] = 255
        view = View(Box(0, 0, SIZE.width, SIZE.height), SIZE, SIZE)
        return SimpleNamespace(masks=(SceneMask(SIZE, (Tile(view, levels),), 0, 1.0),))


def test_small_objects_are_asked_for_with_all_tiles_and_with_none() -> None:
    told = Told()
    found = small_objects(told, sample(), 0.5)  # type: ignore[arg-type]
    assert told.asked == [("every ship", math.inf), ("every ship", 0)]
    assert found == [
        SmallObject("harbour", "ship", 4.0, True, False),  # 16 of 25
        SmallObject("harbour", "ship", 4.0, False, False),
    ]


def test_regions_of_several_objects_are_not_single_ones() -> None:
    uncounted = replace(sample(), uncounted=frozenset({"ship"}))
    assert small_objects(Told(), uncounted, 0.5) == []  # type: ignore[arg-type]


def test_recall_and_its_interval_over_images() -> None:
    """Of images A (2 of 2 with tiles, 0 without) and B (1 of 2, 1 of 2), a draw is AA, AB or BB:
    recall is 1, 3/4 or 1/2, from the overview 0, 1/4 or 1/2, the ratio none, 3 or 1."""
    objects = [
        SmallObject("A", "ship", 9, True, False),
        SmallObject("A", "ship", 9, True, False),
        SmallObject("B", "ship", 9, True, True),
        SmallObject("B", "ship", 9, False, False),
    ]
    figures = recall(objects)
    assert {key: (one.value, one.low, one.high) for key, one in figures.items()} == {
        "everything": (0.75, 0.5, 1),
        "overview": (0.25, 0, 0.5),
        "ratio": (3, 1, 3),
        "difference": (0.5, 0, 1),
    }
    assert math.isnan(recall([])["everything"].value)
