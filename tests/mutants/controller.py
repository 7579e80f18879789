"""Mutants of the granularity controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from geomag.values import Plan, PlanTarget, Prompt, SceneInfo
from geomag_tiny.controller import Controller
from tests.mutants.catalogue import mutant

KIND = "granularity_controller"
Prompts, Infos, Targets = Sequence[Prompt], Sequence[SceneInfo], Sequence[PlanTarget]


@mutant(KIND)
class Generous(Controller):
    """No mutant: twice the tokens is a plan as well."""

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        plan = super().plan(prompt, info)
        return replace(plan, max_tokens=2 * (plan.max_tokens or 64))


@mutant(KIND, "check_works_as_promised", "check_loss_of_each_prompt")
class Endless(Controller):
    def loss(self, prompts: Prompts, infos: Infos, targets: Targets) -> Tensor:
        finite = torch.tensor([target.max_tokens < 256 for target in targets])
        return torch.where(finite, super().loss(prompts, infos, targets), torch.inf)


@mutant(KIND, "check_any_prompt_and_scene")
class Evasive(Controller):
    """Plans for the largest scenes in a form of its own."""

    def plan(self, prompt: Prompt, info: SceneInfo) -> Any:
        plan = super().plan(prompt, info)
        if info.size.area < 1e9:
            return plan
        return SimpleNamespace(**{field.name: getattr(plan, field.name) for field in fields(plan)})


@mutant(
    KIND,
    "check_any_prompt_and_scene",
    "check_level_is_a_level",
    "check_overview_side_is_kept",
    "check_budgets_make_sense",
)
class NeedsManyPixels(Controller):
    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        if info.size.area == 1:
            raise ValueError("too small")
        return super().plan(prompt, info)


@mutant(KIND, "check_level_is_a_level")
class PlainLevel(Controller):
    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        plan = super().plan(prompt, info)
        return replace(plan, level=str(plan.level))  # type: ignore[arg-type]


@mutant(KIND, "check_overview_side_is_kept")
class OwnOverview(Controller):
    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return replace(super().plan(prompt, info), overview_side=64)


@mutant(KIND, "check_budgets_make_sense")
class NegativeViews(Controller):
    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return replace(super().plan(prompt, info), max_views=-1)


@mutant(KIND, "check_budgets_make_sense")
class HalfViews(Controller):
    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return replace(super().plan(prompt, info), max_views=2.5)


@mutant(KIND, "check_budgets_make_sense")
class NoTokens(Controller):
    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return replace(super().plan(prompt, info), max_tokens=0)


@mutant(KIND, "check_loss_of_each_prompt", "check_prompts_do_not_mix")
class OneLoss(Controller):
    def loss(self, prompts: Prompts, infos: Infos, targets: Targets) -> Tensor:
        return super().loss(prompts, infos, targets).mean()


@mutant(KIND, "check_prompts_do_not_mix")
class SharedLoss(Controller):
    def loss(self, prompts: Prompts, infos: Infos, targets: Targets) -> Tensor:
        losses = super().loss(prompts, infos, targets)
        return losses + 0.1 * losses.mean()


@mutant(KIND, "check_plans_what_it_learnt")
class WrongUnit(Controller):
    """Plans in scene pixels what it learnt in metres."""

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        plan = super().plan(prompt, info)
        return replace(plan, stop_below=(plan.stop_below or 1) / (info.resolution or 1))


@mutant(KIND, "check_plans_what_it_learnt")
class LearnsTheOpposite(Controller):
    def loss(self, prompts: Prompts, infos: Infos, targets: Targets) -> Tensor:
        return -super().loss(prompts, infos, targets)
