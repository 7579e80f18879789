"""What Mask2Former learns from: slots matched to objects, compared at sampled points.

After Cheng et al. 2022: the cheapest one-to-one matching decides which slot is to hold which
object; all others are to hold nothing. Every layer is matched and learns by itself.

Letters: L layers, K queries of a look, S slots, I objects, R matched rows, P points, h w cells.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.assigners import (
    ClassificationCost,
    CrossEntropyLossCost,
    DiceCost,
    HungarianAssigner,
)
from mmengine.structures import InstanceData
from torch import Tensor

from geomag.values import MaskTargets, View

from . import ops
from .mask_decoder import Drawn

KIND_WEIGHT, ENTROPY_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0
"""Of the matching's costs and of the losses alike, as published."""
NOTHING_WEIGHT = 0.1
"""Most slots hold nothing."""
QUALITY_WEIGHT = 1.0
OBJECT, NOTHING = 0, 1
PRESENT = 0.5
"""An object none of whose cells is covered by so much is too small to be seen in a look."""
CANDIDATES, UNCERTAIN = 3, 0.75
"""Of so many times the points, the least certain are so much of those compared (PointRend, Kirillov
et al. 2020)."""
DICE_SMOOTHING = 1.0


@dataclass(frozen=True, slots=True)
class _Match:
    layer: int
    query: int
    slot: int
    object: int
    share: float
    """Of the loss of its query that this one pair decides."""


class Matcher:
    """The loss of one look at a time.

    Points are drawn from a seed that follows from the look's view, so that a loss depends on
    nothing but the look. All of them lie on data.
    """

    def __init__(self, points: int) -> None:
        self.points = points
        self.assigner = HungarianAssigner(
            [
                {"type": ClassificationCost, "weight": KIND_WEIGHT},
                {"type": CrossEntropyLossCost, "weight": ENTROPY_WEIGHT, "use_sigmoid": True},
                {
                    "type": DiceCost,
                    "weight": DICE_WEIGHT,
                    "pred_act": True,
                    "eps": DICE_SMOOTHING,
                },
            ]
        )

    def loss(
        self,
        view: View,
        valid: Tensor,
        drawn: Sequence[Drawn],
        quality: Tensor,
        targets: MaskTargets,
    ) -> Tensor:
        """Averaged over layers and queries, a scalar.

        `drawn` are L layers of K pairs each, `quality [K, S]` the estimates for the last of them,
        `valid [h, w]` the canvas.
        """
        objects = torch.stack([layer.objects for layer in drawn]).float()  # [L, K, S, 2]
        truth = targets.masks.to(objects)
        places = _places(valid, view, (1 + CANDIDATES + 1) * self.points)
        # What lies where there is no data, and what is too small to be seen, is no target.
        present = (truth * _seen(valid, truth)).flatten(1).amax(1) >= PRESENT
        matches = self._matches(drawn, truth, _owned(targets.query, present), places)
        total = KIND_WEIGHT * _kind_loss(objects, matches)
        if matches:
            total = total + self._mask_loss(drawn, truth, matches, places)
            last = [match for match in matches if match.layer == len(drawn) - 1]
            share = _quality_loss(drawn[-1].masks, quality, truth, last, valid)
            total = total + QUALITY_WEIGHT * share * len(drawn)
        # Whatever matched, every parameter has a gradient.
        rest = [quality.mean().float(), *(layer.masks.mean().float() for layer in drawn)]
        return total + torch.stack(rest).sum() * 0

    @torch.no_grad()
    def _matches(
        self,
        drawn: Sequence[Drawn],
        truth: Tensor,
        owned: Mapping[int, Sequence[int]],
        places: Tensor,
    ) -> list[_Match]:
        """Layer by layer, for each query the slots and rows of `truth` that belong together."""
        points, matches = places[: self.points], []
        for number, layer in enumerate(drawn):
            for query, rows in owned.items():
                pairs = self._assigned(
                    layer.objects[query].float(),
                    _sampled(layer.masks[query].float(), points),
                    _sampled(truth[rows], points),
                )
                share = 1 / (len(pairs) * len(drawn) * len(layer.objects))
                matches += [_Match(number, query, slot, rows[row], share) for slot, row in pairs]
        return matches

    def _assigned(self, objects: Tensor, logits: Tensor, truth: Tensor) -> list[tuple[int, int]]:
        """Slots with the objects they are to hold."""
        labels = torch.full((len(truth),), OBJECT, device=truth.device)
        result = self.assigner.assign(
            InstanceData(scores=objects, masks=logits), InstanceData(labels=labels, masks=truth)
        )
        rows = (result.gt_inds - 1).tolist()
        return [(slot, row) for slot, row in enumerate(rows) if row >= 0]

    def _mask_loss(
        self, drawn: Sequence[Drawn], truth: Tensor, matches: Sequence[_Match], places: Tensor
    ) -> Tensor:
        masks = torch.cat(
            [
                layer.masks[_held([match for match in matches if match.layer == number])]
                for number, layer in enumerate(drawn)
            ]
        ).float()
        points = self._telling(masks.detach(), places[self.points :])
        wanted = truth[[match.object for match in matches]]
        logits, wanted = (
            ops.point_sample(values[:, None], points)[:, 0] for values in (masks, wanted)
        )
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)
        each = ENTROPY_WEIGHT * entropy + DICE_WEIGHT * dice(logits, wanted)
        return (each * each.new_tensor([match.share for match in matches])).sum()

    def _telling(self, masks: Tensor, places: Tensor) -> Tensor:
        """Points `[R, P, 2]` for `masks [R, h, w]`: most where they are least certain, some
        anywhere."""
        count = CANDIDATES * self.points
        candidates, anywhere = places[:count], places[count:]
        chosen = int(UNCERTAIN * self.points)
        doubt = _sampled(masks, candidates).abs()
        near = candidates[doubt.topk(chosen, 1, largest=False).indices]
        rest = anywhere[: self.points - chosen].expand(len(masks), -1, -1)
        return torch.cat([near, rest], 1)


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice loss (Milletari et al. 2016) of `logits [R, P]`, `[R]`."""
    probability = logits.sigmoid()
    both, either = (probability * truth).sum(1), probability.sum(1) + truth.sum(1)
    return 1 - (2 * both + DICE_SMOOTHING) / (either + DICE_SMOOTHING)


def _kind_loss(objects: Tensor, matches: Sequence[_Match]) -> Tensor:
    labels = torch.full(objects.shape[:3], NOTHING, device=objects.device)
    labels[([match.layer for match in matches], *_held(matches))] = OBJECT
    weights = 1 - (1 - NOTHING_WEIGHT) * (labels == NOTHING).to(objects.dtype)
    entropy = F.cross_entropy(objects.movedim(3, 1), labels, reduction="none")
    return ((entropy * weights).sum(2) / weights.sum(2)).mean()


def _quality_loss(
    masks: Tensor, quality: Tensor, truth: Tensor, matches: Sequence[_Match], valid: Tensor
) -> Tensor:
    """How far estimates are from the intersection over union, squared, by the matches' shares."""
    drawn = masks[_held(matches)] > 0
    wanted = F.interpolate(truth[None], drawn.shape[-2:], mode="bilinear")[0] >= PRESENT
    wanted, seen = wanted[[match.object for match in matches]], _seen(valid, masks) > 0
    both, either = (drawn & wanted & seen).sum((1, 2)), ((drawn | wanted) & seen).sum((1, 2))
    apart = quality[_held(matches)].float() - both / either.clamp(min=1)
    return (apart.square() * apart.new_tensor([match.share for match in matches])).sum()


def _held(matches: Sequence[_Match]) -> tuple[list[int], list[int]]:
    """Queries and slots, as an index."""
    return [match.query for match in matches], [match.slot for match in matches]


def _owned(query: Tensor, present: Tensor) -> dict[int, list[int]]:
    """The rows that are present, by the query each belongs to."""
    owned: dict[int, list[int]] = {}
    for row, (owner, shown) in enumerate(zip(query.tolist(), present.tolist(), strict=True)):
        if shown:
            owned.setdefault(owner, []).append(row)
    return owned


def _seen(valid: Tensor, like: Tensor) -> Tensor:
    """The cells of a grid such as that of `like [..., h, w]` with data, `[h, w]`, 1 for any."""
    return F.adaptive_max_pool2d(valid[None].to(like.dtype), like.shape[-2:])[0]


def _sampled(maps: Tensor, points: Tensor) -> Tensor:
    """`maps [R, h, w]` at the same `points [P, 2]` each: `[R, P]`."""
    return ops.point_sample(maps[None], points[None])[0]


def _places(valid: Tensor, view: View, count: int) -> Tensor:
    """Points `[count, 2]` (x, y) of the canvas in [0, 1], evenly spread over its data; none where
    there is no data."""
    height, width = valid.shape
    cells = valid.flatten().nonzero()[:, 0]
    if not len(cells):
        return torch.zeros(0, 2, device=valid.device)
    seed = zlib.crc32(f"{view.box} {view.size}".encode())
    draw = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)).to(valid.device)
    cell = cells[(draw[:, 0] * len(cells)).long().clamp(max=len(cells) - 1)]
    rows = (cell.div(width, rounding_mode="floor") + draw[:, 1]) / height
    return torch.stack([(cell % width + draw[:, 2]) / width, rows], 1)
