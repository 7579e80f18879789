"""The layers of a stack as polygons, each with a score of its own.

One walk over the cells that the layers reach, however many layers there are, in which every pixel
is painted once. Memory follows the outlines: what a layer is in a cell waits, packed, until all of
it is known.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import outline
from ..masks import SceneMask
from ..outline import Bits, Piece, Polygon, Window
from ..tile import Cell, Levels
from .stack import CELL, MaskStack, Numbers, cell_window

Border = tuple[NDArray[np.integer], NDArray[np.integer]]
"""A row of pixels, and a column."""


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """`polygons` in scene pixels, which meet at corners at most, and a `score` in [0, 1]."""

    polygons: Sequence[Polygon]
    score: float


def things(layers: Sequence[Sequence[SceneMask]]) -> list[list[Thing]]:
    """What each layer shows where it is more probable than the others.

    A layer of instances is one thing, with the highest of their scores. Of other layers every
    connected part is one, and its score is the mean of the probability over its pixels: one score
    for a mask of everything would say nothing of the parts. Pixels that meet at a corner are
    connected.
    """
    pieces = [_Pieces() for _ in layers]
    means = [None if any(mask.instance for mask in masks) else _Means() for masks in layers]
    for window, numbers, probability in _walk(MaskStack(layers)):
        shown = np.bincount(numbers.ravel(), minlength=len(layers) + 1)[1:]
        for place in np.flatnonzero(shown).tolist():
            bits = numbers == place + 1
            pieces[place].add(window, bits)
            if (mean := means[place]) is not None:
                mean.add(window, bits, probability)
    found = []
    for masks, piece, mean in zip(layers, pieces, means, strict=True):
        parts = outline.parts(piece)
        if mean is None:
            whole = [polygon for part in parts for polygon in part]
            found.append([Thing(whole, max(mask.score for mask in masks))] if whole else [])
        else:
            scores = mean.by_first_pixel()
            found.append([Thing(part, scores[_first_pixel(part)]) for part in parts])
    return found


def _walk(stack: MaskStack) -> Iterator[tuple[Window, Numbers, Levels]]:
    """The cells in raster order, as far as a layer or its outline goes, each with its layers
    `[1 + H, 1 + W]` and their probability.

    The first row and column are those of the cells before, as they were seen there: any four pixels
    around a corner stand together once, and are the same for all who look at them. Outlines go
    along the far side of the scene too, so there is a row and a column more of it.
    """
    reached = set(stack.cells)
    steps = ((0, 0), (0, 1), (1, 0), (1, 1))
    cells = {(row + down, column + right) for row, column in reached for down, right in steps}
    known = _Borders()
    for cell in sorted(cells):
        window = cell_window(cell).meet(stack.scene.grown(1))
        if not (window.height and window.width):
            continue
        numbers = np.zeros((1 + window.height, 1 + window.width), np.int32)
        probability = np.zeros(numbers.shape, np.float32)
        if cell in reached:
            numbers[1:, 1:], probability[1:, 1:] = stack.at(window)
        numbers[0], numbers[1:, 0] = known.before(window)
        known.keep(window, numbers[-1, 1:], numbers[1:, -1])
        if numbers.any():
            yield window, numbers, probability


def _first_pixel(part: Sequence[Polygon]) -> tuple[int, int]:
    """Row and column of the first pixel of a part, in raster order."""
    y, x = min((y, x) for outer, *_ in part for x, y in outer)
    return int(y), int(x)


class _Borders:
    """What cells, visited in raster order, show to the later ones beside and below them."""

    def __init__(self) -> None:
        self._kept: dict[Cell, Border] = {}
        self._row = 0

    def before(self, window: Window) -> Border:
        """The row above the pixels of a cell, from the corner before it on, and the column to its
        left; 0 where no cell was."""
        row, column = _cell(window)
        above, left = np.zeros(1 + window.width, np.int64), np.zeros(window.height, np.int64)
        if (row - 1, column - 1) in self._kept:
            above[0] = self._kept[row - 1, column - 1][0][-1]
        if (row - 1, column) in self._kept:
            above[1:] = self._kept[row - 1, column][0]
        if (row, column - 1) in self._kept:
            left[:] = self._kept[row, column - 1][1]
        return above, left

    def keep(
        self, window: Window, last_row: NDArray[np.integer], last_column: NDArray[np.integer]
    ) -> None:
        """Remembers a cell for as long as it lies before others."""
        row, column = _cell(window)
        if row != self._row:
            self._kept = {at: kept for at, kept in self._kept.items() if at[0] == row - 1}
            self._row = row
        self._kept[row, column] = last_row.copy(), last_column.copy()


def _cell(window: Window) -> Cell:
    return window.top // CELL, window.left // CELL


class _Pieces:
    """A mask in pieces, as `outline` takes them; packed, large ones need next to nothing."""

    def __init__(self) -> None:
        self._packed: list[tuple[Window, bytes]] = []

    def add(self, window: Window, bits: Bits) -> None:
        """A cell with the row and column before it, `[1 + H, 1 + W]`."""
        left, top, width, height = cv2.boundingRect(bits.view(np.uint8))
        # One pixel more than there is, as far as the cell goes: corners are seen in fours.
        start, stop = max(left - 1, 0), min(left + width + 1, bits.shape[1])
        first, last = max(top - 1, 0), min(top + height + 1, bits.shape[0])
        x, y = window.left - 1, window.top - 1
        reach = Window(x + start, y + first, x + stop, y + last)
        packed = zlib.compress(np.packbits(bits[first:last, start:stop]).tobytes(), level=1)
        self._packed.append((reach, packed))

    def __iter__(self) -> Iterator[Piece]:
        for window, packed in self._packed:
            octets = np.frombuffer(zlib.decompress(packed), np.uint8)
            bits = np.unpackbits(octets, count=window.height * window.width)
            yield window, bits.reshape(window.height, window.width).astype(bool)


class _Means:
    """The mean probability of every connected part of a mask that comes as `_walk` goes.

    In each cell the parts are numbered by themselves; where two cells number one pixel, their parts
    are one.
    """

    def __init__(self) -> None:
        self._measured = [np.zeros((1, 4))]
        self._count = 1
        self._links = [np.empty((0, 2), np.int64)]
        self._borders = _Borders()

    def add(self, window: Window, bits: Bits, probability: Levels) -> None:
        """A cell with the row and column before it, `[1 + H, 1 + W]`."""
        count, labels = cv2.connectedComponents(bits.view(np.uint8), connectivity=8)
        self._measured.append(_measured(window, count, labels[1:, 1:], probability[1:, 1:]))
        before = np.concatenate(self._borders.before(window))
        here = np.concatenate([self._numbered(labels[0]), self._numbered(labels[1:, 0])])
        met = (before > 0) & (here > 0)
        self._links.append(np.unique(np.stack([before[met], here[met]], axis=1), axis=0))
        row, column = labels[-1, 1:], labels[1:, -1]
        self._borders.keep(window, self._numbered(row), self._numbered(column))
        self._count += count - 1

    def _numbered(self, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        """The labels of a cell as numbers that no other cell has."""
        return np.where(labels, labels + np.int64(self._count - 1), 0)

    def by_first_pixel(self) -> dict[tuple[int, int], float]:
        """The mean of each part, by row and column of its first pixel in raster order."""
        y, x, size, total = np.concatenate(self._measured).T
        root = _roots(self._count, np.concatenate(self._links).tolist())
        sizes, totals = np.bincount(root, size), np.bincount(root, total)
        # In the row and column before a cell alone: measured where it is.
        inside = np.flatnonzero(size)
        order = inside[np.lexsort((x[inside], y[inside], root[inside]))]
        roots, places = np.unique(root[order], return_index=True)
        firsts = zip(y[order[places]].tolist(), x[order[places]].tolist(), strict=True)
        return dict(zip(firsts, (totals[roots] / sizes[roots]).tolist(), strict=True))


def _measured(
    window: Window, count: int, labels: NDArray[np.int32], probability: Levels
) -> NDArray[np.float64]:
    """Of each part in a cell the row and column of its first pixel, its pixels and the sum of their
    probability, `[count - 1, 4]`."""
    inside = np.flatnonzero(labels)
    label = labels.ravel()[inside]
    first = np.zeros(count, np.int64)
    # Backwards, because the last of several values stays.
    first[label[::-1]] = inside[::-1]
    rows, columns = np.divmod(first, window.width)
    size = np.bincount(label, minlength=count)
    total = np.bincount(label, probability.ravel()[inside], minlength=count)
    every = np.stack([rows + window.top, columns + window.left, size, total], axis=1)
    found: NDArray[np.float64] = every[1:].astype(np.float64)
    return found


def _roots(count: int, links: Sequence[Sequence[int]]) -> NDArray[np.intp]:
    """For each of so many numbers one that stands for all that links, direct or not, join it to."""
    parent = list(range(count))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, other in links:
        parent[root(other)] = root(one)
    return np.array([root(number) for number in range(count)], np.intp)
