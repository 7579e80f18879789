"""Masks of looks to masks of the scene: the finest look wins.

The cost follows the looks and what is drawn in them; nothing here is proportional to the scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from . import geometry, joining
from .joining import Part
from .masks import SceneMask
from .tile import Tile
from .values import Look, LookMasks

FAINT = 0.1
"""Where nothing in a look reaches this, or a lower threshold, the mask is stored as nowhere."""


def assemble(
    looks: Sequence[Look], masks: Sequence[LookMasks], queries: int | None, threshold: float
) -> tuple[SceneMask, ...]:
    """One mask for each of so many queries; for None, one for each instance.

    A query's mask stays where it is empty; an instance of which finer looks leave nothing does not.
    How instances are joined across looks: see `joining`. A mask's score is the highest of the looks
    that some of it is left in, 0 where it is empty. Sorted by query, then coarse to fine, in raster
    order. Nothing is drawn on nodata.
    """
    order = geometry.raster_order(looks)
    views = [looks[place].view for place in order]
    parts: list[Part] = []
    for rank, place in enumerate(order):
        parts.extend(_parts(rank, looks[place], masks[place], threshold))
    ground = joining.Ground(views)
    uncovered = joining.uncovered(parts, ground)
    if queries is None:
        visible = dict(uncovered)
        seen = set(visible)
        groups = joining.join(parts, visible, ground)
    else:
        # What is left of each is kept for joining alone: all masks of a scene, once more.
        seen = {part for part, _ in uncovered}
        groups = [[part for part in parts if part.query == query] for query in range(queries)]
    scene = [
        SceneMask(
            size=views[0].scene,
            tiles=_tiles(group, ground, queries is None),
            query=group[0].query if queries is None else place,
            score=max((part.score for part in group if part in seen), default=0.0),
            threshold=threshold,
            instance=queries is None,
        )
        for place, group in enumerate(groups)
    ]
    return tuple(sorted(scene, key=lambda mask: mask.query))


def _parts(rank: int, look: Look, drawn: LookMasks, threshold: float) -> Iterator[Part]:
    """The masks of one look that are anywhere, in 255ths, at the size of its view."""
    if not len(drawn.logits):
        return
    side = look.valid.shape
    height, width = look.view.size.height, look.view.size.width
    probability = drawn.logits.detach().float().sigmoid().cpu().numpy()
    queries, scores = drawn.query.tolist(), drawn.score.tolist()
    faint = min(FAINT, threshold)
    valid = look.valid[:height, :width]
    nodata = None if bool(valid.all()) else ~valid.cpu().numpy()
    # Interpolation never goes above what it starts from.
    for place in np.flatnonzero(probability.max(axis=(1, 2)) >= faint):
        canvas = probability[place]
        if canvas.shape != tuple(side):
            canvas = cv2.resize(canvas, (side[1], side[0]), interpolation=cv2.INTER_LINEAR)
        levels = np.rint(canvas[:height, :width] * 255).astype(np.uint8)
        if nodata is not None:
            levels[nodata] = 0
        if levels.max() >= faint * 255:
            yield Part(rank, queries[place], scores[place], levels, threshold)


def _tiles(group: Sequence[Part], ground: joining.Ground, instance: bool) -> tuple[Tile, ...]:
    """What was drawn, and the looks at the same places that saw nothing of it: finer ones, and
    where all there is was asked for those of the same rung."""
    drawn: dict[int, NDArray[np.uint8]] = {}
    for part in group:
        # Two masks of one look are one where a neighbouring look shows that they belong together.
        before = drawn.get(part.rank)
        drawn[part.rank] = part.levels if before is None else np.maximum(before, part.levels)
    blank = {other for rank in drawn for other in ground.finer(rank)}
    # That a look does not find an object of which it sees the rim is no reason to cut it.
    blank |= set() if instance else {other for rank in drawn for other in ground.level(rank)}
    ranks = sorted(drawn.keys() | blank)
    return tuple(Tile(ground.views[rank], drawn.get(rank)) for rank in ranks)
