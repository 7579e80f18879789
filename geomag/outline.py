"""Masks to polygons, along the edges of pixels.

A mask comes in pieces, so that nothing here grows with the scene: only the corners of outlines are
kept. On every line of the pixel grid they alternate between where an edge begins and where it ends;
pairing them along rows and columns, and walking from pair to pair, gives the rings.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ring = list[list[float]]
"""Points `[x, y]` in scene pixels; the last is not the first again."""
Polygon = list[Ring]
"""An outer ring, then its holes."""
Loop = list[int]
"""A ring as turns: see `Corners`."""

Bits = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """Whole scene pixels, half-open."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def height(self) -> int:
        return max(self.bottom - self.top, 0)

    @property
    def width(self) -> int:
        return max(self.right - self.left, 0)

    def meet(self, other: Window) -> Window:
        """What both cover; of no height or width where they do not meet."""
        return Window(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def join(self, other: Window) -> Window:
        """The smallest window that holds both."""
        return Window(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def grown(self, margin: int) -> Window:
        """The window and so many pixels around it."""
        return Window(
            self.left - margin, self.top - margin, self.right + margin, self.bottom + margin
        )


Piece = tuple[Window, Bits]
"""A window of a mask and its pixels `[H, W]`, with one pixel more on every side than is its own."""


def outline(dense: Bits, left: int, top: int) -> list[Polygon]:
    """The connected parts of a mask `[H, W]` with its corner at (left, top)."""
    height, width = dense.shape
    window = Window(left, top, left + width, top + height)
    return polygons([(window.grown(1), np.pad(dense, 1))])


def polygons(pieces: Iterable[Piece]) -> list[Polygon]:
    """One polygon for each connected part; pixels that meet only at a corner are connected.

    Where they do, a ring touches itself.
    """
    corners = _corners(pieces)
    turns = _turns(corners, through_corners=True)
    loops = _loops(turns)
    return [polygon for polygon, _ in _polygons(corners, turns, loops)]


def parts(pieces: Iterable[Piece]) -> list[list[Polygon]]:
    """For each connected part its polygons, which meet at corners alone.

    No ring touches itself: together they are valid as a MultiPolygon in the sense of OGC.
    """
    corners = _corners(pieces)
    turns = _turns(corners, through_corners=False)
    loops = [simple for loop in _loops(turns) for simple in _split(loop, turns)]
    found = _polygons(corners, turns, loops)
    owner = {turn: place for place, (_, own) in enumerate(found) for turn in own}
    parent = list(range(len(found)))
    for turn in np.flatnonzero(turns.second).tolist():
        parent[_root(parent, owner[turn])] = _root(parent, owner[turn - 1])
    groups: dict[int, list[Polygon]] = {}
    for place, (polygon, _) in enumerate(found):
        groups.setdefault(_root(parent, place), []).append(polygon)
    return list(groups.values())


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Where outlines turn, `x` and `y [N]` in raster order, and which of the four pixels around
    are in the mask: `upper_left` and `lower_right [N]`. At a `crossing` two pixels meet that
    share nothing but this corner."""

    x: Numbers
    y: Numbers
    upper_left: Bits
    lower_right: Bits
    crossing: Bits


def _corners(pieces: Iterable[Piece]) -> Corners:
    found = [np.empty((5, 0), np.int64)]
    for window, dense in pieces:
        upper, lower = dense[:-1], dense[1:]
        left, right = (upper ^ lower)[:, :-1], (upper ^ lower)[:, 1:]
        crossing = left & right & (upper[:, :-1] ^ upper[:, 1:])
        rows, columns = np.nonzero((left ^ right) | crossing)
        found.append(
            np.stack(
                [
                    columns + window.left + 1,
                    rows + window.top + 1,
                    upper[rows, columns],
                    lower[rows, columns + 1],
                    crossing[rows, columns],
                ]
            )
        )
    every = np.concatenate(found, axis=1)
    every = every[:, np.lexsort(every[:2])]
    # Neighbouring pieces both see the corners on the line between them.
    fresh = np.ones(every.shape[1], bool)
    fresh[1:] = (every[:2, 1:] != every[:2, :-1]).any(0)
    x, y, *pixels = every[:, fresh]
    return Corners(x, y, *(bits.astype(bool) for bits in pixels))


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """Corners, those at crossings twice, for an outline passes there twice: `corner [T]`.

    Along its row, turn t ends the edge that turn t ^ 1 begins; along its column its partner is
    `below_or_above[t]`. At a crossing the first turn has the edge to the left, the `second` that
    to the right.
    """

    corner: Numbers
    second: Bits
    below_or_above: Numbers


def _turns(corners: Corners, through_corners: bool) -> Turns:
    """Outlines around what is connected through corners too, or through edges alone."""
    corner = np.repeat(np.arange(len(corners.x)), 1 + corners.crossing)
    second = np.zeros(len(corner), bool)
    second[1:] = corner[1:] == corner[:-1]
    # Down a column, the turn with the edge above comes before the one with the edge below.
    below = second ^ (corners.upper_left[corner] == through_corners)
    order = np.lexsort((below, corners.y[corner], corners.x[corner]))
    partner = np.empty(len(corner), np.int64)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return Turns(corner, second, partner)


def _loops(turns: Turns) -> list[Loop]:
    """The rings, each from its uppermost edge on, from left to right."""
    partner = turns.below_or_above.tolist()
    seen = bytearray(len(partner))
    loops: list[Loop] = []
    for start in range(0, len(partner), 2):
        loop, turn = Loop(), start
        while not seen[turn]:
            seen[turn] = seen[turn ^ 1] = 1
            loop += (turn, turn ^ 1)
            turn = partner[turn ^ 1]
        if loop:
            loops.append(loop)
    return loops


def _split(loop: Loop, turns: Turns) -> list[Loop]:
    """A ring that touches itself as rings that do not."""
    corners = turns.corner[loop].tolist()
    if len(set(corners)) == len(corners):
        return [loop]
    simple, kept = [], Loop()
    place: dict[int, int] = {}
    for turn, corner in zip(loop, corners, strict=True):
        if corner in place:
            inner = kept[place[corner] :]
            del kept[place[corner] :]
            for passed in turns.corner[inner].tolist():
                del place[passed]
            simple.append(inner)
        place[corner] = len(kept)
        kept.append(turn)
    return [*simple, kept]


def _polygons(
    corners: Corners, turns: Turns, loops: Sequence[Loop]
) -> list[tuple[Polygon, list[int]]]:
    """Outer rings with their holes, and the turns of each polygon."""
    firsts = [min(loop) for loop in loops]
    holes = {
        first: place
        for place, first in enumerate(firsts)
        if not corners.lower_right[turns.corner[first]]
    }
    outer = list(range(len(loops)))
    left_of = _left_of(corners, turns, loops, holes.keys()) if holes else {}
    # What lies to the left begins higher up, so its own owner is known by then.
    for first, place in sorted(holes.items()):
        outer[place] = outer[left_of[first]]
    points = np.stack([corners.x, corners.y], axis=1).astype(float)
    found: dict[int, tuple[Polygon, list[int]]] = {}
    for place in sorted(range(len(loops)), key=lambda place: outer[place] != place):
        polygon, own = found.setdefault(outer[place], ([], []))
        polygon.append(points[turns.corner[loops[place]]].tolist())
        own.extend(loops[place])
    return list(found.values())


def _left_of(
    corners: Corners, turns: Turns, loops: Sequence[Loop], firsts: Collection[int]
) -> dict[int, int]:
    """For the first turn of each hole the loop that bounds, to the left, the run of pixels above.

    Row by row, with the vertical edges that run through the row at hand.
    """
    partner = turns.below_or_above.tolist()
    x, y = corners.x[turns.corner].tolist(), corners.y[turns.corner].tolist()
    # Every vertical edge by its upper end. Where a loop was split, turns name the edge after them.
    owner = {}
    for place, loop in enumerate(loops):
        for turn, after in zip(loop, [*loop[1:], loop[0]], strict=True):
            if x[turn] == x[after]:
                owner[min(turn, partner[turn])] = place
    wanted, found = set(firsts), {}
    edges: list[int] = []
    loop_at: dict[int, int] = {}
    start = 0
    while start < len(x):
        stop = bisect_right(y, y[start], start)
        row = range(start, stop)
        for turn in wanted.intersection(row):
            found[turn] = loop_at[edges[bisect_right(edges, x[turn]) - 1]]
        for turn in row:
            if partner[turn] < turn:
                del edges[bisect_right(edges, x[turn]) - 1]
        for turn in row:
            if partner[turn] > turn:
                insort(edges, x[turn])
                loop_at[x[turn]] = owner[turn]
        start = stop
    return found


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place
