"""Relevance to tokens: few where the prompt does not care, the full grid where it does (TMRA).

Each look's coarsest feature grid is a quadtree. Every look starts as one block; blocks whose
highest relevance reaches `SPLIT` are cut in four, the most relevant first, while the budget allows.
No opinion counts as relevant everywhere, so a model without a cropper sees a uniform grid. The
overview is cut to `OVERVIEW_BLOCKS` a side whatever the relevance: it is the context of all else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from . import geometry
from .values import Look, Plan, View, VisualTokens

SPLIT = 0.1
"""The relevance from which a block is worth more than one token."""
OVERVIEW_BLOCKS = 8


def adjust(
    looks: Sequence[Look], relevance: Sequence[Tensor | None], plan: Plan, limit: int
) -> list[VisualTokens]:
    """At most `min(plan.max_tokens, limit)` tokens, shared out among the looks by relevance.

    One `VisualTokens` a look, in the order given; it can be empty where there are more looks than
    tokens. Padding and nodata get no token. Looks share one canvas size; their grid is square-ish:
    it is padded to a power of two.
    """
    budget = limit if plan.max_tokens is None else min(plan.max_tokens, limit)
    features = torch.stack([look.features[-1] for look in looks])  # [L, C, gh, gw]
    height, width = features.shape[-2:]
    side = 2 ** math.ceil(math.log2(max(height, width)))
    room = (0, side - width, 0, side - height)
    share = torch.stack([_share(look, height, width) for look in looks])
    weight = _padded(share, room)  # [L, 1, G, G], the share of each cell that holds data
    wanted = torch.stack(
        [_wanted(opinion, look) for opinion, look in zip(relevance, looks, strict=True)]
    )
    wanted = _padded(wanted, room).where(weight[:, 0] > 0, -1.0)
    summed = _padded(features * share.to(features.dtype), room)
    whole = np.array([_is_whole(look.view) for look in looks])
    # Choosing is many small steps: one copy to the host costs less than taking them on a GPU.
    kept = _choose(wanted.cpu().numpy(), whole, budget)
    owner, cells, means, highest = _pool(kept, summed, weight)
    limits = cells.new_tensor([height, width, height, width])
    cells = torch.minimum(cells, limits)
    counts = torch.bincount(owner, minlength=len(looks)).tolist()
    canvas = (looks[0].pixels.shape[-2], looks[0].pixels.shape[-1])
    views = [look.view for look in looks]
    places = geometry.positions(cells, owner, views, (height, width), canvas)
    return [
        VisualTokens(*item)
        for item in zip(
            looks,
            *(part.split(counts) for part in (cells, means, places, highest)),
            strict=True,
        )
    ]


def _pool(
    kept: Sequence[_Blocks], summed: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tokens of chosen blocks, look by look: owner `[T]`, cells `[T, 4]`, features `[T, C]` and
    the highest relevance `[T]`.

    `summed [L, C, G, G]` are the features times `weight [L, 1, G, G]`, their share of data.
    """
    pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for block, mask, relevance in reversed(kept):
        if block > 1:  # every level is pooled from the one below it
            summed, weight = F.avg_pool2d(summed, 2), F.avg_pool2d(weight, 2)
        look, row, column = (torch.from_numpy(part).to(summed.device) for part in mask.nonzero())
        if len(look) or not pieces:
            means = summed[look, :, row, column] / weight[look, :, row, column].to(summed.dtype)
            cells = torch.stack([row, column, row + 1, column + 1], dim=1) * block
            pieces.append((look, cells, means, torch.from_numpy(relevance[mask]).to(means)))
    owner, *parts = (torch.cat(part) for part in zip(*reversed(pieces), strict=True))
    # Stable: within a look the coarse blocks come first, each size in raster order.
    order = owner.argsort(stable=True)
    cells, means, highest = (part[order] for part in parts)
    return owner[order], cells, means, highest


_Blocks = tuple[int, NDArray[np.bool_], NDArray[np.float32]]
"""A block's side in cells; which blocks of that side, and how relevant each, `[L, G/b, G/b]`."""


def _choose(wanted: NDArray[np.float32], whole: NDArray[np.bool_], budget: int) -> list[_Blocks]:
    """Which blocks become a token, coarse to fine.

    `wanted [L, G, G]` is each cell's relevance, -1 where there is no data; `whole [L]` says which
    looks are overviews.
    """
    block = side = wanted.shape[-1]
    highest = {1: wanted}
    while 2 * (finest := max(highest)) <= side:
        halved = highest[finest].reshape(len(wanted), side // finest // 2, 2, -1, 2)
        highest[2 * finest] = halved.max((2, 4))
    active = _first(highest[block], highest[block] >= 0, budget)
    spent = int(active.sum())
    kept: list[_Blocks] = []
    while block > 1:
        # A split costs at most three tokens more; blocks at a border can cost less.
        due = whole[:, None, None] & (block * OVERVIEW_BLOCKS > side)
        worth = active & ((highest[block] >= SPLIT) | due)
        split = _first(highest[block], worth, max(0, budget - spent) // 3)
        kept.append((block, active & ~split, highest[block]))
        block //= 2
        active = split.repeat(2, axis=1).repeat(2, axis=2) & (highest[block] >= 0)
        spent += int(active.sum()) - int(split.sum())
    kept.append((1, active, highest[1]))
    return kept


def _first(
    score: NDArray[np.float32], eligible: NDArray[np.bool_], count: int
) -> NDArray[np.bool_]:
    """The `count` eligible places of highest score; equal ones in the order they stand."""
    if int(eligible.sum()) <= count:
        return eligible
    ranked = np.where(eligible, -score, np.inf).argsort(axis=None, kind="stable")
    chosen = np.zeros(eligible.size, bool)
    chosen[ranked[:count]] = True
    return chosen.reshape(eligible.shape)


def _is_whole(view: View) -> bool:
    return view.box.width * view.box.height == view.scene.area


def _wanted(opinion: Tensor | None, look: Look) -> Tensor:
    height, width = look.features[-1].shape[-2:]
    if opinion is None:
        return torch.ones(height, width, device=look.pixels.device)
    pooled = F.adaptive_max_pool2d(opinion.detach().float()[None, None], (height, width))
    return pooled[0, 0]


def _padded(values: Tensor, room: tuple[int, int, int, int]) -> Tensor:
    return F.pad(values, room) if any(room) else values  # a pad by nothing still copies


def _share(look: Look, height: int, width: int) -> Tensor:
    """How much of each cell of the coarsest grid holds data, `[1, gh, gw]` in [0, 1]."""
    if bool(look.valid.all()):  # most are, and need no pooling
        return torch.ones(1, height, width, device=look.valid.device)
    return F.adaptive_avg_pool2d(look.valid.float()[None], (height, width))
