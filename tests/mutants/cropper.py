"""Mutants of the cropper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomag.values import Box, Look, Plan, Prompt, View
from geomag_tiny.cropper import Cropper
from tests.mutants.catalogue import mutant

KIND = "cropper"
Looks, Maps, Views = Sequence[Look], Sequence[Tensor | None], Sequence[View]
JUDGED = (
    "check_relevance_is_a_map",
    "check_relevance_is_a_share",
)


@mutant(KIND)
class Reluctant(Cropper):
    """No mutant: it may find that it has seen enough."""

    def rank(self, looks: Looks, relevance: Maps, candidates: Views, plan: Plan) -> Views:
        return super().rank(looks, relevance, candidates, plan)[:5]


class _Judging(Cropper):
    """Changes the maps of another cropper; its ranking stays what it was."""

    def relevance(self, looks: Looks, prompt: Prompt) -> Any:
        return [
            self.change(item, place) for place, item in enumerate(super().relevance(looks, prompt))
        ]

    def change(self, opinion: Any, place: int) -> Any:
        raise NotImplementedError


class _Ranking(Cropper):
    """Looks at everything, in an order of its own."""

    def rank(self, looks: Looks, relevance: Maps, candidates: Views, plan: Plan) -> Views:
        return self.change(list(candidates), looks, plan)

    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        raise NotImplementedError


@mutant(KIND, "check_works_as_promised", "check_relevance_is_a_share")
class Endless(_Judging):
    def change(self, opinion: Tensor, place: int) -> Tensor:
        corner = torch.zeros_like(opinion, dtype=torch.bool)
        corner[-1, -1] = True
        return opinion.masked_fill(corner, torch.inf)


@mutant(KIND, "check_one_opinion_a_look", *JUDGED)
class SaysMore(Cropper):
    def relevance(self, looks: Looks, prompt: Prompt) -> list[Tensor | None]:
        return [*super().relevance(looks, prompt), None]


@mutant(KIND, "check_relevance_is_a_map")
class WholeLook(_Judging):
    """One number for the whole look, where a map is promised, and no ranking by it."""

    def change(self, opinion: Tensor, place: int) -> Tensor:
        return opinion[None]

    def rank(self, looks: Looks, relevance: Maps, candidates: Views, plan: Plan) -> Views:
        return candidates


@mutant(KIND, "check_relevance_is_a_map", "check_relevance_lies_where_it_was_seen")
class SquashesMaps(_Judging):
    def change(self, opinion: Tensor, place: int) -> Tensor:
        return opinion[: len(opinion) // 2]


@mutant(KIND, "check_relevance_is_a_share")
class HandsOutLogits(_Judging):
    def change(self, opinion: Tensor, place: int) -> Tensor:
        return torch.logit(opinion, eps=1e-6)


@mutant(KIND, "check_relevance_lies_where_it_was_seen")
class SwapsAxes(_Judging):
    def change(self, opinion: Tensor, place: int) -> Tensor:
        return opinion.T


@mutant(KIND, "check_order_of_looks_does_not_matter")
class TiresQuickly(_Judging):
    def change(self, opinion: Tensor, place: int) -> Tensor:
        return opinion / (1 + place)


@mutant(KIND, "check_order_of_looks_does_not_matter")
class FollowsTheLast(_Ranking):
    """Ranks by the distance to the look that was handed over last."""

    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        last = looks[-1].view.box
        return sorted(
            ranked, key=lambda view: math.dist((view.box.left, view.box.top), (last.left, last.top))
        )


@mutant(KIND, "check_nothing_is_made_up")
class MakesUpViews(_Ranking):
    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        def shifted(view: View) -> View:
            box = view.box
            return View(Box(box.left, box.top, box.right - 1, box.bottom), view.size, view.scene)

        return [shifted(view) for view in ranked[:1]] + ranked[1:]


@mutant(KIND, "check_nothing_is_named_twice")
class RepeatsItself(_Ranking):
    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        return ranked[:1] + ranked


@mutant(KIND, "check_no_candidates")
class LooksAgain(_Ranking):
    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        return ranked or [looks[0].view]


@mutant(KIND, "check_ranking_ignores_budgets")
class SpendsTheBudget(_Ranking):
    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        return ranked if math.isinf(plan.max_views) else ranked[: int(plan.max_views)]


@mutant(KIND, "check_ranking_ignores_budgets")
class CountsTokens(_Ranking):
    """Few tokens left: the far end first."""

    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        return ranked if plan.max_tokens is None else ranked[::-1]


@mutant(KIND, "check_ranking_is_of_its_arguments")
class RemembersThePrompt(_Ranking):
    def relevance(self, looks: Looks, prompt: Prompt) -> list[Tensor | None]:
        self.reverse = len(prompt.text) % 2
        return super().relevance(looks, prompt)

    def change(self, ranked: list[View], looks: Looks, plan: Plan) -> list[View]:
        return ranked[::-1] if self.reverse else ranked
