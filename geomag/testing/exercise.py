"""Asking a component for everything it can do, once, for the checks that all kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..contracts import Learning, Matching
from ..geometry import candidates
from ..values import BOX, SEG, Box, Level, LookBox, LookMasks, Plan, Reply, View
from .samples import TEXTS, Samples

NEW_TOKENS = 3


def exercise(kind: str, component: Any, samples: Samples) -> dict[str, Tensor]:
    """Everything the component returns for some stand-ins, by name."""
    return {
        "vision_encoder": _encoder,
        "llm_adapter": _adapter,
        "granularity_controller": _controller,
        "cropper": _cropper,
        "mask_head": _mask_head,
    }[kind](component, samples)


def replies() -> list[Reply]:
    """One for each of `TEXTS`, with nothing, markers and a box to write."""
    box = LookBox(0, Box(4, 12, 40, 28))
    return [
        Reply(f"Here are 2 airplanes {SEG} and 1 ship {SEG}"),
        Reply(f"Here: {BOX}", (box,)),
        Reply("There are 3."),
        Reply(f"A harbor {SEG} with a few ships."),
    ]


def lesson(component: Any, samples: Samples) -> dict[str, Tensor]:
    """What a language adapter makes of one batch of four samples."""
    looks = samples.looks()
    tokens = [samples.tokens(looks), samples.tokens(looks[:1]), samples.tokens(looks[1:])]
    tokens.append(samples.tokens(looks[:2], most=3))
    learnt = component(tokens, samples.prompts(), replies())
    return {"loss": learnt.loss, **_numbered("queries", learnt.queries)}


def mask_outputs(masks: Sequence[LookMasks]) -> dict[str, Tensor]:
    return {
        **_numbered("logits", [item.logits for item in masks]),
        **_numbered("query", [item.query for item in masks]),
        **_numbered("score", [item.score for item in masks]),
    }


def plan_output(plan: Plan) -> Tensor:
    """A plan as numbers."""
    return torch.tensor(
        [
            list(Level).index(plan.level),
            plan.overview_side,
            -1.0 if plan.stop_below is None else plan.stop_below,
            plan.max_views,
            -1.0 if plan.max_tokens is None else plan.max_tokens,
        ]
    )


def order_of(ranked: Sequence[View], offered: Sequence[View]) -> Tensor:
    """A ranking as places among what was offered, -1 for what was not."""
    places = {view: place for place, view in enumerate(offered)}
    return torch.tensor([places.get(view, -1) for view in ranked], dtype=torch.long)


def _encoder(component: Any, samples: Samples) -> dict[str, Tensor]:
    return _numbered("level", component(samples.pixels(2, samples.side, samples.side)))


def _adapter(component: Any, samples: Samples) -> dict[str, Tensor]:
    prompts = samples.prompts()
    tokens = samples.tokens(samples.looks())
    reading = component.generate(tokens, prompts[0], NEW_TOKENS)
    return {
        **_numbered("embedding", [prompt.embedding for prompt in prompts]),
        **lesson(component, samples),
        "text": torch.tensor(list(reading.text.encode())),
        "generated queries": reading.queries,
    }


def _controller(component: Any, samples: Samples) -> dict[str, Tensor]:
    prompts = samples.prompts()
    plans = [plan_output(component.plan(prompt, samples.info)) for prompt in prompts]
    found = _numbered("plan", plans)
    if isinstance(component, Learning):
        infos = [samples.info] * len(TEXTS)
        found["loss"] = component.loss(prompts, infos, samples.plan_targets())
    return found


def _cropper(component: Any, samples: Samples) -> dict[str, Tensor]:
    looks = samples.looks()
    offered = candidates(looks, samples.plan, samples.info)
    judged = component.relevance(looks, samples.prompts()[0])
    detached = [None if item is None else item.detach() for item in judged]
    ranked = component.rank(looks, detached, offered, samples.plan)
    # An opinion withheld is an empty map.
    maps = [torch.zeros(0) if item is None else item for item in judged]
    return {**_numbered("relevance", maps), "order": order_of(ranked, offered)}


def _mask_head(component: Any, samples: Samples) -> dict[str, Tensor]:
    looks = samples.looks(component)
    counts = (2, 1, 3, 2)
    queries = samples.queries(*counts)
    found = mask_outputs(component(looks, queries))
    if isinstance(component, Matching):
        found["loss"] = component.loss(looks, queries, samples.mask_targets(*counts))
    return found


def _numbered(name: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name} {place}": value for place, value in enumerate(values)}
