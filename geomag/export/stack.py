"""Masks laid over each other, so that every pixel belongs to one of them at most.

Memory follows the window that is looked at, and never the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..masks import SceneMask
from ..outline import Window
from ..tile import Cell, Levels
from ..values import Box, Size

CELL = 512
"""The side of the square cells, in scene pixels, that stacks are walked by."""

Numbers = NDArray[np.int32]


class MaskStack:
    """Layers of a scene, each of any number of masks; a layer is as probable as its likeliest mask.

    A pixel is of the layer that is most probable there, the earlier one where two are alike, and
    of none where no mask lies above its threshold.
    """

    def __init__(self, layers: Sequence[Sequence[SceneMask]]) -> None:
        sizes = [mask.size for masks in layers for mask in masks]
        self._size = sizes[0] if sizes else Size(0, 0)
        self._reached: dict[Cell, list[tuple[_Sheet, Window]]] = {}
        for number, masks in enumerate(layers, 1):
            for mask in masks:
                sheet = _Sheet(mask, number)
                for cell, window in mask.reach(CELL).items():
                    self._reached.setdefault(cell, []).append((sheet, window))

    @property
    def scene(self) -> Window:
        """All pixels of the scene; nothing where there is no mask."""
        return Window(0, 0, self._size.width, self._size.height)

    @property
    def cells(self) -> list[Cell]:
        """Rows and columns of the cells that a layer may reach, in raster order."""
        return sorted(self._reached)

    def at(self, window: Window) -> tuple[Numbers, Levels]:
        """The layers of the pixels `[H, W]` of a window, counted from 1, and how probable they are
        there; 0 and 0 where there is none."""
        numbers = np.zeros((window.height, window.width), np.int32)
        probability = np.zeros((window.height, window.width), np.float32)
        for row in range(window.top // CELL, -(-window.bottom // CELL)):
            for column in range(window.left // CELL, -(-window.right // CELL)):
                for sheet, reach in self._reached.get((row, column), ()):
                    part = reach.meet(window)
                    if part.height and part.width:
                        where = inside(part, window)
                        sheet.lay(part, numbers[where], probability[where])
        return numbers, probability


class _Sheet:
    """A mask of a layer, ready to be laid anywhere."""

    def __init__(self, mask: SceneMask, layer: int) -> None:
        self._mask, self._layer = mask, layer
        boxes = [tile.view.box for tile in mask.tiles]
        edges = [(box.left, box.top, box.right, box.bottom) for box in boxes]
        self._edges = np.array(edges, np.float64).reshape(-1, 4)

    def lay(self, window: Window, numbers: Numbers, probability: Levels) -> None:
        """Takes the pixels `[H, W]` of a window where this mask is the most probable so far."""
        corner, far = (window.left, window.top), (window.right, window.bottom)
        meets = ((self._edges[:, :2] < far) & (self._edges[:, 2:] > corner)).all(1)
        # A mask of many tiles would go through all of them for every window.
        tiles = tuple(self._mask.tiles[place] for place in np.flatnonzero(meets).tolist())
        part = replace(self._mask, tiles=tiles)
        own = part.probability(Box(window.left, window.top, window.right, window.bottom))
        wins = (own > self._mask.threshold) & (own > probability)
        np.copyto(probability, own, where=wins)
        numbers[wins] = self._layer


def cell_window(cell: Cell) -> Window:
    """The scene pixels of a cell, those beyond the scene too."""
    row, column = cell
    return Window(column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)


def inside(part: Window, window: Window) -> tuple[slice, slice]:
    """Where a part of a window lies in its pixels `[H, W]`."""
    return (
        slice(part.top - window.top, part.bottom - window.top),
        slice(part.left - window.left, part.right - window.left),
    )
