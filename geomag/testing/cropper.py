"""What a cropper promises (PSC).

Letters: h' w' cells of a relevance map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import geometry
from ..contracts import Binding
from ..values import Level, Look, Plan, View
from .checks import InapplicableError, expect, expect_none, needs, promise
from .comparison import EXACT, differences, quarters
from .exercise import order_of
from .samples import Samples, repainted
from .subject import Subject


@dataclass(frozen=True, eq=False)
class _Round:
    """What a cropper is asked in one round, and what it found relevant."""

    looks: list[Look]
    relevance: list[Tensor | None]
    offered: list[View]


@promise("cropper")
def check_one_opinion_a_look(build: Subject) -> None:
    """It returns one relevance for each look, a map or None."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    for looks in _gatherings(samples):
        judged = cropper.relevance(looks, samples.prompts()[0])
        expect(len(judged) == len(looks), f"{len(judged)} relevances for {len(looks)} looks")
        odd = {type(item).__name__ for item in judged if not isinstance(item, Tensor | None)}
        expect(not odd, f"a relevance is a {', '.join(odd)}, expected a Tensor or None")


@promise("cropper")
def check_relevance_is_a_map(build: Subject) -> None:
    """A relevance is `[h', w']` over the whole canvas of its look."""
    for look, opinion in _opinions(build):
        expect(opinion.ndim == 2, f"relevance is {list(opinion.shape)}, expected [h', w']")
        height, width = opinion.shape
        canvas = look.pixels.shape
        expect(
            height * canvas[-1] == width * canvas[-2] and height,
            f"relevance {list(opinion.shape)} has not the shape of its canvas {list(canvas[-2:])}",
        )


@promise("cropper")
def check_relevance_is_a_share(build: Subject) -> None:
    """Relevance is in [0, 1]."""
    for _, opinion in _opinions(build):
        low, high = float(opinion.min()), float(opinion.max())
        expect(low >= 0 and high <= 1, f"relevance is in [{low:.3g}, {high:.3g}], not in [0, 1]")


@promise("cropper")
def check_relevance_lies_where_it_was_seen(build: Subject) -> None:
    """What changes in one quarter of a look changes relevance most in that quarter: neither turned,
    mirrored nor shifted."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    # A native view fills its canvas.
    look = samples.look(geometry.tiles(samples.scene, samples.side, 1)[0])
    prompt = samples.prompts()[0]
    old = cropper.relevance([look], prompt)[0]
    needs(old is not None, "it has no opinion")
    for top, left in ((True, False), (False, True)):
        total: dict[tuple[bool, bool], float] = {}
        for seed in range(4):
            new = cropper.relevance([repainted(look, top, left, seed)], prompt)[0]
            for quarter, change in quarters(new - old).items():
                total[quarter] = total.get(quarter, 0.0) + change
        needs(max(total.values()) > 0, "its relevance does not depend on what a look shows")
        expect(
            max(total, key=total.__getitem__) == (top, left),
            "relevance changes most elsewhere than the look did",
        )


@promise("cropper")
def check_order_of_looks_does_not_matter(build: Subject) -> None:
    """Looks handed over in another order are judged and ranked the same."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    prompt = samples.prompts()[0]
    looks = samples.looks()
    offered = geometry.candidates(looks, samples.plan, samples.info)
    found = []
    for order in (list(range(len(looks))), list(reversed(range(len(looks))))):
        judged = cropper.relevance(moved := [looks[place] for place in order], prompt)
        ranked = cropper.rank(moved, judged, offered, samples.plan)
        by_look = [judged[order.index(place)] for place in range(len(looks))]
        maps = {
            f"relevance of look {place}": torch.zeros(0) if item is None else item
            for place, item in enumerate(by_look)
        }
        found.append({**maps, "ranking": order_of(ranked, offered)})
    expect_none(differences(found[0], found[1], EXACT))


@promise("cropper")
def check_nothing_is_made_up(build: Subject) -> None:
    """A ranking holds candidates that were offered, and nothing else."""
    for asked, ranked in _rankings(build):
        made_up = [view for view in ranked if view not in asked.offered]
        expect(not made_up, f"{len(made_up)} of {len(ranked)} ranked views were not offered")


@promise("cropper")
def check_nothing_is_named_twice(build: Subject) -> None:
    """A ranking names no view twice."""
    for _, ranked in _rankings(build):
        twice = len(ranked) - len(set(ranked))
        expect(not twice, f"{twice} of {len(ranked)} ranked views stand there twice")


@promise("cropper")
def check_no_candidates(build: Subject) -> None:
    """Where nothing is offered, the ranking is empty."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    for looks in _gatherings(samples):
        judged = cropper.relevance(looks, samples.prompts()[0])
        ranked = list(cropper.rank(looks, judged, [], samples.plan))
        expect(ranked == [], f"{len(ranked)} views ranked of none offered")


@promise("cropper")
def check_ranking_ignores_budgets(build: Subject) -> None:
    """A ranking does not depend on how many views or tokens may still be had, so that the views of
    a small budget are the first ones of a larger."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    asked = _rounds(cropper, samples)[0]
    orders = []
    for views, tokens in ((math.inf, None), (1, 8), (3, 64)):
        plan = Plan(Level.PIXEL, samples.side, max_views=views, max_tokens=tokens)
        ranked = cropper.rank(asked.looks, asked.relevance, asked.offered, plan)
        orders.append(order_of(ranked, asked.offered).tolist())
    expect(
        orders[0] == orders[1] == orders[2],
        "a ranking changes with max_views and max_tokens of the plan",
    )


@promise("cropper")
def check_ranking_is_of_its_arguments(build: Subject) -> None:
    """A ranking follows from the looks, relevance and candidates it is handed, not from what was
    judged in between."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    asked = _rounds(cropper, samples)[0]
    orders = []
    for prompt in samples.prompts():
        # Somebody else's question comes in between, about something else.
        cropper.relevance(build.samples(cropper, seed=3).looks(), prompt)
        ranked = cropper.rank(asked.looks, asked.relevance, asked.offered, samples.plan)
        orders.append(order_of(ranked, asked.offered).tolist())
    expect(all(order == orders[0] for order in orders), "a ranking changes with earlier questions")


def _informed(build: Subject) -> Any:
    """The cropper; one for benchmarks is told the truth, without which it has no opinion."""
    cropper = build()
    if isinstance(cropper, Binding):
        cropper.bind(build.samples(cropper).truth())
    return cropper


def _gatherings(samples: Samples) -> list[list[Look]]:
    """The overview alone, and with closer looks."""
    looks = samples.looks()
    return [looks[:1], looks]


def _rounds(cropper: Any, samples: Samples) -> list[_Round]:
    prompt = samples.prompts()[0]
    rounds = []
    for looks in _gatherings(samples):
        judged = list(cropper.relevance(looks, prompt))
        offered = geometry.candidates(looks, samples.plan, samples.info)
        rounds += [_Round(looks, judged, offered), _Round(looks, judged, offered[:1])]
        rounds.append(_Round(looks, [None] * len(looks), offered))
    return rounds


def _rankings(build: Subject) -> list[tuple[_Round, Sequence[View]]]:
    cropper = _informed(build)
    samples = build.samples(cropper)
    return [
        (asked, list(cropper.rank(asked.looks, asked.relevance, asked.offered, samples.plan)))
        for asked in _rounds(cropper, samples)
    ]


def _opinions(build: Subject) -> list[tuple[Look, Tensor]]:
    """Looks with the maps that the cropper has of them, to any prompt."""
    cropper = _informed(build)
    samples = build.samples(cropper)
    found = []
    for looks in _gatherings(samples):
        for prompt in samples.prompts():
            judged = cropper.relevance(looks, prompt)
            found += [
                (look, item) for look, item in zip(looks, judged, strict=True) if item is not None
            ]
    if not found:
        raise InapplicableError("it has no opinion on any look")
    return found
