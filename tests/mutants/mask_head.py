"""Mutants of the mask head, and of heads that match or encode images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomag.values import Look, LookMasks, MaskTargets
from geomag_tiny.mask_head import MaskHead
from tests.mutants.catalogue import mutant

KIND = "mask_head"
Looks, Queries, Targets = Sequence[Look], Sequence[Tensor], Sequence[MaskTargets]


class _Drawing(MaskHead):
    """Changes what another head drew in each look."""

    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        drawn = super().forward(looks, queries)
        return [self.change(item, look) for item, look in zip(drawn, looks, strict=True)]

    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        raise NotImplementedError


@mutant(KIND)
class Coarser(_Drawing):
    """No mutant: any stride will do."""

    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, logits=masks.logits[..., ::2, ::2])


@mutant(KIND, "check_works_as_promised")
class Endless(_Drawing):
    """Between overview and native resolution."""

    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        between = 1.5 < look.view.scale < 10
        return replace(masks, score=torch.full_like(masks.score, torch.inf)) if between else masks


@mutant(
    KIND,
    "check_one_result_a_look",
    *("check_no_query_no_mask", "check_query_is_one_of_the_looks", "check_masks_cover_the_canvas"),
    *("check_looks_do_not_mix",),
)
class DropsEmptyQueries(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        return [item for item in super().forward(looks, queries) if len(item.query)]


@mutant(KIND, "check_masks_queries_and_scores_agree")
class ScoresInColumns(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, score=masks.score[:, None])


@mutant(KIND, "check_no_query_no_mask", "check_query_is_one_of_the_looks")
class DrawsForNobody(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        some = [item if len(item) else item.new_zeros(1, item.shape[1]) for item in queries]
        return super().forward(looks, some)


@mutant(KIND, "check_query_is_one_of_the_looks", "check_order_of_looks_does_not_matter")
class CountsThroughTheBatch(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        drawn, start = [], 0
        for item in super().forward(looks, queries):
            drawn.append(replace(item, query=item.query + start))
            start += len(item.query)
        return drawn


@mutant(KIND, "check_query_is_one_of_the_looks")
class NamesByFloats(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, query=masks.query.float())


@mutant(KIND, "check_query_is_one_of_the_looks")
class TurnsTheOrder(_Drawing):
    """Legitimate for a head that matches; the core's loss counts on the order."""

    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return LookMasks(masks.logits.flip(0), masks.query.flip(0), masks.score.flip(0))


@mutant(KIND, "check_masks_cover_the_canvas")
class CutsPaddingOff(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        rows = -(-look.view.size.height // self.stride)
        return replace(masks, logits=masks.logits[:, :rows])


@mutant(KIND, "check_masks_lie_where_the_look_does")
class SwapsAxes(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, logits=masks.logits.transpose(1, 2))


@mutant(KIND, "check_masks_lie_where_the_look_does")
class TurnsUpsideDown(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, logits=masks.logits.flip(1))


@mutant(KIND, "check_masks_answer_their_query")
class AnswersTheNeighbour(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, logits=masks.logits.roll(1, 0))


@mutant(KIND, "check_score_is_a_probability")
class ScoresAsLogits(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        return replace(masks, score=torch.logit(masks.score, eps=1e-6))


@mutant(KIND, "check_looks_do_not_mix")
class MixesLooks(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        mean = torch.cat(list(queries)).mean(0) if any(map(len, queries)) else 0
        return super().forward(looks, [query + mean for query in queries])


@mutant(KIND, "check_looks_do_not_mix")
class MixesLooksInTraining(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        mean = torch.cat(list(queries)).mean(0) if self.training else 0
        return super().forward(looks, [query + mean for query in queries])


@mutant(KIND, "check_order_of_looks_does_not_matter")
class TrustsTheFirst(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        first, *others = super().forward(looks, queries)
        return [replace(first, logits=first.logits + 1), *others]


@mutant(KIND, "check_any_look")
class DividesByData(_Drawing):
    def change(self, masks: LookMasks, look: Look) -> LookMasks:
        share = look.valid.to(masks.logits).mean()
        return replace(masks, logits=masks.logits * share / share)


@mutant(KIND, "check_gradient_reaches_queries")
class CutsTheGradient(MaskHead):
    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        return super().forward(looks, [query.detach() for query in queries])


# Heads that match instances themselves.


@mutant(KIND)
class Matches(MaskHead):
    """No mutant: every mask is compared with the union of what its query means."""

    def loss(self, looks: Looks, queries: Queries, targets: Targets) -> Tensor:
        return torch.stack(
            [
                self.compare(masks, target)
                for masks, target in zip(self(looks, queries), targets, strict=True)
            ]
        )

    def compare(self, masks: LookMasks, targets: MaskTargets) -> Tensor:
        wanted = torch.zeros_like(masks.logits)
        for row, query in zip(targets.masks, targets.query.tolist(), strict=True):
            wanted[query] = torch.maximum(wanted[query], row)
        total = torch.nn.functional.binary_cross_entropy_with_logits(
            masks.logits, wanted, reduction="sum"
        )
        presence = (masks.score * len(targets.query)).sum()
        return total / max(1, wanted.numel()) + presence


@mutant(KIND, "check_loss_of_each_look")
class MatchesSomething(Matches):
    """A mean over no targets is not a number."""

    def compare(self, masks: LookMasks, targets: MaskTargets) -> Tensor:
        share = targets.masks.mean() if len(masks.query) else 0
        return super().compare(masks, targets) + share * 0


@mutant(KIND, "check_loss_of_each_look", "check_losses_do_not_mix")
class MatchesAtOnce(Matches):
    def loss(self, looks: Looks, queries: Queries, targets: Targets) -> Tensor:
        return super().loss(looks, queries, targets).mean()


@mutant(KIND, "check_losses_do_not_mix")
class SharesLosses(Matches):
    def loss(self, looks: Looks, queries: Queries, targets: Targets) -> Tensor:
        losses = super().loss(looks, queries, targets)
        return losses + 0.1 * losses.mean()


@mutant(KIND)
class TurnsTheOrderAndMatches(Matches):
    """No mutant: whoever matches may return masks in any order."""

    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        return [
            LookMasks(item.logits.flip(0), item.query.flip(0), item.score.flip(0))
            for item in super().forward(looks, queries)
        ]

    def compare(self, masks: LookMasks, targets: MaskTargets) -> Tensor:
        ordered = LookMasks(masks.logits.flip(0), masks.query.flip(0), masks.score.flip(0))
        return super().compare(ordered, targets)


# Heads with an image encoder of their own.


@mutant(KIND)
class Encodes(MaskHead):
    """No mutant: it also sees the pixels, through a layer of its own."""

    def __init__(self, visual_dims: Any, strides: Any, query_dim: int, hidden: int) -> None:
        super().__init__(visual_dims, strides, query_dim, hidden=hidden)
        self.own = torch.nn.Conv2d(3, 1, self.stride, self.stride)

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (self.own(pixels),)

    def forward(self, looks: Looks, queries: Queries) -> list[LookMasks]:
        drawn = super().forward(looks, queries)
        return [
            replace(item, logits=item.logits + look.encoded[0])
            for item, look in zip(drawn, looks, strict=True)
        ]


@mutant(KIND, "check_encoded_images_do_not_mix")
class MixesImages(Encodes):
    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (super().encode(pixels)[0] + pixels.mean(),)


@mutant(KIND, "check_encoded_images_do_not_mix")
class EncodesAll(Encodes):
    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (super().encode(pixels)[0].mean(0, keepdim=True),)
