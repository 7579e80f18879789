"""One training step: what is asked of the components, and against what it is compared.

A sample's prompts share its looks, so the mask head draws all their queries in a look at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import losses, tokens
from .contracts import Learning, Matching
from .errors import ContractError
from .values import Exchange, Lesson, Look, MaskTargets, Plan, PlanTarget, Prompt, TrainingSample

if TYPE_CHECKING:
    from .model import GeoMag


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One prompt of a step: which sample it belongs to, and that sample's looks and truth."""

    owner: int
    exchange: Exchange
    prompt: Prompt
    looks: Sequence[Look]
    truth: Tensor  # [V, I, h', w'] coverage in [0, 1]


def loss(
    model: GeoMag, samples: Sequence[TrainingSample], looks: Sequence[Sequence[Look]]
) -> dict[str, Tensor]:
    """The four losses of a step over encoded samples, each a scalar.

    Raises:
        ContractError: the language adapter left another number of queries than `[SEG]`s.
    """
    prompts = iter(
        model.llm_adapter.read([item.conversation for one in samples for item in one.exchanges])
    )
    # The truth follows the looks to their device in one transfer a sample.
    asked = [
        _Asked(owner, exchange, next(prompts), looks[owner], truth)
        for owner, sample in enumerate(samples)
        for truth in [sample.masks.to(model.device).float() / 255]
        for exchange in sample.exchanges
    ]
    owners = [item.owner for item in asked]
    infos = [samples[owner].info for owner in owners]
    opinions = [model.cropper.relevance(item.looks, item.prompt) for item in asked]
    targets = [
        losses.plan_target(item.exchange, info, model.overview_side)
        for item, info in zip(asked, infos, strict=True)
    ]
    limit = model.llm_adapter.max_visual_tokens
    visual = [
        tokens.adjust(item.looks, opinion, _budget(model, target), limit)
        for item, opinion, target in zip(asked, opinions, targets, strict=True)
    ]
    lesson = model.llm_adapter(
        visual, [item.prompt for item in asked], [item.exchange.reply for item in asked]
    )
    _check_queries(model, asked, lesson)

    controller = model.granularity_controller
    planned = lesson.loss.new_zeros(len(asked))
    if isinstance(controller, Learning):
        planned = controller.loss([item.prompt for item in asked], infos, targets)
    judged = [_relevance_loss(item, opinion) for item, opinion in zip(asked, opinions, strict=True)]
    count = len(samples)
    return {
        "loss_text": losses.per_sample(list(lesson.loss), owners, count),
        "loss_mask": _mask_loss(model, asked, lesson, count),
        "loss_relevance": losses.per_sample(judged, owners, count),
        "loss_plan": losses.per_sample(list(planned), owners, count),
    }


def _budget(model: GeoMag, target: PlanTarget) -> Plan:
    return Plan(target.level, model.overview_side, max_tokens=target.max_tokens)


def _relevance_loss(asked: _Asked, opinions: Sequence[Tensor | None]) -> Tensor:
    """Averaged over the looks the cropper has an opinion on; zero where it has none."""
    rows = list(asked.exchange.relevant)
    values = []
    for place, (look, opinion) in enumerate(zip(asked.looks, opinions, strict=True)):
        if opinion is not None:
            values.append(losses.relevance(opinion, _union(asked.truth[place], rows), look))
    return torch.stack(values).mean() if values else asked.truth.new_zeros(())


def _mask_loss(model: GeoMag, asked: Sequence[_Asked], lesson: Lesson, samples: int) -> Tensor:
    # Queries of nothing still reach the graph: see `losses`.
    unasked = [queries.float().sum() for queries in lesson.queries]
    # So do levels of the encoder that no other part looks at.
    levels = asked[0].looks[0].features
    unasked += [level.float().sum() for level in levels if level.requires_grad]
    anchor = torch.stack(unasked).sum() * 0
    values: list[Tensor] = []
    owners: list[int] = []
    for owner in range(samples):
        mine = [
            (item, queries)
            for item, queries in zip(asked, lesson.queries, strict=True)
            if item.owner == owner and len(queries)
        ]
        if not mine:
            # Every process asks the head once a sample: sharded weights are sent for by all at
            # once, and every parameter has a gradient.
            anchor = anchor + _idle(model, next(item for item in asked if item.owner == owner))
            continue
        drawn = _draw(model, [item for item, _ in mine], [queries for _, queries in mine])
        values.extend(drawn)
        owners.extend([owner] * len(drawn))
    if not values:
        return anchor.float()
    return losses.per_sample(values, owners, samples) + anchor


def _draw(model: GeoMag, asked: Sequence[_Asked], queries: Sequence[Tensor]) -> list[Tensor]:
    """The mask losses of one sample: one for each prompt, or for each look of a matching head."""
    looks, truth = asked[0].looks, asked[0].truth
    counts = [len(item) for item in queries]
    named = [rows for item in asked for rows in item.exchange.instances]
    instance = torch.tensor([row for rows in named for row in rows], device=model.device).long()
    query = torch.tensor(
        [place for place, rows in enumerate(named) for _ in rows], device=model.device
    ).long()
    stacked = [torch.cat(list(queries))] * len(looks)
    targets = [MaskTargets(truth[place, instance], query) for place in range(len(looks))]
    if isinstance(model.mask_head, Matching):
        return list(model.mask_head.loss(looks, stacked, targets))
    drawn = model.mask_head(looks, stacked)
    each = torch.stack(
        [
            losses.mask(masks, target, look)
            for masks, target, look in zip(drawn, targets, looks, strict=True)
        ]
    )  # [V, K]
    return [part.mean() for part in each.split(counts, dim=1)]


def _idle(model: GeoMag, asked: _Asked) -> Tensor:
    """A zero through the mask head for a sample without any query."""
    nothing = asked.truth.new_zeros(1, model.llm_adapter.query_dim)
    if isinstance(model.mask_head, Matching):
        empty = MaskTargets(asked.truth[0, :0], torch.zeros(0, dtype=torch.long))
        return model.mask_head.loss(asked.looks[:1], [nothing], [empty]).sum() * 0
    masks = model.mask_head(asked.looks[:1], [nothing])[0]
    return (masks.logits.sum() + masks.score.sum()) * 0


def _union(truth: Tensor, rows: Sequence[int]) -> Tensor:
    """Coverage of some instances together, `[I, h, w]` to `[h, w]`."""
    if not rows:
        return truth.new_zeros(truth.shape[1:])
    return truth[list(rows)].amax(0)


def _check_queries(model: GeoMag, asked: Sequence[_Asked], lesson: Lesson) -> None:
    problems = [
        f"{len(queries)} queries for {len(item.exchange.instances)} [SEG] in"
        f" {item.exchange.reply.text!r}"
        for item, queries in zip(asked, lesson.queries, strict=True)
        if len(queries) != len(item.exchange.instances)
    ]
    if problems:
        raise ContractError(type(model.llm_adapter).__name__, problems)
