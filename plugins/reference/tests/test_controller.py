from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from geomag.errors import ConfigError, PluginError
from geomag.registry import GRANULARITY_CONTROLLERS
from geomag.testing import check_component
from geomag.values import Level, Plan, PlanTarget, Prompt, SceneInfo, Size, Turn
from geomag_reference.controller import Controller

SCENE = SceneInfo(Size(4000, 4000), resolution=0.25)
UNKNOWN = SceneInfo(Size(4000, 4000))
TAUGHT = {
    "every ship": PlanTarget(Level.PIXEL, 0.5, 256),
    "where is it": PlanTarget(Level.REGION, 2.0, 128),
    "describe it": PlanTarget(Level.IMAGE, 8.0, 64),
}


class Sevens:
    """Plans seven views of everything, and learns nothing."""

    def __init__(self, overview_side: int) -> None:
        self.overview_side = overview_side

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return Plan(Level.REGION, self.overview_side, max_views=7)


class Parameters(nn.Module):
    """The same, with something that could be trained."""

    def __init__(self, prompt_dim: int, overview_side: int) -> None:
        super().__init__()
        self.weight = nn.Linear(prompt_dim, 1)
        self.side = overview_side

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return Plan(Level.REGION, self.side, max_views=7)


@dataclass
class Taught:
    controller: Controller
    prompts: dict[str, Prompt]


def prompt(text: str, width: int = 24) -> Prompt:
    draw = torch.Generator().manual_seed(sum(text.encode()))
    return Prompt((Turn("user", text),), torch.randn(len(text.split()), width, generator=draw))


def built(**arguments: Any) -> Controller:
    config = {"type": Controller, "width": 32, **arguments}
    made: Controller = GRANULARITY_CONTROLLERS.build(config, prompt_dim=24, overview_side=256)
    return made


def teach(controller: Controller, info: SceneInfo = SCENE) -> Taught:
    prompts = {text: prompt(text) for text in TAUGHT}
    asking = [one for one in controller.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(asking, 0.01)
    for _ in range(150):
        loss = controller.loss(list(prompts.values()), [info] * 3, list(TAUGHT.values())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Taught(controller, prompts)


@pytest.mark.parametrize("fallback", [{"type": Sevens}, {"type": Parameters}])
def test_an_untrained_one_answers_by_its_rules(fallback: Any) -> None:
    controller = built(fallback=fallback)
    for text in TAUGHT:
        for info in (SCENE, UNKNOWN):
            assert controller.plan(prompt(text), info) == Plan(Level.REGION, 256, max_views=7)
    loud = Prompt((Turn("user", "!"),), torch.full((1, 24), 1e4))
    assert controller.plan(loud, SCENE).max_views == 7


def test_without_rules_it_looks_at_everything() -> None:
    plan = built(max_views=9).plan(prompt("ships"), SCENE)
    assert plan == Plan(Level.PIXEL, 256, stop_below=None, max_views=9, max_tokens=None)


@pytest.mark.parametrize("info", [SCENE, UNKNOWN])
def test_a_trained_one_answers_by_itself(info: SceneInfo) -> None:
    taught = teach(built(fallback={"type": Sevens}, max_views=5), info)
    for text, target in TAUGHT.items():
        plan = taught.controller.plan(taught.prompts[text], info)
        assert plan.level is target.level
        assert plan.max_views == (0 if target.level is Level.IMAGE else 5)
        if target.level is not Level.IMAGE:
            assert plan.stop_below is not None
            assert abs(math.log2(plan.stop_below / target.stop_below)) < 0.5
        assert plan.max_tokens is not None
        assert abs(math.log2(plan.max_tokens / target.max_tokens)) < 0.5


def test_doubt_is_a_matter_of_confidence() -> None:
    sure = built(fallback={"type": Sevens}, confidence=0)
    assert sure.plan(prompt("ships"), SCENE).max_views != 7
    taught = teach(built(fallback={"type": Sevens}))
    taught.controller.confidence = 1.0
    assert taught.controller.plan(taught.prompts["every ship"], SCENE).max_views == 7


def test_what_it_falls_back_on_is_kept_and_not_trained() -> None:
    controller = built(fallback={"type": Parameters}).train()
    assert "fallback.weight.weight" in controller.state_dict()
    assert not controller.fallback.weight.weight.requires_grad
    assert not controller.fallback.training
    other = built(fallback={"type": "tiny/rules"})
    assert not any("fallback" in name for name in other.state_dict())
    assert other.plan(prompt("describe the scene"), SCENE).level is Level.IMAGE


def test_every_parameter_gets_a_gradient() -> None:
    controller = built()
    controller.loss([prompt("a b c")], [UNKNOWN], [TAUGHT["every ship"]]).sum().backward()
    assert all(one.grad is not None for one in controller.parameters())
    assert controller.loss([], [], []).shape == (0,)


def test_weights_have_the_type_of_the_model() -> None:
    controller = built(dtype="bfloat16")
    assert {one.dtype for one in controller.parameters()} == {torch.bfloat16}
    assert all(one.dim() for one in controller.parameters())
    assert controller.loss([prompt("a b")], [SCENE], [TAUGHT["every ship"]]).isfinite().all()


@pytest.mark.parametrize("fallback", [None, {"type": Parameters}])
def test_keeps_its_contract(fallback: Any) -> None:
    config = {"type": Controller, "width": 32, "fallback": fallback}
    assert check_component("granularity_controller", config) == []


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match="confidence=2: expected a probability"):
        built(confidence=2)
    with pytest.raises(PluginError, match="nowhere"):
        built(fallback={"type": "nowhere/rules"})
