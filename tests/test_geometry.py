"""The pyramid over thousands of odd scene sizes, and the way between frames."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from geomag import geometry
from geomag.values import Box, Level, Look, Plan, SceneInfo, Size, View
from tests.stand_ins import odd_sizes

SIDE = 16


def blank_look(view: View, valid: bool = True) -> Look:
    filled = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    filled[: view.size.height, : view.size.width] = valid
    return Look(view, torch.zeros(3, SIDE, SIDE), filled, ())


def plan(**changes: object) -> Plan:
    return Plan(Level.PIXEL, SIDE, **changes)  # type: ignore[arg-type]


def cover(views: list[View], size: Size) -> np.ndarray:
    """How often each scene pixel is seen."""
    seen = np.zeros((size.height, size.width), np.int32)
    for view in views:
        box = view.box
        seen[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] += 1
    return seen


@pytest.mark.parametrize("part", range(6))
def test_candidates_are_inside_unique_and_cover_the_scene_once(part: int) -> None:
    for size in odd_sizes(3000, SIDE)[part::6]:
        info = SceneInfo(size)
        whole = geometry.overview(size, SIDE)
        assert max(whole.size.height, whole.size.width) <= SIDE
        looks = [blank_look(whole)]
        fringe = geometry.candidates(looks, plan(), info)
        while fringe:
            assert len(set(fringe)) == len(fringe)
            assert not set(fringe) & {look.view for look in looks}
            for view in fringe:
                box = view.box
                assert 0 <= box.left < box.right <= size.width
                assert 0 <= box.top < box.bottom <= size.height
                assert 1 <= view.size.height <= SIDE
                assert 1 <= view.size.width <= SIDE
            looks += [blank_look(view) for view in fringe]
            fringe = geometry.candidates(looks, plan(), info)
        scales = geometry.rungs(size, SIDE)
        seen = {look.view for look in looks}
        assert len(seen) == len(looks)
        for scale in scales:
            views = geometry.tiles(size, SIDE, scale)
            assert set(views) <= seen
            assert (cover(views, size) == 1).all()
        expected = {whole}.union(*(geometry.tiles(size, SIDE, scale) for scale in scales))
        assert seen == expected


def test_the_rungs_above_native_stay_within_their_promise() -> None:
    draw = random.Random(3)
    for _ in range(300):
        longer = int(4 * SIDE * 32 ** draw.random())
        size = Size(longer, draw.randint(max(1, longer // 8), longer))
        shown = {
            scale: [view.size.area for view in geometry.tiles(size, SIDE, scale)]
            for scale in geometry.rungs(size, SIDE)
        }
        native = shown.pop(1)
        above = [geometry.overview(size, SIDE).size.area, *itertools.chain(*shown.values())]
        # A row of one pixel more for every view: small sides round up more than 256 does.
        slack = sum(len(views) for views in shown.values()) * SIDE + SIDE
        assert sum(above) <= 0.08 * sum(native) + slack, size
        assert len(above) <= 0.13 * len(native) + 2, size


def test_nodata_is_not_offered_again() -> None:
    size = Size(SIDE * 8, SIDE * 8)
    look = blank_look(geometry.overview(size, SIDE))
    look.valid[:, : SIDE // 2] = False
    offered = geometry.candidates([look], plan(), SceneInfo(size))
    assert offered
    assert all(view.box.left >= SIDE * 4 for view in offered)
    empty = blank_look(geometry.overview(size, SIDE), valid=False)
    assert geometry.candidates([empty], plan(), SceneInfo(size)) == []


@pytest.mark.parametrize(
    ("stop_below", "resolution", "expected"),
    [
        (None, None, (16, 4, 1)),
        (1.0, None, (16, 4, 1)),
        (4.0, None, (16, 4)),
        (5.0, None, (16, 4)),
        (16.0, None, (16,)),
        (64.0, None, ()),
        (1.2, 0.3, (16, 4)),
        (0.1, 0.3, (16, 4, 1)),
    ],
)
def test_a_plan_stops_at_the_coarsest_rung_that_is_fine_enough(
    stop_below: float | None, resolution: float | None, expected: tuple[int, ...]
) -> None:
    info = SceneInfo(Size(SIDE * 64, SIDE * 64), resolution=resolution)
    assert geometry.planned_rungs(plan(stop_below=stop_below), info) == expected


def test_relevance_is_taken_from_the_finest_look_that_holds_the_view() -> None:
    size = Size(SIDE * 16, SIDE * 16)
    whole = blank_look(geometry.overview(size, SIDE))
    near = blank_look(geometry.tiles(size, SIDE, 4)[0])
    coarse = torch.zeros(SIDE, SIDE)
    coarse[0, 15] = 0.7  # The top right corner of the scene.
    coarse[0, 0] = 0.9
    fine = torch.full((SIDE, SIDE), 0.2)
    last = geometry.tiles(size, SIDE, 1)[15]
    first = geometry.tiles(size, SIDE, 1)[0]
    found = geometry.relevance_of([first, last], [whole, near], [coarse, fine])
    assert found == pytest.approx([0.2, 0.7])
    assert geometry.relevance_of([first], [whole, near], [coarse, None]) == [None]


def test_boxes_go_to_the_scene_and_back() -> None:
    draw = random.Random(1)
    for size in odd_sizes(300, SIDE):
        for view in [geometry.overview(size, SIDE), *geometry.tiles(size, SIDE, 1)[:2]]:
            left, right = sorted(draw.uniform(0, view.size.width) for _ in range(2))
            top, bottom = sorted(draw.uniform(0, view.size.height) for _ in range(2))
            box = Box(left, top, right, bottom)
            there = geometry.to_scene(box, view)
            assert view.box.left <= there.left <= there.right <= view.box.right
            back = geometry.to_canvas(there, view)
            assert (back.left, back.top, back.right, back.bottom) == pytest.approx(
                (left, top, right, bottom), abs=1e-6
            )


def test_positions_are_fractions_of_the_scene() -> None:
    size = Size(100, 200)
    view = View(Box(100, 0, 200, 50), Size(8, 16), size)
    cells = torch.tensor([[0, 0, 2, 4], [0, 0, 4, 4]])
    owner = torch.zeros(2, dtype=torch.long)
    found = geometry.positions(cells, owner, [view], grid=(4, 4), canvas=(16, 16))
    # The first covers the view's whole width and all of its 8 rows; the second is clipped to that.
    expected = torch.tensor([0.25, 0.75, 0.5, 0.5])
    torch.testing.assert_close(found, expected.expand(2, 4))


def test_raster_order_does_not_depend_on_how_looks_were_found() -> None:
    size = Size(SIDE * 16, SIDE * 9)
    looks = [blank_look(geometry.overview(size, SIDE))]
    for scale in geometry.rungs(size, SIDE):
        looks += [blank_look(view) for view in geometry.tiles(size, SIDE, scale)]
    shuffled = looks[:]
    random.Random(2).shuffle(shuffled)
    ordered = [shuffled[place].view for place in geometry.raster_order(shuffled)]
    assert ordered == [looks[place].view for place in geometry.raster_order(looks)]
    assert ordered[0] == looks[0].view
