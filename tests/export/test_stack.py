from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from geomag.export.class_picture import sampled
from geomag.export.stack import MaskStack
from geomag.masks import SceneMask
from geomag.tile import Tile
from geomag.values import Box, Size, View
from tests.export.answers import burnt, mapped, native

THRESHOLDS = st.sampled_from([0.0, 0.2, 0.5, 0.7])


@st.composite
def probabilities(draw: st.DrawFn) -> list[list[SceneMask]]:
    """Up to four classes of up to two masks each, over a coarse view of the scene and finer ones.

    Few levels, so that classes are often equally probable.
    """
    side = draw(st.integers(2, 5))
    scene = Size(side * 4 - draw(st.integers(0, 1)), side * 4 - draw(st.integers(0, 2)))
    views = [View(Box(0, 0, scene.width, scene.height), Size(side, side), scene)]
    for top in range(0, scene.height, 2 * side):
        for left in range(0, scene.width, 2 * side):
            if draw(st.booleans()):
                right, bottom = min(left + 2 * side, scene.width), min(top + 2 * side, scene.height)
                box = Box(left, top, right, bottom)
                views.append(View(box, Size(bottom - top, right - left), scene))
    levels = st.sampled_from([0, 0, 51, 90, 128, 129, 200, 255])

    def tile(view: View) -> Tile:
        level = arrays.arrays(np.uint8, (view.size.height, view.size.width), elements=levels)
        return Tile(view, draw(st.none() | level))

    threshold, instance = draw(THRESHOLDS), draw(st.booleans())
    return [
        [
            SceneMask(scene, tuple(tile(view) for view in views), 0, 0.3, threshold, instance)
            for _ in range(draw(st.integers(0, 2)))
        ]
        for _ in range(draw(st.integers(1, 4)))
    ] + [[SceneMask(scene, (), 0, 0.0, threshold, instance)]]


def reference(classes: list[list[SceneMask]]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and probability, by argmax over all of the scene at once."""
    size = classes[-1][0].size
    stacked = np.zeros((1 + len(classes), size.height, size.width), np.float32)
    for place, masks in enumerate(classes, 1):
        for mask in masks:
            own = mask.probability()
            stacked[place] = np.maximum(stacked[place], own * (own > mask.threshold))
    return stacked.argmax(0), stacked.max(0)


def small_cells(patch: pytest.MonkeyPatch, side: int) -> None:
    for module in ("stack", "parts", "class_picture"):
        patch.setattr(f"geomag.export.{module}.CELL", side)


@pytest.mark.parametrize("side", [3, 7, 512])
@given(classes=probabilities(), data=st.data())
@settings(max_examples=60)
def test_a_pixel_is_of_the_most_probable_class(
    side: int, classes: list[list[SceneMask]], data: st.DataObject
) -> None:
    expected, _ = reference(classes)
    height, width = expected.shape
    with pytest.MonkeyPatch.context() as patch:
        small_cells(patch, side)
        found = mapped(*classes)
        dense = found.to_dense()
        assert dense.dtype == np.uint8
        assert np.array_equal(dense, expected)
        left, top = data.draw(st.integers(0, width)), data.draw(st.integers(0, height))
        right, bottom = data.draw(st.integers(left, width)), data.draw(st.integers(top, height))
        part = found.to_dense(Box(left, top, right, bottom))
        assert np.array_equal(part, expected[top:bottom, left:right])


@pytest.mark.parametrize("side", [3, 7, 512])
@given(classes=probabilities())
@settings(max_examples=60)
def test_polygons_tile_what_is_marked_each_with_its_own_score(
    side: int, classes: list[list[SceneMask]]
) -> None:
    expected, probability = reference(classes)
    with pytest.MonkeyPatch.context() as patch:
        small_cells(patch, side)
        found = mapped(*classes)
        items = found.features.items
        areas = found.areas
    assert [area.pixels for area in areas.values()] == [
        (expected == number).sum() for number in range(1, 1 + len(classes))
    ]
    covered = np.zeros(expected.shape, int)
    for item in items:
        rings = [[np.array(ring) for ring in polygon] for polygon in item.polygons]
        pixels = burnt(rings, expected.shape)
        covered += pixels
        assert pixels.sum() == item.area_px > 0
        assert (expected[pixels] == 1 + found.classes.index(item.label)).all()
        if classes[-1][0].instance:
            assert item.score == 0.3
        else:
            parts, _ = ndimage.label(expected == expected[pixels][0], np.ones((3, 3)))
            assert np.array_equal(pixels, parts == parts[pixels][0])
            assert item.score == pytest.approx(probability[pixels].mean(), abs=1e-5)
    assert np.array_equal(covered, expected > 0)
    if classes[-1][0].instance:
        assert len(items) <= sum(len(masks) for masks in classes)


def test_instances_stay_apart_where_they_touch_and_keep_their_scores() -> None:
    left, right = np.zeros((2, 6, 10), bool)
    left[1:5, 1:5], right[1:5, 4:9] = True, True
    masks = [
        replace(native(dense), instance=True, score=score)
        for dense, score in ((left, 0.9), (right, 0.4))
    ]
    first, second = mapped(masks).features.items
    assert (first.score, first.area_px, second.score, second.area_px) == (0.9, 16, 0.4, 16)


def test_what_another_class_cuts_in_two_is_two_parts_but_one_instance() -> None:
    across, down = np.zeros((2, 9, 9), bool)
    across[4], down[:, 4] = True, True
    found = mapped([native(down)], [native(across)])
    assert [(item.label, item.area_px) for item in found.features.items] == [
        ("a", 9),
        ("b", 4),
        ("b", 4),
    ]
    found = mapped([native(down)], [replace(native(across), instance=True)])
    assert [(item.label, item.area_px) for item in found.features.items] == [("a", 9), ("b", 8)]
    assert found.text == "a: 1 part, 9 pixels\nb: 1 part, 8 pixels"


def test_each_part_has_the_mean_of_its_own_probability() -> None:
    scene = Size(1, 5)
    view = View(Box(0, 0, 5, 1), scene, scene)
    levels = np.array([[255, 153, 0, 204, 0]], np.uint8)
    found = mapped([SceneMask(scene, (Tile(view, levels),), 0, 0.2)])
    assert [item.score for item in found.features.items] == pytest.approx([0.8, 0.8])
    levels[0, 1] = 255
    found = mapped([SceneMask(scene, (Tile(view, levels),), 0, 0.2)])
    assert [item.score for item in found.features.items] == pytest.approx([1, 0.8])


@pytest.mark.parametrize("pixels", [[(2, 2), (3, 3)], [(2, 3), (3, 2)], [(2, 2), (2, 3)]])
def test_what_meets_where_cells_meet_is_one_part(
    pixels: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_cells(monkeypatch, 3)
    levels = np.zeros((6, 6), np.uint8)
    levels[pixels[0]], levels[pixels[1]] = 255, 153
    scene = Size(6, 6)
    view = View(Box(0, 0, 6, 6), scene, scene)
    (part,) = mapped([SceneMask(scene, (Tile(view, levels),), 0, 0.0)]).features.items
    assert (part.area_px, part.score) == (2, pytest.approx(0.8))


def test_a_picture_of_a_large_scene_is_as_the_pixels_at_its_centres() -> None:
    dense = np.random.default_rng(0).random((1900, 2500)) < 0.5
    seen = sampled(MaskStack([[native(dense)]]), Size(1900, 2500), Size(380, 500))
    assert np.array_equal(seen, dense[2::5, 2::5])


def test_a_map_of_60000_pixels_a_side_costs_what_is_in_it() -> None:
    scene = Size(60_000, 60_000)

    def along(slope: int) -> SceneMask:
        levels = np.full((512, 512), 200 + slope, np.uint8)
        tiles = []
        for at in range(0, 59_000, 6144):
            left = at if slope > 0 else 59_000 // 6144 * 6144 - at
            view = View(Box(left, at, left + 512, at + 512), Size(512, 512), scene)
            tiles.append(Tile(view, levels))
        return SceneMask(scene, tuple(tiles), 0, 1.0)

    found = mapped([along(1)], [along(-1)])
    tracemalloc.start()
    areas = found.areas
    dense = found.to_dense(Box(6144, 6144, 6144 + 600, 6144 + 600))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {name: area.pixels for name, area in areas.items()} == {
        "a": 10 * 512**2,
        "b": 10 * 512**2,
    }
    assert (dense[:512, :512] == 1).all()
    assert not dense[512:].any()
    assert peak < 100 << 20
