"""Means over areas, gathered piece by piece, so that memory follows the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..values import Box, Size

_SLACK = 1e-6
_WIDEST = 1024


class AreaMeans:
    """The mean of the valid pixels under each of `size` cells that divide `box` evenly.

    `sums [3, h, w]` are the values times the share of its cell that each pixel covers, and
    `share [h, w]` what part of a cell valid pixels cover; both grow with every `add`.
    """

    def __init__(self, box: Box, size: Size) -> None:
        self._down = _Axis(box.top, box.height / size.height, size.height)
        self._across = _Axis(box.left, box.width / size.width, size.width)
        self.sums = np.zeros((3, size.height, size.width))
        self.share = np.zeros((size.height, size.width))

    def add(
        self, top: int, left: int, values: NDArray[np.float32], valid: NDArray[np.bool_] | None
    ) -> None:
        """Pixels `values [1 | 3, n, m]` and which of them are valid, None for all."""
        # Weights are as many as pixels across times cells across; narrow pieces meet few cells.
        for start in range(0, values.shape[2], _WIDEST):
            part = slice(start, start + _WIDEST)
            self._add(
                top, left + start, values[..., part], None if valid is None else valid[:, part]
            )

    def _add(
        self, top: int, left: int, values: NDArray[np.float32], valid: NDArray[np.bool_] | None
    ) -> None:
        rows, down = self._down.weights(top, values.shape[1])
        columns, across = self._across.weights(left, values.shape[2])
        if valid is None:
            self.share[rows, columns] += np.outer(down.sum(1), across.sum(1))
        else:
            values = values * valid
            self.share[rows, columns] += _spread(down, valid.astype(np.float32), across)
        self.sums[:, rows, columns] += _spread(down, values, across)

    def add_flat(self, rows: slice, columns: slice, value: NDArray[np.float32]) -> None:
        """Valid pixels that all have one `value [1 | 3, 1, 1]`."""
        rows, down = self._down.weights(rows.start, rows.stop - rows.start)
        columns, across = self._across.weights(columns.start, columns.stop - columns.start)
        share = np.outer(down.sum(1), across.sum(1))
        self.share[rows, columns] += share
        self.sums[:, rows, columns] += value * share

    def lay_under(self, other: AreaMeans, top: int, left: int) -> None:
        """Fills what is not covered yet with means of the cells from `top` and `left` on."""
        height, width = other.share.shape
        cells = slice(top, top + height), slice(left, left + width)
        free = (1 - self.share[cells]).clip(0)
        part = np.minimum(1, free / np.maximum(other.share, 1e-9))
        self.sums[:, *cells] += other.sums * part
        self.share[cells] += other.share * part


class _Axis:
    """Cells of `step` pixels in a row, from `start` on."""

    def __init__(self, start: float, step: float, count: int) -> None:
        self._start, self._step, self._count = start, step, count

    def weights(self, first: int, length: int) -> tuple[slice, NDArray[np.float32]]:
        """Which cells the pixels from `first` on meet, and `[cells, length]` the shares covered."""
        begin = math.floor((first - self._start) / self._step + _SLACK)
        end = math.ceil((first + length - self._start) / self._step - _SLACK)
        begin, end = max(begin, 0), min(end, self._count)
        edges = self._start + self._step * np.arange(begin, max(begin, end) + 1)
        pixels = np.arange(first, first + length)
        covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        shares: NDArray[np.float32] = (covered.clip(0) / self._step).astype(np.float32)
        return slice(begin, max(begin, end)), shares


def _spread(down: NDArray[Any], values: NDArray[Any], across: NDArray[Any]) -> NDArray[Any]:
    # At native resolution, on the grid, every pixel is its own cell.
    if _is_identity(down) and _is_identity(across):
        return values
    spread: NDArray[Any] = down @ values @ across.T
    return spread


def _is_identity(weights: NDArray[np.float32]) -> bool:
    return weights.shape[0] == weights.shape[1] and bool((np.diagonal(weights) == 1).all())
