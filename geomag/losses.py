"""What training asks for. The losses belong to the core; components only offer what is compared.

Each loss is averaged within a sample and then over samples, so that a step over several processes
with equal shares equals one step over all of them. A sample without masks counts zero, as a zero
that keeps the graph: a constant would leave parameters without a gradient and stop a distributed
run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .values import Exchange, Level, Look, LookMasks, MaskTargets, PlanTarget, SceneInfo

PIXELS_ON_TARGET = 64.0
"""Look pixels that the side of a target should span to be outlined.

16 px would bound a square's IoU by 0.94, whatever the model; but models are better where they see
more: the encoder of plugins/tiny marked every class of NWPU VHR-10 better at native resolution than
from overviews of 256 pixels, track fields of 190 pixels included (mean IoU 0.79 against 0.74).
"""
TOKENS = {Level.IMAGE: 64, Level.REGION: 128, Level.PIXEL: 160}
"""Visual tokens a task is worth."""
SCORE_WEIGHT = 0.2
DICE_SMOOTHING = 1.0
LEAST = 1 / 8
"""Cross entropy is shared out among the pixels that are marked or should be, at least this part of
those that count. Shared out among all of them, a ship that should not be marked would cost nothing
beside a track field's outline, and Dice no longer moves what is certain already."""


def outline(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy plus Dice, each row on its own.

    `logits [M, h, w]`, `target [M, h, w]` in [0, 1], `valid [M, h, w]`: the pixels that count.
    Returns `[M]`. Dice (Milletari et al. 2016) counts only where there is a target: on an empty one
    it says nothing that cross entropy does not say better.
    """
    logits, valid = logits.float(), valid.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    probability = logits.sigmoid() * valid
    hit = (probability * target).sum((1, 2))
    wanted = (target * valid).sum((1, 2))
    marked = probability.sum((1, 2)) + wanted
    dice = 1 - (2 * hit + DICE_SMOOTHING) / (marked + DICE_SMOOTHING)
    shared = torch.maximum(marked.detach(), valid.sum((1, 2)).clamp_min(1) * LEAST)
    return entropy.sum((1, 2)) / shared + dice * (wanted > 0)


def mask(masks: LookMasks, targets: MaskTargets, look: Look) -> Tensor:
    """How far the masks of one look are from the union of what each query means, `[M]`.

    For heads with one mask a query, in order. The score learns whether the target is in the look.
    """
    height, width = targets.masks.shape[-2:]
    queries = masks.query.shape[0]
    if queries == 0:
        return masks.logits.flatten(1).sum(1)
    union = torch.zeros(queries, height, width, device=masks.logits.device)
    owner = targets.query[:, None, None].expand_as(targets.masks)
    union = union.scatter_reduce(0, owner, targets.masks, "amax")
    logits = F.interpolate(
        masks.logits[None].float(), (height, width), mode="bilinear", align_corners=False
    )[0]
    valid = _resize_valid(look, height, width).expand_as(union)
    present = (union.amax((1, 2)) >= 0.5).float()
    # In float32 whatever autocast does: cross entropy of probabilities is not safe in half.
    score = masks.score.float().clamp(1e-6, 1 - 1e-6)
    presence = -(present * score.log() + (1 - present) * (1 - score).log())
    return outline(logits, union, valid) + SCORE_WEIGHT * presence


def relevance(opinion: Tensor, target: Tensor, look: Look) -> Tensor:
    """How far a relevance map `[h', w']` is from the target's coverage `[h, w]`, a scalar.

    The target is max-pooled to the map's grid, so that objects smaller than a cell survive.
    """
    grid = opinion.shape
    wanted = F.adaptive_max_pool2d(target[None, None], grid)[0]
    logits = torch.logit(opinion.float(), eps=1e-6)[None]
    return outline(logits, wanted, _resize_valid(look, *grid)[None])[0]


def plan_target(exchange: Exchange, info: SceneInfo, side: int) -> PlanTarget:
    """What should have been planned for a prompt, from its task, its target's size and resolution.

    A target should span `PIXELS_ON_TARGET` look pixels; a prompt about no particular target is
    answered from the overview. Metres per look pixel where the scene's resolution is known, else
    scene pixels per look pixel, as `Plan.stop_below`.
    """
    coarsest = max(1.0, max(info.size.height, info.size.width) / side)
    step = coarsest if exchange.extent is None else exchange.extent / PIXELS_ON_TARGET
    return PlanTarget(
        level=exchange.level,
        stop_below=min(max(step, 1.0), coarsest) * (info.resolution or 1.0),
        max_tokens=TOKENS[exchange.level],
    )


def per_sample(values: Sequence[Tensor], owners: Sequence[int], samples: int) -> Tensor:
    """Averages within each sample, then over `samples`; those without any value count zero."""
    stacked = torch.stack(list(values))
    owner = torch.tensor(owners, device=stacked.device)
    counts = torch.bincount(owner, minlength=samples).clamp_min(1)
    sums = stacked.new_zeros(samples).index_add(0, owner, stacked)
    return (sums / counts).mean()


def _resize_valid(look: Look, height: int, width: int) -> Tensor:
    """The cells of a grid over the look's canvas that hold any data, `[h, w]` float."""
    return F.adaptive_max_pool2d(look.valid.float()[None], (height, width))[0]
