"""Without a budget all of a scene that is there is seen, whatever its size, overlap and nodata."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geomag import geometry
from geomag.scenes.array import ArrayScene
from geomag.values import Level, Look, Plan, SceneInfo, Size, View

CASES = 10_000
PARTS = 10
Bits = NDArray[np.bool_]


def pooled(valid: Bits, view: View, side: int) -> torch.Tensor:
    """Which pixels of a canvas show anything that is valid."""
    box, size = view.box, view.size
    part = valid[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    for axis, pixels in enumerate((size.height, size.width)):
        edges = np.arange(pixels) * part.shape[axis] // pixels
        part = np.logical_or.reduceat(part, edges, axis=axis)
    canvas = torch.zeros(side, side, dtype=torch.bool)
    canvas[: size.height, : size.width] = torch.from_numpy(part)
    return canvas


def nodata(draw: random.Random, size: Size) -> Bits:
    """Mostly valid, in one of the ways in which rasters lack data."""
    valid = np.ones((size.height, size.width), np.bool_)
    kind = draw.choice(("none", "rim", "half", "islands", "speckled", "all"))
    y, x = draw.randrange(size.height), draw.randrange(size.width)
    if kind == "rim":
        valid[:y], valid[:, x:] = False, False
    elif kind == "half":
        rows, columns = np.mgrid[: size.height, : size.width]
        valid &= rows * size.width > columns * size.height
    elif kind == "islands":
        valid[:] = False
        for _ in range(3):
            valid[draw.randrange(size.height), draw.randrange(size.width)] = True
    elif kind == "speckled":
        seeded = np.random.default_rng(draw.getrandbits(32))
        valid &= seeded.random(valid.shape) < draw.random()
    elif kind == "all":
        valid[:] = False
    return valid


def seen_without_budget(valid: Bits, size: Size, side: int, overlap: int) -> list[View]:
    plan = Plan(Level.PIXEL, side, overlap=overlap)
    whole = geometry.overview(size, side)
    looks: list[Look] = []
    fringe = [whole]
    while fringe:
        looks += [
            Look(view, torch.empty(0, side, side), pooled(valid, view, side), ()) for view in fringe
        ]
        fringe = geometry.candidates(looks, plan, SceneInfo(size))
    return [look.view for look in looks]


def check(seed: int) -> None:
    draw = random.Random(seed)
    side = draw.choice((4, 6, 8, 16))
    overlap = draw.choice(range(0, side // 2, 2))
    most = draw.choice((side, 3 * side, 12 * side))
    size = Size(draw.randint(1, most), draw.randint(1, most))
    valid = nodata(draw, size)
    views = seen_without_budget(valid, size, side, overlap)
    assert len(set(views)) == len(views)
    finest = views[1:] if geometry.rungs(size, side) else views
    finest = [view for view in finest if geometry.rung(view) == 0]
    seen = np.zeros(valid.shape, np.bool_)
    for view in finest:
        box = view.box
        assert (box.height, box.width) == (view.size.height, view.size.width)
        seen[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = True
    assert seen[valid].all(), "a valid pixel was never seen at the finest level"
    assert shared(finest) <= overlap, "two views share more than the overlap"


def shared(views: list[View]) -> float:
    """The broadest strip that two views share."""
    corners = [(v.box.top, v.box.left, v.box.bottom, v.box.right) for v in views]
    boxes = np.array(corners, np.float64).reshape(-1, 1, 4)
    others = boxes.transpose(1, 0, 2)
    strips = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    narrow = strips.min(axis=-1)
    np.fill_diagonal(narrow, 0)
    return float(narrow.max(initial=0))


@pytest.mark.parametrize("part", range(PARTS))
def test_every_valid_pixel_is_seen_and_none_twice_beyond_the_overlap(part: int) -> None:
    for seed in range(part, CASES, PARTS):
        try:
            check(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_single_valid_pixel_of_a_scene_on_disk_or_in_memory_is_seen() -> None:
    array = np.full((700, 900, 4), 90, np.uint8)
    array[..., 3] = 0
    array[333, 777, 3] = 255
    scene = ArrayScene(array)
    whole = geometry.overview(scene.info.size, 16)
    seen = scene.read(whole, 16)
    assert int(seen.valid.sum()) == 1
    assert float(seen.pixels[:, seen.valid].mean()) == pytest.approx(90 / 255, abs=1e-3)
