"""An order of views to look at next, for croppers that judge looks by maps of relevance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import geometry
from .values import Look, View


def by_turns(
    looks: Sequence[Look],
    relevance: Sequence[Tensor | None],
    candidates: Sequence[View],
    threshold: float,
) -> list[View]:
    """The candidates that should be fullest of the target first, of every rung in turn.

    From far above small things do not show, so what they fill is found by looking at all of the
    next rung, and not by following the first that was found down to native. A view whose relevance
    is nowhere `threshold` is not worth a closer look; one that nothing is known about is, after all
    others.
    """
    known = [None if opinion is None else opinion.detach() for opinion in relevance]
    highest = geometry.relevance_of(candidates, looks, known)
    mean = geometry.relevance_of(candidates, looks, known, torch.mean)
    rungs: dict[int, list[tuple[bool, float, int]]] = {}
    for place, (likely, share) in enumerate(zip(highest, mean, strict=True)):
        if likely is None or likely >= threshold:
            worth = (share is None, -(share or 0.0), place)
            rungs.setdefault(-geometry.rung(candidates[place]), []).append(worth)
    turns = sorted(
        (unknown, turn, rung, place)
        for rung, views in rungs.items()
        for turn, (unknown, _, place) in enumerate(sorted(views))
    )
    return [candidates[place] for *_, place in turns]
