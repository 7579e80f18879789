"""A mask as one look drew it, and what several of them show together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .outline import Window
from .values import Box, View

Levels = NDArray[np.float32]
Cell = tuple[int, int]
"""Row and column of a cell in a grid that starts at the scene's top left corner."""


def window_of(box: Box) -> Window:
    """The scene pixels whose centres lie in a box."""
    edges = (math.ceil(edge - 0.5) for edge in (box.left, box.top, box.right, box.bottom))
    return Window(*edges)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A mask as one look saw it: `probability [view.size]` in 255ths, None where it is nowhere."""

    view: View
    probability: NDArray[np.uint8] | None

    def reach(self, threshold: float, side: int) -> Iterator[tuple[Cell, Window]]:
        """The scene pixels that may lie above the threshold, by the cells of a grid of `side`."""
        whole = self.within(window_of(self.view.box), threshold)
        if whole is None:
            return
        for row in range(whole.top // side, (whole.bottom - 1) // side + 1):
            for column in range(whole.left // side, (whole.right - 1) // side + 1):
                window = Window(column * side, row * side, (column + 1) * side, (row + 1) * side)
                around = self.within(window, threshold)
                if around is not None:
                    yield (row, column), around

    def within(self, window: Window, threshold: float) -> Window | None:
        """The part of a window that may lie above the threshold, if any does."""
        if self.probability is None:
            return None
        box, size = self.view.box, self.view.size
        down, across = box.height / size.height, box.width / size.width
        top = max(math.floor((window.top - box.top) / down) - 1, 0)
        left = max(math.floor((window.left - box.left) / across) - 1, 0)
        bottom = max(math.ceil((window.bottom - box.top) / down) + 1, 0)
        right = max(math.ceil((window.right - box.left) / across) + 1, 0)
        above = self.probability[top:bottom, left:right] > threshold * 255
        rows, columns = np.flatnonzero(above.any(1)), np.flatnonzero(above.any(0))
        if not len(rows):
            return None
        # Interpolation reaches one look pixel further, and never above the highest value there.
        reach = Window(
            math.floor(box.left + (left + columns[0] - 1) * across),
            math.floor(box.top + (top + rows[0] - 1) * down),
            math.ceil(box.left + (left + columns[-1] + 2) * across),
            math.ceil(box.top + (top + rows[-1] + 2) * down),
        )
        meet = reach.meet(window_of(box)).meet(window)
        return meet if meet.height and meet.width else None

    def levels(self, window: Window) -> Levels:
        """Its levels, 0 to 255, in a window inside its view."""
        if self.probability is None:
            return np.zeros((window.height, window.width), np.float32)
        return _resample(self.probability, self.view, window)

    def weight(self, window: Window) -> Levels:
        """How much it counts in a window beside others of its rung: less towards its border."""
        box, size = self.view.box, self.view.size
        down = _inwards(window.top, window.bottom, box.top, box.bottom, size.height)
        across = _inwards(window.left, window.right, box.left, box.right, size.width)
        return down[:, None] * across


def paint(tiles: Sequence[Tile], canvas: Levels, window: Window) -> None:
    """Writes the tiles of one rung over the canvas of a window; where several meet, they blend."""
    met = [(tile, window_of(tile.view.box).meet(window)) for tile in tiles]
    met = [(tile, part) for tile, part in met if part.height and part.width]
    if not any(_share(one, other) for (_, one), (_, other) in itertools.combinations(met, 2)):
        for tile, part in met:
            canvas[inside(part, window)] = tile.levels(part)
        return
    levels, weights = np.zeros_like(canvas), np.zeros_like(canvas)
    for tile, part in met:
        weight = tile.weight(part)
        weights[inside(part, window)] += weight
        levels[inside(part, window)] += weight * tile.levels(part)
    np.divide(levels, weights, out=canvas, where=weights > 0)


def _share(one: Window, other: Window) -> bool:
    common = one.meet(other)
    return common.height > 0 and common.width > 0


def _inwards(start: int, stop: int, first: float, last: float, pixels: int) -> Levels:
    """How far scene pixels lie from the nearer border of a view, in view pixels."""
    centres = np.arange(start, stop) + 0.5
    distance: Levels = np.minimum(centres - first, last - centres).astype(np.float32)
    return distance * np.float32(pixels / (last - first))


def inside(block: Window, window: Window) -> tuple[slice, slice]:
    return (
        slice(block.top - window.top, block.bottom - window.top),
        slice(block.left - window.left, block.right - window.left),
    )


def _resample(levels: NDArray[np.uint8], view: View, window: Window) -> Levels:
    """A look's levels at the centres of the scene pixels of a window, linearly in between.

    OpenCV's warps would place the samples in 32nds of a look pixel: too coarse where one look pixel
    stands for hundreds of the scene's.
    """
    box, size = view.box, view.size
    if (size.height, size.width) == (box.height, box.width):
        top, left = window.top - int(box.top), window.left - int(box.left)
        return levels[top : top + window.height, left : left + window.width].astype(np.float32)
    upper, lower, down = _between(window.top, window.bottom, box.top, box.height, size.height)
    first, second, across = _between(window.left, window.right, box.left, box.width, size.width)
    start, stop = int(upper[0]), int(lower[-1]) + 1
    rows = levels[start:stop].astype(np.float32)
    wide = rows[:, first]
    wide += (rows[:, second] - wide) * across
    painted = wide[upper - start]
    painted += (wide[lower - start] - painted) * down[:, None]
    return painted


def _between(
    start: int, stop: int, origin: float, length: float, pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Levels]:
    """For each scene pixel the two look pixels around it, and the weight of the second."""
    centres = (np.arange(start, stop) + 0.5 - origin) * (pixels / length) - 0.5
    centres = centres.clip(0, pixels - 1)
    before = np.floor(centres).astype(np.intp)
    after = np.minimum(before + 1, pixels - 1)
    return before, after, (centres - before).astype(np.float32)
