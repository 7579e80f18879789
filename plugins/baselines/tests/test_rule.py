"""A number and a place, read by hand off regions that are drawn by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geomag.data.directions import POSITIONS
from geomag.geometry import overview
from geomag.values import Box, Size, View
from geomag_baselines.rule import NOWHERE, placed

SIDE = 30
SCENE = overview(Size(SIDE, SIDE), SIDE)

# (top, left, height, width), the largest first: four at the top left, two elsewhere.
LARGE, MIDDLE, SMALL, SPECK = (1, 1, 3, 3), (1, 6, 2, 2), (6, 1, 1, 2), (6, 6, 1, 1)
CENTRE, BOTTOM = (12, 12, 6, 6), (25, 12, 3, 4)
TOP_LEFT = (LARGE, MIDDLE, SMALL, SPECK)
ALL = (*TOP_LEFT, CENTRE, BOTTOM)


def drawn(*regions: tuple[int, int, int, int], side: int = SIDE) -> Tensor:
    logits = torch.full((1, side, side), -3.0)
    for top, left, height, width in regions:
        logits[0, top : top + height, left : left + width] = 3.0
    return logits


def kept(
    text: str, logits: Tensor, view: View = SCENE, stride: int = 1, threshold: float = 0.5
) -> list[list[int]]:
    """The cells that are still marked."""
    found = placed(logits, text, view, stride, threshold)[0].sigmoid() > threshold
    return found.nonzero().tolist()


def cells(*regions: tuple[int, int, int, int]) -> list[list[int]]:
    return (drawn(*regions)[0] > 0).nonzero().tolist()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1 ship at the top left", (LARGE,)),
        ("2 gray small ships at the top left", (LARGE, MIDDLE)),
        ("3 ships at the top left", (LARGE, MIDDLE, SMALL)),
        ("9 ships at the top left", TOP_LEFT),
        ("all ships at the top left", TOP_LEFT),
        ("1 Ship At The Top Left?", (LARGE,)),
        ("1 ship at the center", (CENTRE,)),
        ("2 ships at the bottom", (BOTTOM,)),
        ("1 ship at the top", ()),
        ("1 ship at the right", ()),
        ("2 ships", ALL),
        ("every ship that is top left", ALL),
        ("every ship at the toplevel", ALL),
    ],
)
def test_a_number_and_a_place_mean_the_largest_regions_there(
    text: str, meant: tuple[tuple[int, int, int, int], ...]
) -> None:
    assert kept(text, drawn(*ALL)) == cells(*meant)


@pytest.mark.parametrize("cell", POSITIONS)
def test_every_place_that_has_a_name_is_understood(cell: tuple[int, int]) -> None:
    regions = {
        (row, column): (13 + 11 * row, 13 + 11 * column, 2, 2)
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
    }
    text = f"1 ship at the {POSITIONS[cell]}"
    assert kept(text, drawn(*regions.values())) == cells(regions[cell])


def test_without_a_place_nothing_is_changed() -> None:
    logits = torch.randn(1, SIDE, SIDE)
    assert placed(logits, "2 ships", SCENE, 1, 0.5) is logits
    assert placed(drawn(*ALL), "1 ship at the top", SCENE, 1, 0.5).max() < 0


def test_a_region_lies_where_its_middle_does() -> None:
    """The outer parts take 0.3 of a side: 9 of 30 cells."""
    reaching = (1, 1, 3, 15)  # its middle is at 8.5
    beyond = (1, 1, 3, 17)  # and here at 9.5
    assert kept("1 ship at the top left", drawn(reaching)) == cells(reaching)
    assert kept("1 ship at the top left", drawn(beyond)) == []
    assert kept("1 ship at the top", drawn(beyond)) == cells(beyond)


def test_regions_that_meet_at_a_corner_are_two() -> None:
    logits = drawn((1, 1, 2, 2), (3, 3, 3, 3))
    assert kept("1 ship at the top left", logits) == cells((3, 3, 3, 3))


def test_of_equal_regions_as_many_are_meant_as_were_asked_for() -> None:
    equal = [(1, 1, 2, 2), (1, 5, 2, 2), (5, 1, 2, 2)]
    assert len(kept("2 ships at the top left", drawn(*equal))) == 8


def test_regions_are_what_lies_above_the_threshold() -> None:
    """A bridge of probability 0.6 makes two regions one, or leaves them apart."""
    logits = drawn((1, 1, 3, 3), (1, 5, 3, 2))
    logits[0, 2, 4] = 0.4
    assert len(kept("1 ship at the top left", logits)) == 16
    assert kept("1 ship at the top left", logits, threshold=0.7) == cells((1, 1, 3, 3))


def test_what_is_kept_keeps_its_surroundings() -> None:
    """An outline is drawn between a region and the cells beside it."""
    logits = drawn((1, 1, 3, 3), (20, 20, 3, 3))
    logits[0, 4, 1:4] = -0.1
    found = placed(logits, "1 ship at the top left", SCENE, 1, 0.5)
    assert torch.equal(found[..., :10, :10], logits[..., :10, :10])
    assert (found[0, 20:23, 20:23] == NOWHERE).all()


def test_places_are_those_of_the_scene_whatever_the_view_and_the_stride() -> None:
    """A scene of 240 x 120 seen at half its size, on a canvas that is padded at the right."""
    scene = Size(240, 120)
    view = View(Box(0, 0, 120, 240), Size(120, 60), scene)
    assert view == overview(scene, 120)
    at_right = (12, 11, 2, 2)  # on a grid of stride 4: rows 96 to 112, columns 88 to 104
    logits = drawn(at_right)
    assert kept("1 ship at the right", logits, view, 4) == cells(at_right)
    for elsewhere in ("center", "top", "top left", "bottom right", "left"):
        assert kept(f"1 ship at the {elsewhere}", logits, view, 4) == []


def test_gradients_and_half_precision_are_no_obstacle() -> None:
    logits = drawn(*ALL).bfloat16().requires_grad_(True)
    found = placed(logits, "1 ship at the top left", SCENE, 1, 0.5)
    assert found.dtype is torch.bfloat16
    assert (found[0] > 0).nonzero().tolist() == cells(LARGE)


def test_nothing_marked_is_nothing_meant() -> None:
    logits = drawn()
    assert torch.equal(placed(logits, "2 ships at the top left", SCENE, 1, 0.5), logits)
