"""How much of each cell of a grid a polygon covers: exact areas, no supersampling.

Every edge adds, to each cell it crosses, the signed area between itself and the cell's right side;
a running sum along the row then carries the inside across (the way font rasterisers do it).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def covered(ring: Floats, width: float, height: float) -> NDArray[np.float64]:
    """The share of each unit cell inside `ring [n, 2]` (x, y), clipped to `width` x `height`.

    Returns `[ceil(height), ceil(width)]`. The winding direction does not matter; where a ring
    crosses itself, lobes of opposite winding cancel where they share a cell.
    """
    columns, rows = math.ceil(width), math.ceil(height)
    start = ring.astype(np.float64)
    segments = np.concatenate([start, np.roll(start, -1, axis=0)], axis=1)  # x0, y0, x1, y1
    segments = segments[segments[:, 1] != segments[:, 3]]
    segments = _split(segments, 1, _lines(height))
    # What lies above or below the grid is flattened away.
    segments[:, 1::2] = segments[:, 1::2].clip(0, height)
    segments = segments[segments[:, 1] != segments[:, 3]]
    segments = _split(segments, 0, _lines(width))
    segments[:, 0::2] = segments[:, 0::2].clip(0, width)

    rise = segments[:, 3] - segments[:, 1]
    middle = (segments[:, 0::2].sum(1) / 2, segments[:, 1::2].sum(1) / 2)
    column = np.minimum(middle[0].astype(np.int64), columns - 1)
    row = np.minimum(middle[1].astype(np.int64), rows - 1)
    own = rise * (column + 1 - middle[0])
    # One column more than the grid catches what is handed on by the last.
    cell = row * (columns + 1) + column
    total = rows * (columns + 1)
    change = np.bincount(cell, own, total) + np.bincount(cell + 1, rise - own, total)
    filled = change.reshape(rows, columns + 1).cumsum(axis=1)[:, :columns]
    inside: NDArray[np.float64] = np.abs(filled).clip(0, 1)
    return inside


def area(ring: Floats, width: float, height: float) -> float:
    """What `covered` sums to, without the grid."""
    if ring.min() >= 0 and bool((ring <= (width, height)).all()):
        x, y = ring.astype(np.float64).T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    unit = ring / np.array([width, height])
    return float(covered(unit, 1, 1)[0, 0]) * width * height


def clipped(ring: Floats, left: float, top: float, right: float, bottom: float) -> Floats:
    """The part of `ring [n, 2]` (x, y) inside a rectangle, as one ring.

    Parts that the rectangle tears apart stay connected along its border, where they have no area.
    """
    start = ring.astype(np.float64)
    segments = np.concatenate([start, np.roll(start, -1, axis=0)], axis=1)
    segments = _split(segments, 1, np.array([top, bottom], np.float64))
    segments = _split(segments, 0, np.array([left, right], np.float64))
    return np.asarray(segments[:, :2].clip((left, top), (right, bottom)))


def _lines(limit: float) -> NDArray[np.float64]:
    """Where a coordinate must be cut so that each piece lies in one cell or outside."""
    whole = np.arange(math.ceil(limit) + 1, dtype=np.float64)
    whole[-1] = limit
    return whole


def _split(
    segments: NDArray[np.float64], axis: int, lines: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cuts segments `[n, 4]` wherever they cross one of the sorted `lines` along an axis."""
    low = segments[:, axis::2].min(1)
    high = segments[:, axis::2].max(1)
    first = np.searchsorted(lines, low, side="right")
    cuts = np.maximum(np.searchsorted(lines, high, side="left") - first, 0)
    pieces = cuts + 1
    owner = np.repeat(np.arange(len(segments)), pieces)
    place = np.arange(len(owner)) - np.repeat(pieces.cumsum() - pieces, pieces)
    falls = (segments[:, axis] > segments[:, axis + 2])[owner]
    # Counted along the segment's own direction.
    step = np.where(falls, cuts[owner] - place, place - 1) + first[owner]
    begin, end = segments[owner, axis], segments[owner, axis + 2]
    at_begin = place == 0
    line = lines[step.clip(0, len(lines) - 1)]
    share = np.where(at_begin, 0.0, (line - begin) / np.where(at_begin, 1.0, end - begin))
    whole = segments[owner]
    points = whole[:, :2] + share[:, None] * (whole[:, 2:] - whole[:, :2])
    # The exact line, so that rounding cannot put a piece on both sides of it.
    points[:, axis] = np.where(at_begin, begin, line)
    following = np.concatenate([points[1:], points[:1]])
    last = place == pieces[owner] - 1
    ends = np.where(last[:, None], whole[:, 2:], following)
    return np.concatenate([points, ends], axis=1)
