from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomag.contracts import Shape
from geomag.data.coverage import covered
from geomag.data.samples import Bitmap, Polygons, side_of
from geomag.geometry import overview, tiles
from geomag.values import Box, Size, View

SIDE = 64
SCENE = Size(150, 211)


def star(seed: int) -> np.ndarray:
    """A simple ring of 3 to 20 corners around a point, often partly outside the scene."""
    random = np.random.default_rng(seed)
    count = int(random.integers(3, 21))
    # A corner in every sector, so that the ring goes round once.
    angles = (np.arange(count) + random.uniform(0, 0.4, count)) / count * 2 * math.pi
    reach = random.uniform(0.5, 1, count) * np.exp(random.uniform(0, 4.6))
    center = random.uniform((-20, -20), (SCENE.width + 20, SCENE.height + 20))
    return center + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]


def total(shape: Shape, views: list[View], stride: int) -> float:
    return sum(
        float(shape.draw(view, SIDE, stride).sum()) * stride**2
        * (view.box.width / view.size.width) * (view.box.height / view.size.height)
        for view in views
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]))
def test_coverage_sums_to_the_area_in_any_tiling(seed: int, stride: int) -> None:
    shape = Polygons([star(seed)], SCENE)
    for views in ([overview(SCENE, SIDE)], tiles(SCENE, SIDE, 1)):
        assert total(shape, views, stride) == pytest.approx(shape.area, rel=1e-4, abs=1e-3)


def test_area_is_that_of_the_corners_and_of_the_part_inside() -> None:
    ring = np.array([[10, 10], [40, 10], [40, 30], [10, 30]])
    assert Polygons([ring], SCENE).area == 600
    assert Polygons([ring[::-1]], SCENE).area == 600
    assert Polygons([ring - (25, 0)], SCENE).area == 300
    assert Polygons([ring - (25, 0)], SCENE).box == Box(0, 10, 15, 30)
    assert Polygons([ring, ring + 50], SCENE).area == 1200
    assert side_of([Polygons([ring], SCENE)]) == math.sqrt(600)
    assert side_of([]) is None


def test_each_cell_is_covered_as_fine_sampling_finds_it() -> None:
    ring = np.array([[1.2, 0.3], [7.9, 2.2], [5.1, 6.6], [3.7, 3.1], [0.4, 5.5]])
    centers = (np.arange(8 * 50) + 0.5) / 50
    x, y = np.meshgrid(centers, centers)
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0 + 1e-12) + x0)
    sampled = inside.reshape(8, 50, 8, 50).mean((1, 3))
    assert np.abs(covered(ring, 8, 8) - sampled).max() < 0.01


def test_a_concave_ring_stays_concave_where_its_notch_leaves_the_scene() -> None:
    ring = np.array([[-5, 0], [20, 0], [20, 10], [-5, 10], [10, 5]])
    drawn = covered(ring, 20, 10)
    assert drawn[5, 2] < 0.01
    assert drawn[1, 2] == 1


def test_a_narrow_edge_view_gets_nothing_beyond_its_border() -> None:
    shape = Polygons([np.array([[0, 0], [211, 0], [211, 150], [0, 150]])], SCENE)
    view = tiles(SCENE, SIDE, 1)[-1]
    drawn = shape.draw(view, SIDE, 2)
    height, width = view.size.height / 2, view.size.width / 2
    assert float(drawn.sum()) == pytest.approx(height * width)
    assert not drawn[:, math.ceil(width) :].any()
    # 19 pixels are nine and a half cells.
    assert view.size.width == 19
    assert drawn[0, 9] == pytest.approx(0.5)


def test_bitmap_and_polygon_of_the_same_rectangle_agree() -> None:
    mask = np.zeros((SCENE.height, SCENE.width), bool)
    mask[33:91, 17:140] = True
    bitmap = Bitmap(mask)
    polygon = Polygons([np.array([[17, 33], [140, 33], [140, 91], [17, 91]])], SCENE)
    assert (bitmap.box, bitmap.area) == (polygon.box, polygon.area)
    for view in [overview(SCENE, SIDE), *tiles(SCENE, SIDE, 1)]:
        for stride in (1, 2, 4):
            one, other = bitmap.draw(view, SIDE, stride), polygon.draw(view, SIDE, stride)
            assert torch.allclose(one, other, atol=1e-5)


def test_an_empty_bitmap_draws_nothing() -> None:
    bitmap = Bitmap(np.zeros((5, 5), bool))
    assert bitmap.area == 0
    assert not bitmap.draw(overview(Size(5, 5), SIDE), SIDE).any()


def test_both_are_shapes_drawn_as_floats() -> None:
    for shape in (Polygons([star(1)], SCENE), Bitmap(np.ones((150, 211), bool))):
        assert isinstance(shape, Shape)
        drawn = shape.draw(overview(SCENE, SIDE), SIDE, 2)
        assert drawn.shape == (32, 32)
        assert drawn.dtype == torch.float32
        assert float(drawn.max()) <= 1
