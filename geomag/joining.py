"""Which masks of different looks are one and the same instance.

Every place of the scene shows the finest look that covers it. Where the border of a look runs
through the scene, masks of one query on its two sides that touch are one instance; where looks of
one rung overlap, those that mostly show the same there are. A mask that finer looks cover wholly
joins nothing, so two objects that a coarse look took for one stay two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import geometry
from .values import View

Bits = NDArray[np.bool_]

_EDGE = 1e-6
_MARGIN = 2


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A mask in one look: `levels [view.size]` in 255ths.

    `rank` is the place of the look among all looks, coarse to fine.
    """

    rank: int
    query: int
    score: float
    levels: NDArray[np.uint8]
    threshold: float

    @property
    def above(self) -> Bits:
        """`[view.size]`: where it is in. Kept, these would double the memory that a mask takes."""
        above: Bits = self.levels > self.threshold * 255
        return above


class Ground:
    """Where looks lie, coarse to fine; a look's rank is its place among them."""

    def __init__(self, views: Sequence[View]) -> None:
        corners = [(v.box.left, v.box.top, v.box.right, v.box.bottom) for v in views]
        self.views = views
        self.boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
        self._rungs = np.array([geometry.rung(view) for view in views])

    def finer(self, rank: int) -> list[int]:
        """The ranks of the looks from closer by that share ground with a look."""
        return self._sharing(rank, self._rungs < self._rungs[rank])

    def level(self, rank: int) -> list[int]:
        """The ranks of the other looks of the same rung that share ground with a look."""
        others = self._rungs == self._rungs[rank]
        others[rank] = False
        return self._sharing(rank, others)

    def beside(self, rank: int, ranks: Sequence[int]) -> list[int]:
        """Those of the ranks whose looks overlap a look or share a border or a corner with it."""
        left, top, right, bottom = self.boxes[rank]
        boxes = self.boxes[list(ranks)]
        meets = (boxes[:, :2] <= (right, bottom)) & (boxes[:, 2:] >= (left, top))
        return [ranks[int(place)] for place in np.flatnonzero(meets.all(1))]

    def _sharing(self, rank: int, of: Bits) -> list[int]:
        left, top, right, bottom = self.boxes[rank]
        boxes = self.boxes
        meets = (boxes[:, :2] < (right, bottom)) & (boxes[:, 2:] > (left, top))
        places: list[int] = np.flatnonzero(meets.all(1) & of).tolist()
        return places


def uncovered(parts: Iterable[Part], ground: Ground) -> Iterator[tuple[Part, Bits]]:
    """The parts of which finer looks leave something, and what they leave, `[view.size]`."""
    open_ground: dict[int, Bits] = {}
    for part in parts:
        if part.rank not in open_ground:
            open_ground[part.rank] = _open(part.rank, ground)
        left = part.above & open_ground[part.rank]
        if left.any():
            yield part, left


def _open(rank: int, ground: Ground) -> Bits:
    """The pixels of a look that finer looks together do not cover completely."""
    view, boxes = ground.views[rank], ground.boxes[ground.finer(rank)]
    if not len(boxes):
        return np.ones((view.size.height, view.size.width), np.bool_)
    columns, rows = np.unique(boxes[:, 0::2]), np.unique(boxes[:, 1::2])
    # Looks of one rung overlap, finer ones lie in coarser ones: what is covered counts once.
    covered = np.zeros((len(rows) - 1, len(columns) - 1))
    for left, top, right, bottom in boxes:
        down = slice(*rows.searchsorted((top, bottom)))
        covered[down, slice(*columns.searchsorted((left, right)))] = 1
    share = _lengths(view, "y", rows) @ covered @ _lengths(view, "x", columns).T
    bits: Bits = share < 1 - _EDGE
    return bits


def _lengths(view: View, axis: str, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each pixel of a view lies between each edge along an axis and the next."""
    start, stop, pixels = _span(view, axis)
    places = ((edges - start) * pixels / (stop - start)).clip(0, pixels)
    pixel = np.arange(pixels)[:, None]
    lengths: NDArray[np.float64] = np.minimum(pixel + 1, places[1:]) - np.maximum(
        pixel, places[:-1]
    )
    return lengths.clip(min=0)


def join(parts: Sequence[Part], visible: Mapping[Part, Bits], ground: Ground) -> list[list[Part]]:
    """The visible parts by instance, in the order of their first parts."""
    seen = [part for part in parts if part in visible]
    by_rank: dict[int, list[Part]] = {}
    for part in seen:
        by_rank.setdefault(part.rank, []).append(part)
    ranks = sorted(by_rank)
    links: list[tuple[Part, Part]] = []
    for place, rank in enumerate(ranks):
        level = set(ground.level(rank))
        for earlier in ground.beside(rank, ranks[:place]):
            linked = _same if earlier in level else _touching
            links.extend(linked(by_rank[earlier], by_rank[rank], visible, ground.views))
    joined = {part for link in links for part in link}
    links.extend(_overlapping([part for part in seen if part not in joined], by_rank, ground))
    return _components(seen, links)


def _same(
    earlier: Sequence[Part],
    later: Sequence[Part],
    visible: Mapping[Part, Bits],
    views: Sequence[View],
) -> list[tuple[Part, Part]]:
    """The pairs of one query that mostly show the same somewhere in what two looks of a rung share.

    Mostly is more than half of the smaller one: of an object at a border one look sees less.
    """
    here, there = views[earlier[0].rank], views[later[0].rank]
    rows, columns = _reach(there, here, "y"), _reach(there, here, "x")
    down = (rows >= _MARGIN) & (rows < here.size.height + _MARGIN)
    across = (columns >= _MARGIN) & (columns < here.size.width + _MARGIN)
    at = np.ix_(rows[down] - _MARGIN, columns[across] - _MARGIN)
    in_both = np.ix_(np.flatnonzero(down), np.flatnonzero(across))
    ones = [(part, _pieces(visible[part][at])) for part in earlier]
    others = [(part, _pieces(visible[part][in_both])) for part in later]
    return [
        (one, other)
        for one, pieces in ones
        for other, theirs in others
        if one.query == other.query and _alike(pieces, theirs)
    ]


def _pieces(bits: Bits) -> NDArray[np.int32]:
    """The connected pieces of a mask, counted from 1."""
    labels: NDArray[np.int32] = cv2.connectedComponents(bits.astype(np.uint8))[1]
    return labels


def _alike(ones: NDArray[np.int32], others: NDArray[np.int32]) -> bool:
    common = (ones > 0) & (others > 0)
    if not common.any():
        return False
    pairs, shared = np.unique(np.stack([ones[common], others[common]]), axis=1, return_counts=True)
    smaller = np.minimum(np.bincount(ones.ravel())[pairs[0]], np.bincount(others.ravel())[pairs[1]])
    return bool((shared > smaller / 2).any())


def _touching(
    coarse: Sequence[Part],
    fine: Sequence[Part],
    visible: Mapping[Part, Bits],
    views: Sequence[View],
) -> list[tuple[Part, Part]]:
    """The pairs of one query that touch across the border of the finer view."""
    outer, inner = views[coarse[0].rank], views[fine[0].rank]
    found: dict[tuple[Part, Part], None] = {}
    for side in ("left", "right", "top", "bottom"):
        # Columns are looked at as rows of the transposed picture.
        flip = side in ("left", "right")
        far = side in ("right", "bottom")
        across, along = ("x", "y") if flip else ("y", "x")
        edge = _span(inner, across)[1 if far else 0]
        line = _pixel(outer, across, edge + (_EDGE if far else -_EDGE))
        if line is None:
            continue
        reach = _reach(inner, outer, along)
        for one in coarse:
            bits = visible[one].T if flip else visible[one]
            # One pixel further both ways: corners touch too.
            profile = np.pad(bits[line], _MARGIN + 1)
            profile = profile[:-2] | profile[1:-1] | profile[2:]
            if not profile.any():
                continue
            outside = profile[reach]
            for other in fine:
                bits = visible[other].T if flip else visible[other]
                if other.query == one.query and (outside & bits[-1 if far else 0]).any():
                    found[one, other] = None
    return list(found)


def _span(view: View, axis: str) -> tuple[float, float, int]:
    """Where a view begins and ends along an axis, and its pixels."""
    if axis == "x":
        return view.box.left, view.box.right, view.size.width
    return view.box.top, view.box.bottom, view.size.height


def _pixel(view: View, axis: str, position: float) -> int | None:
    start, stop, pixels = _span(view, axis)
    if not start < position < stop:
        return None
    return min(int((position - start) * pixels / (stop - start)), pixels - 1)


def _reach(inner: View, outer: View, axis: str) -> NDArray[np.intp]:
    """For each pixel of the inner view its place along the outer one, counted from the margin."""
    start, stop, pixels = _span(inner, axis)
    origin, end, count = _span(outer, axis)
    centres = start + (np.arange(pixels) + 0.5) * (stop - start) / pixels
    places = np.floor((centres - origin) * count / (end - origin)).astype(np.intp)
    return (places + _MARGIN).clip(0, count + 2 * _MARGIN - 1)


def _overlapping(
    lone: Sequence[Part], by_rank: Mapping[int, Sequence[Part]], ground: Ground
) -> list[tuple[Part, Part]]:
    """For parts that touch nothing, the finer part that lies in them for the most, if any does.

    Coarse pixels place a border badly: what a finer look left of a part may end short of the rest.
    """
    links = []
    for part in lone:
        best, share = None, 0.5
        for rank in ground.finer(part.rank):
            for other in by_rank.get(rank, ()):
                inside = _share(other, part, ground.views) if other.query == part.query else 0.0
                if inside > share:
                    best, share = other, inside
        if best is not None:
            links.append((part, best))
    return links


def _share(fine: Part, coarse: Part, views: Sequence[View]) -> float:
    """How much of a fine part lies in a coarse one."""
    inner, outer = views[fine.rank], views[coarse.rank]
    rows, columns = np.nonzero(fine.above)
    down, across = _reach(inner, outer, "y")[rows], _reach(inner, outer, "x")[columns]
    return float(np.pad(coarse.above, _MARGIN)[down, across].mean())


def _components(parts: Sequence[Part], links: Sequence[tuple[Part, Part]]) -> list[list[Part]]:
    parent = {part: part for part in parts}

    def root(part: Part) -> Part:
        while parent[part] is not part:
            parent[part] = parent[parent[part]]
            part = parent[part]
        return part

    for one, other in links:
        parent[root(other)] = root(one)
    groups: dict[Part, list[Part]] = {}
    for part in parts:
        groups.setdefault(root(part), []).append(part)
    return list(groups.values())
