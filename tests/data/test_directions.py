from __future__ import annotations

from itertools import product

import pytest

from geomag.data.directions import (
    POSITIONS,
    SYMMETRIES,
    UPRIGHT,
    Symmetry,
    cell_of,
    may_be_at,
    turned,
)
from geomag.values import Box, Size

ACROSS, DOWN, TRANSPOSED = Symmetry(across=True), Symmetry(down=True), Symmetry(transpose=True)
SIZE = Size(100, 200)


def test_the_nine_positions_turn_like_their_cells() -> None:
    for symmetry, (cell, text) in product(SYMMETRIES, POSITIONS.items()):
        assert turned(f"1 ship at the {text}", symmetry) == (
            f"1 ship at the {POSITIONS[symmetry.cell(cell)]}"
        )


def test_a_quarter_turn() -> None:
    # Transposed, then flipped across: a quarter turn clockwise.
    clockwise = Symmetry(transpose=True, across=True)
    assert turned("the ship at the top left", clockwise) == "the ship at the top right"
    assert turned("the ship at the right", clockwise) == "the ship at the bottom"


@pytest.mark.parametrize(
    ("text", "symmetry", "expected"),
    [
        ("3 white airplane at the bottom left", ACROSS, "3 white airplane at the bottom right"),
        ("the leftmost ship", TRANSPOSED, "the topmost ship"),
        ("Upper-right corner", DOWN, "Lower-right corner"),
        ("the upper part", TRANSPOSED, "the left part"),
        ("the car to the left of the house", ACROSS, "the car to the right of the house"),
        ("the car to the left of the house", TRANSPOSED, "the car above the house"),
        ("the car below the house", TRANSPOSED, "the car to the right of the house"),
        ("the car left of the house", TRANSPOSED, "the car above the house"),
        ("on the left of the image", TRANSPOSED, "on the top of the image"),
        ("the northwestern field", ACROSS, "the northeastern field"),
        ("north-east of here", TRANSPOSED, "south-west of here"),
        ("southern bank", TRANSPOSED, "eastern bank"),
        ("a vertical road", TRANSPOSED, "a horizontal road"),
        ("a vertical road", ACROSS, "a vertical road"),
        ("3 ships at the top and 1 at the left", DOWN, "3 ships at the bottom and 1 at the left"),
    ],
)  # fmt: skip
def test_directions_are_reworded(text: str, symmetry: Symmetry, expected: str) -> None:
    assert turned(text, symmetry) == expected


@pytest.mark.parametrize(
    "text",
    ["every airplane", "the white ship at the center", "Desktop stop", "the largest bright roof"],
)
def test_texts_without_directions_stay(text: str) -> None:
    assert all(turned(text, symmetry) == text for symmetry in SYMMETRIES)


def test_turning_there_and_back_is_the_same_text() -> None:
    text = "the top left ship, the lower part, north of it, the leftmost one above the bridge"
    for flips in product((False, True), repeat=2):
        symmetry = Symmetry(False, *flips)
        assert turned(turned(text, symmetry), symmetry) == text
    assert turned(text, UPRIGHT) == text


def square(y: float, x: float) -> Box:
    return Box(x * 200 - 1, y * 100 - 1, x * 200 + 1, y * 100 + 1)


def test_outer_parts_take_three_tenths_each() -> None:
    assert cell_of(square(0.29, 0.31), SIZE) == (-1, 0)
    assert cell_of(square(0.69, 0.71), SIZE) == (0, 1)


def test_what_people_might_say() -> None:
    corner = square(0.1, 0.1)
    assert [cell for cell in POSITIONS if may_be_at(corner, SIZE, cell)] == [
        (-1, -1), (-1, 0), (0, -1),
    ]  # fmt: skip
    assert not may_be_at(square(0.5, 0.1), SIZE, (0, 0))
    assert may_be_at(square(0.5, 0.25), SIZE, (0, 0))
