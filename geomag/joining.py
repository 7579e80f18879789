"""Which masks of different looks are one and the same instance.

Every place of the scene shows the finest look that covers it. Where the border of a look runs
through the scene, masks of one query on its two sides that touch are one instance; a mask that
finer looks cover completely joins nothing, so two objects that a coarse look took for one stay two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .values import Box, View

Bits = NDArray[np.bool_]

_EDGE = 1e-6
_MARGIN = 2


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A mask in one look: `levels [view.size]` in 255ths, `above [view.size]` where it is in.

    `rank` is the place of the look among all looks, coarse to fine.
    """

    rank: int
    query: int
    score: float
    levels: NDArray[np.uint8]
    above: Bits


def finer(rank: int, views: Sequence[View]) -> list[int]:
    """The ranks of the later looks that share ground with a look."""
    if rank + 1 >= len(views):
        return []
    box = views[rank].box
    later = _boxes(views[rank + 1 :])
    meets = (later[:, :2] < (box.right, box.bottom)) & (later[:, 2:] > (box.left, box.top))
    return [rank + 1 + int(place) for place in np.flatnonzero(meets.all(1))]


def uncover(parts: Sequence[Part], views: Sequence[View]) -> dict[Part, Bits]:
    """What finer looks leave of each part, `[view.size]`; nothing left, no entry."""
    open_ground: dict[int, Bits] = {}
    visible: dict[Part, Bits] = {}
    for part in parts:
        if part.rank not in open_ground:
            open_ground[part.rank] = _open(part.rank, views)
        left = part.above & open_ground[part.rank]
        if left.any():
            visible[part] = left
    return visible


def _open(rank: int, views: Sequence[View]) -> Bits:
    """The pixels of a look that finer looks together do not cover completely."""
    view = views[rank]
    covered = np.zeros((view.size.height, view.size.width))
    for box in _outermost([views[other].box for other in finer(rank, views)]):
        rows, down = _overlap(view, "y", box.top, box.bottom)
        columns, across = _overlap(view, "x", box.left, box.right)
        covered[rows, columns] += np.outer(down, across)
    bits: Bits = covered < 1 - _EDGE
    return bits


def _outermost(boxes: Sequence[Box]) -> list[Box]:
    """The boxes that lie in no earlier one."""
    kept: list[Box] = []
    edges = np.empty((len(boxes), 4))
    for box in boxes:
        outer = edges[: len(kept)]
        inside = (outer[:, :2] <= (box.left, box.top)) & (outer[:, 2:] >= (box.right, box.bottom))
        if not inside.all(1).any():
            edges[len(kept)] = (box.left, box.top, box.right, box.bottom)
            kept.append(box)
    return kept


def _overlap(view: View, axis: str, start: float, stop: float) -> tuple[slice, NDArray[np.float64]]:
    """The pixels of a view along an axis that a stretch reaches, and how much of each."""
    origin, end, pixels = _span(view, axis)
    scale = pixels / (end - origin)
    first, last = max((start - origin) * scale, 0.0), min((stop - origin) * scale, float(pixels))
    reached = np.arange(math.floor(first), math.ceil(last))
    return slice(int(first), math.ceil(last)), (reached + 1).clip(max=last) - reached.clip(first)


def join(
    parts: Sequence[Part], visible: Mapping[Part, Bits], views: Sequence[View]
) -> list[list[Part]]:
    """The visible parts by instance, in the order of their first parts."""
    seen = [part for part in parts if part in visible]
    by_rank: dict[int, list[Part]] = {}
    for part in seen:
        by_rank.setdefault(part.rank, []).append(part)
    ranks = sorted(by_rank)
    links: list[tuple[Part, Part]] = []
    for place, rank in enumerate(ranks):
        for earlier in _beside(views[rank].box, ranks[:place], views):
            links.extend(_touching(by_rank[earlier], by_rank[rank], visible, views))
    joined = {part for link in links for part in link}
    links.extend(_overlapping([part for part in seen if part not in joined], by_rank, views))
    return _components(seen, links)


def _beside(box: Box, ranks: Sequence[int], views: Sequence[View]) -> list[int]:
    """Those of the ranks whose views overlap a box or share a border or a corner with it."""
    if not ranks:
        return []
    boxes = _boxes([views[rank] for rank in ranks])
    meets = (boxes[:, :2] <= (box.right, box.bottom)) & (boxes[:, 2:] >= (box.left, box.top))
    return [ranks[int(place)] for place in np.flatnonzero(meets.all(1))]


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
    lone: Sequence[Part], by_rank: Mapping[int, Sequence[Part]], views: Sequence[View]
) -> list[tuple[Part, Part]]:
    """For parts that touch nothing, the finer part that lies in them for the most, if any does.

    Coarse pixels place a border badly: what a finer look left of a part may end short of the rest.
    """
    links = []
    for part in lone:
        best, share = None, 0.5
        for rank in finer(part.rank, views):
            for other in by_rank.get(rank, ()):
                inside = _share(other, part, views) if other.query == part.query else 0.0
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


def _boxes(views: Sequence[View]) -> NDArray[np.float64]:
    """`[V, 4]`: left, top, right, bottom."""
    corners = [(v.box.left, v.box.top, v.box.right, v.box.bottom) for v in views]
    return np.array(corners, dtype=np.float64)
