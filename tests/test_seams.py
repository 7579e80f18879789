"""Looks of one rung that overlap: what is cut is whole again, and what differs blends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomag import geometry
from geomag.assembly import assemble
from geomag.errors import ConfigError
from geomag.masks import SceneMask
from geomag.model import GeoMag
from geomag.tile import Tile
from geomag.values import Box, LookMasks, Size
from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds
from tests.test_assembly import (
    SIDE,
    assert_one_mask_a_shape,
    drawn,
    instances,
    look_at,
    part_of,
    shapes,
)

OVERLAPS = st.sampled_from((2, 4, 6))


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60), OVERLAPS)
@settings(max_examples=100, deadline=None)
def test_shapes_seen_twice_are_one_again(seed: int, height: int, width: int, overlap: int) -> None:
    size = Size(height, width)
    dense = shapes(seed, size)
    views = geometry.tiles(size, SIDE, 1, overlap=overlap)
    masks = [instances(dense, view) for view in views]
    found = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert_one_mask_a_shape(found, dense)
    for mask in found:
        assert mask.area == int(mask.to_dense().sum())


@given(st.integers(0, 10_000), OVERLAPS)
@settings(max_examples=40, deadline=None)
def test_all_there_is_stays_as_it_was_seen(seed: int, overlap: int) -> None:
    size = Size(70, 50)
    dense = shapes(seed, size)
    views = [geometry.overview(size, SIDE), *geometry.tiles(size, SIDE, 1, overlap=overlap)]
    masks = [drawn([part_of(dense, view)], [0], [0.9]) for view in views]
    (found,) = assemble([look_at(view) for view in views], masks, 1, 0.5)
    assert np.array_equal(found.to_dense(), dense)


def test_two_opinions_blend_across_what_they_share() -> None:
    size, overlap = Size(10, 26), 6
    views = geometry.tiles(size, SIDE, 1, overlap=overlap)
    assert [(view.box.left, view.box.right) for view in views] == [(0, 13), (7, 23), (17, 26)]
    masks = []
    for level in (0.9, 0.1, 0.1):
        logits = torch.logit(torch.full((1, SIDE, SIDE), level))
        masks.append(LookMasks(logits, torch.zeros(1, dtype=torch.long), torch.ones(1)))
    (found,) = assemble([look_at(view) for view in views], masks, 1, 0.5)
    row = found.probability()[5]
    assert row[:7] == pytest.approx(0.9, abs=0.01)
    assert row[13:] == pytest.approx(0.1, abs=0.01)
    expected = 0.9 - 0.8 * (np.arange(overlap) + 0.5) / overlap
    assert row[7:13] == pytest.approx(expected, abs=0.01)


def test_an_object_that_a_neighbour_sees_the_rim_of_is_not_cut() -> None:
    size = Size(10, 26)
    views = geometry.tiles(size, SIDE, 1, overlap=6)
    dense = np.zeros((10, 26), np.bool_)
    dense[4:9, 6:12] = True
    masks = [
        instances(dense & (np.arange(26) < 13), views[0]),
        drawn([], [], []),
        drawn([], [], []),
    ]
    (found,) = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert np.array_equal(found.to_dense(), dense)


def test_neighbours_that_show_different_things_stay_apart() -> None:
    size = Size(10, 23)
    views = geometry.tiles(size, SIDE, 1, overlap=6)
    one, other = np.zeros((2, 10, 23), np.bool_)
    one[2:6, 5:12] = True
    other[5:9, 9:16] = True  # shares three pixels of a row with the first
    masks = [instances(one, views[0]), instances(other, views[1])]
    assert len(assemble([look_at(view) for view in views[:2]], masks, None, 0.5)) == 2


def test_a_speck_far_from_another_costs_no_walk_over_the_scene() -> None:
    size = Size(1 << 20, 1 << 20)
    whole = geometry.overview(size, SIDE)
    levels = np.zeros((SIDE, SIDE), np.uint8)
    native = geometry.tiles(size, SIDE, 1, Box(0, 0, 1, 1)) + geometry.tiles(
        size, SIDE, 1, Box(size.width - 1, size.height - 1, size.width, size.height)
    )
    speck = np.zeros((SIDE, SIDE), np.uint8)
    speck[3:5, 3:5] = 255
    tiles = (Tile(whole, levels), *(Tile(view, speck) for view in native))
    mask = SceneMask(size, tiles, 0, 1.0)
    assert mask.area == 8
    assert sum(window.height * window.width for window in mask.reach(2048).values()) < 200


@pytest.mark.parametrize("overlap", [-2, 3, 8, 16])
def test_an_overlap_that_no_pyramid_has_is_refused(overlap: int) -> None:
    with pytest.raises(ConfigError, match=f"overlap={overlap}: expected an even number from 0"):
        GeoMag(
            Shades(), Parrot((3, 3)), Closest(16), Moody(), Thresholds((2, 4)),
            overview_side=16, overlap=overlap,
        )  # fmt: skip
