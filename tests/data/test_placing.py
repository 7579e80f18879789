"""Shapes in a larger scene: what the window shows of them, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomag.data.coverage import area, clipped, covered
from geomag.data.frames import Frame, FramedShape
from geomag.data.samples import Bitmap, Placeable, Polygons
from geomag.geometry import overview
from geomag.values import Box, Size

SIDE = 64
OWN, LARGE = Size(40, 50), Size(48, 64)
SEEDS = st.integers(0, 10**6)


def ring_of(seed: int) -> np.ndarray:
    """A ring of 3 to 12 corners: round, jagged, or crossing itself; on whole numbers now and then.

    It reaches up to 20 beyond a scene of 40 x 50.
    """
    random = np.random.default_rng(seed)
    count = int(random.integers(3, 13))
    if seed % 3 == 0:
        ring = random.uniform((-20, -20), (OWN.width + 20, OWN.height + 20), (count, 2))
    else:
        angles = (np.arange(count) + random.uniform(0, 0.4, count)) / count * 2 * math.pi
        reach = random.uniform(0.1 if seed % 3 == 1 else 0.9, 1, count) * random.uniform(2, 40)
        center = random.uniform((-10, -10), (OWN.width + 10, OWN.height + 10))
        ring = center + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    return np.asarray(ring.round() if seed % 5 == 0 else ring)


def drawn(shape: Polygons | Bitmap) -> np.ndarray:
    """Coverage of every pixel of the shape's scene, `[H, W]`."""
    canvas = shape.draw(overview(shape.size, SIDE), SIDE).numpy()
    return np.asarray(canvas[: shape.size.height, : shape.size.width])


@given(SEEDS, st.integers(0, 40), st.integers(0, 30), st.integers(1, 24), st.integers(1, 18))
def test_a_clipped_ring_covers_what_the_ring_covers_of_the_rectangle(
    seed: int, left: int, top: int, width: int, height: int
) -> None:
    ring = ring_of(seed)
    part = clipped(ring, left, top, left + width, top + height)
    assert part.min(0).tolist() >= [left, top]
    assert (part.max(0) <= (left + width, top + height)).all()
    expected = np.zeros((LARGE.height, LARGE.width))
    inside = np.s_[top : top + height, left : left + width]
    expected[inside] = covered(ring, LARGE.width, LARGE.height)[inside]
    found = covered(part, LARGE.width, LARGE.height)
    assert np.abs(found - expected).max() < 1e-6


@given(SEEDS, st.floats(-5, 20), st.floats(-5, 20), st.floats(0.5, 30), st.floats(0.5, 30))
def test_the_rectangle_need_not_lie_on_pixels(
    seed: int, left: float, top: float, width: float, height: float
) -> None:
    ring, origin = ring_of(seed), np.array([left, top])
    part = clipped(ring, left, top, left + width, top + height)
    found = covered(part - origin, width, height)
    assert np.abs(found - covered(ring - origin, width, height)).max() < 1e-6


def test_a_ring_that_a_rectangle_tears_apart_stays_one_of_the_right_area() -> None:
    comb = np.array([[0, 0], [10, 0], [10, 6], [8, 6], [8, 2], [2, 2], [2, 6], [0, 6]])
    part = clipped(comb, 0, 3, 10, 6)
    assert area(part, 10, 10) == pytest.approx(12)
    assert covered(part, 10, 10)[3:6].sum(1).tolist() == [4, 4, 4]


@given(SEEDS, st.integers(0, 20), st.integers(0, 14), st.integers(1, 44), st.integers(1, 34))
def test_polygons_are_placed_as_their_window_shows_them(
    seed: int, left: int, top: int, width: int, height: int
) -> None:
    """What sticks out of its own scene must not reach into a neighbour's window."""
    window = Box(left, top, left + width, top + height)
    shape = Polygons([ring_of(seed), ring_of(seed + 1) + 7], OWN)
    expected = np.zeros((LARGE.height, LARGE.width), np.float32)
    expected[top : top + height, left : left + width] = drawn(shape)[:height, :width]
    placed = shape.placed(window, LARGE)
    if placed is None:
        assert expected.sum() < 0.01
    else:
        assert placed.size == LARGE
        assert np.abs(drawn(placed) - expected).max() < 2e-3
        assert placed.box.left >= left
        assert placed.box.top >= top
        assert placed.box.right <= window.right
        assert placed.box.bottom <= window.bottom


@given(SEEDS, st.integers(0, 20), st.integers(0, 14), st.integers(1, 44), st.integers(1, 34))
def test_bitmaps_are_placed_as_their_window_shows_them(
    seed: int, left: int, top: int, width: int, height: int
) -> None:
    mask = covered(ring_of(seed), OWN.width, OWN.height) > 0.5
    assert (Bitmap(mask).mask == mask).all()
    expected = np.zeros((LARGE.height, LARGE.width), bool)
    expected[top : top + height, left : left + width] = mask[:height, :width]
    placed = Bitmap(mask).placed(Box(left, top, left + width, top + height), LARGE)
    assert (placed is None) == (not expected.any())
    if placed is not None:
        assert (placed.mask == expected).all()
        assert np.abs(drawn(placed) - expected).max() < 1e-6


def test_of_a_shape_outside_its_window_nothing_is_left() -> None:
    """Flattened onto the border, a ring has no area; at 4000 pixels rounding leaves some."""
    window, scene = Box(3000.0, 3000.0, 3100.0, 3080.0), Size(4096, 4096)
    random = np.random.default_rng(0)
    for _ in range(200):
        ring = random.uniform(0, 60, (9, 2)) + random.choice([(101, 10), (10, 81), (101, 81)])
        assert Polygons([ring], Size(200, 200)).placed(window, scene) is None
    inside, outside = np.array([[0, 0], [9, 0], [9, 9]]), np.array([[101, 0], [109, 3], [105, 7]])
    placed = Polygons([inside, outside], Size(200, 200)).placed(window, scene)
    assert placed is not None
    assert [ring.tolist() for ring in placed.rings] == [(inside + 3000).tolist()]
    sliver = np.array([[99.9999, 10], [109, 10], [109, 15], [99.9999, 15]])
    assert Polygons([sliver], Size(200, 200)).placed(Box(0, 0, 100, 80), scene) is None


def test_shapes_say_whether_they_can_be_placed() -> None:
    polygons, bitmap = Polygons([ring_of(1)], OWN), Bitmap(np.ones((40, 50), bool))
    assert isinstance(polygons, Placeable)
    assert isinstance(bitmap, Placeable)
    assert not isinstance(FramedShape(bitmap, Frame(OWN, Box(0, 0, 50, 40), OWN)), Placeable)
