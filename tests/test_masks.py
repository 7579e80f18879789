from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from geomag.errors import OutputError
from geomag.masks import SceneMask
from geomag.outline import outline
from geomag.tile import Tile
from geomag.values import Box, Size, View

SMALL = st.tuples(st.integers(1, 12), st.integers(1, 12))
DENSE = arrays.arrays(bool, SMALL)


def native(dense: np.ndarray) -> SceneMask:
    """A mask of one look that saw the whole scene at native resolution."""
    size = Size(*dense.shape)
    view = View(Box(0, 0, size.width, size.height), size, size)
    return SceneMask(size, (Tile(view, dense.astype(np.uint8) * 255),), 0, 1.0)


@st.composite
def pyramids(draw: st.DrawFn) -> SceneMask:
    """A coarse tile over everything, and finer ones, filled or empty, over some of its quarters."""
    side = draw(st.integers(2, 6))
    scene = Size(side * 4, side * 4)
    level = arrays.arrays(np.uint8, (side, side))
    whole = View(Box(0, 0, side * 4, side * 4), Size(side, side), scene)
    tiles = [Tile(whole, draw(st.none() | level))]
    for top in (0, 2 * side):
        for left in (0, 2 * side):
            if draw(st.booleans()):
                box = Box(left, top, left + 2 * side, top + 2 * side)
                fine = arrays.arrays(np.uint8, (2 * side, 2 * side))
                size = Size(2 * side, 2 * side)
                tiles.append(Tile(View(box, size, scene), draw(st.none() | fine)))
    return SceneMask(scene, tuple(tiles), 0, 0.9)


@given(DENSE)
def test_a_native_mask_comes_back_as_it_was(dense: np.ndarray) -> None:
    mask = native(dense)
    assert np.array_equal(mask.to_dense(), dense)
    assert mask.area == dense.sum()
    assert mask.empty == (not dense.any())


@given(pyramids(), st.data())
def test_a_region_is_the_same_part_of_the_whole(mask: SceneMask, data: st.DataObject) -> None:
    height, width = mask.size.height, mask.size.width
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left, width)), data.draw(st.integers(top, height))
    box = Box(left, top, right, bottom)
    assert np.array_equal(mask.to_dense(box), mask.to_dense()[top:bottom, left:right])
    assert np.allclose(mask.probability(box), mask.probability()[top:bottom, left:right], atol=1e-6)


@given(pyramids())
def test_area_box_and_empty_agree_with_the_dense_mask(mask: SceneMask) -> None:
    dense = mask.to_dense()
    assert mask.area == dense.sum()
    assert mask.empty == (not dense.any())
    if mask.empty:
        assert mask.box is None
    else:
        rows, columns = np.flatnonzero(dense.any(1)), np.flatnonzero(dense.any(0))
        assert mask.box == Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


@given(pyramids())
def test_the_threshold_cuts_the_probability(mask: SceneMask) -> None:
    assert np.array_equal(mask.to_dense(), mask.probability() > 0.5)


def test_the_finest_look_wins_also_where_it_saw_nothing() -> None:
    scene = Size(8, 8)
    whole = View(Box(0, 0, 8, 8), Size(4, 4), scene)
    corner = View(Box(4, 4, 8, 8), Size(4, 4), scene)
    mask = SceneMask(
        scene, (Tile(whole, np.full((4, 4), 200, np.uint8)), Tile(corner, None)), 0, 1.0
    )
    expected = np.ones((8, 8), bool)
    expected[4:, 4:] = False
    assert np.array_equal(mask.to_dense(), expected)


def test_a_coarse_look_is_interpolated_between_its_pixel_centres() -> None:
    scene = Size(1, 8)
    view = View(Box(0, 0, 8, 1), Size(1, 2), scene)
    mask = SceneMask(scene, (Tile(view, np.array([[0, 255]], np.uint8)),), 0, 1.0)
    expected = np.array([[0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1]])
    assert np.allclose(mask.probability(), expected, atol=1e-6)


@given(st.one_of(DENSE.map(native), pyramids()))
def test_run_lengths_are_those_of_pycocotools(mask: SceneMask) -> None:
    expected = coco.encode(np.asfortranarray(mask.to_dense().astype(np.uint8)))
    rle = mask.to_rle()
    assert rle["counts"] == expected["counts"].decode()
    assert rle["size"] == expected["size"]
    json.dumps(rle)


@pytest.mark.parametrize("block", [1, 7, 40])
@given(dense=DENSE)
@settings(max_examples=30)
def test_nothing_depends_on_how_many_pixels_are_painted_at_a_time(
    block: int, dense: np.ndarray
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomag.masks._BLOCK", block)
        mask = native(dense)
        assert np.array_equal(mask.to_dense(), dense)
        expected = coco.encode(np.asfortranarray(dense.astype(np.uint8)))
        assert mask.to_rle()["counts"] == expected["counts"].decode()
        assert mask.area == dense.sum()


def test_run_lengths_of_a_scene_beyond_32_bits_are_refused_in_words() -> None:
    with pytest.raises(OutputError, match="65536 x 65536"):
        SceneMask(Size(65536, 65536), (), 0, 0.0).to_rle()


def signed_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@given(DENSE)
def test_polygons_have_exactly_the_area_of_the_mask(dense: np.ndarray) -> None:
    area = sum(
        abs(signed_area(rings[0])) - sum(abs(signed_area(hole)) for hole in rings[1:])
        for rings in outline(dense, 0, 0)
    )
    assert area == dense.sum()


@given(DENSE)
def test_polygons_hold_exactly_the_pixels_of_the_mask(dense: np.ndarray) -> None:
    drawn = np.zeros_like(dense)
    for rings in outline(dense, 0, 0):
        for ring in rings:
            drawn ^= fill(ring, dense.shape)
    assert np.array_equal(drawn, dense)


def fill(ring: list[list[float]], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels whose centres lie inside, by the even-odd rule."""
    inside = np.zeros(shape, bool)
    centres = np.arange(shape[1]) + 0.5
    for (x, y), (_, below) in zip(ring, ring[1:] + ring[:1], strict=True):
        rows = slice(int(min(y, below)), int(max(y, below)))
        inside[rows] ^= centres > x
    return inside


def test_polygons_lie_in_scene_pixels_with_their_holes() -> None:
    dense = np.zeros((9, 9), bool)
    dense[2:7, 3:8] = True
    dense[4, 5] = False
    dense[0, 0] = True
    polygons = native(dense).to_polygons()
    by_size = sorted(polygons, key=len)
    assert sorted(by_size[0][0]) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    outer, hole = by_size[1]
    assert sorted(outer) == [[3, 2], [3, 7], [8, 2], [8, 7]]
    assert sorted(hole) == [[5, 4], [5, 5], [6, 4], [6, 5]]


def test_a_mask_of_a_huge_scene_is_used_without_the_scene() -> None:
    scene = Size(1_000_000, 1_000_000)
    whole = View(Box(0, 0, 1_000_000, 1_000_000), Size(256, 256), scene)
    near = View(Box(512_000, 256_000, 512_256, 256_256), Size(256, 256), scene)
    levels = np.zeros((256, 256), np.uint8)
    levels[10:20, 30:50] = 255
    mask = SceneMask(scene, (Tile(whole, None), Tile(near, levels)), 0, 1.0)
    assert mask.area == 200
    assert mask.box == Box(512_030, 256_010, 512_050, 256_020)
    assert len(mask.to_polygons()) == 1
    assert mask.to_dense(Box(512_000, 256_000, 512_256, 256_256)).sum() == 200
