from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from geomag.values import Level, PlanTarget, Prompt, SceneInfo, Size, Turn
from geomag_tiny.controller import Controller
from geomag_tiny.rules import Rules

SCENE = SceneInfo(Size(3000, 4000), resolution=0.3)
UNKNOWN = SceneInfo(Size(3000, 4000))
WIDTH = 48
Reader = Callable[[str], Prompt]


def prompt(text: str) -> Prompt:
    return Prompt((Turn("user", text),), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("every airplane", Level.PIXEL),
        ("Segment the ships.", Level.PIXEL),
        ("Where are all the cars? Segment them.", Level.PIXEL),
        ("the white ship at the left", Level.PIXEL),
        ("Where is the ship? Give a box.", Level.REGION),
        ("How many vehicles are there?", Level.REGION),
        ("Is there a bridge?", Level.REGION),
        ("Describe the scene.", Level.IMAGE),
        ("What does the scene show?", Level.IMAGE),
        ("Summarise what you see.", Level.IMAGE),
    ],
)
def test_rules_read_the_level_off_the_words(text: str, level: Level) -> None:
    plan = Rules(overview_side=256).plan(prompt(text), SCENE)
    assert plan.level is level
    assert plan.overview_side == 256
    assert (plan.max_views == 0) == (level is Level.IMAGE)


def test_rules_know_that_cars_are_smaller_than_lakes() -> None:
    rules = Rules(overview_side=256)
    car, lake = (rules.plan(prompt(f"every {word}"), SCENE) for word in ("car", "lake"))
    assert car.stop_below is not None
    assert lake.stop_below is not None
    assert car.stop_below <= 0.3 < lake.stop_below
    assert rules.plan(prompt("every car"), UNKNOWN).stop_below is None


def test_the_controller_learns_what_to_plan(read: Reader) -> None:
    controller = Controller(WIDTH, overview_side=128)
    wanted = {
        "every vehicle": PlanTarget(Level.PIXEL, 0.3, 256),
        "every lake": PlanTarget(Level.PIXEL, 8.0, 256),
        "Is there a ship?": PlanTarget(Level.REGION, 2.0, 128),
        "Describe the scene.": PlanTarget(Level.IMAGE, 99.0, 64),
    }
    prompts = [read(text) for text in wanted]
    optimizer = torch.optim.AdamW(controller.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        each = controller.loss(prompts, [SCENE] * 4, list(wanted.values()))
        optimizer.zero_grad()
        each.mean().backward()
        optimizer.step()
        losses.append(float(each.mean().detach()))
    assert losses[-1] < 0.1 * losses[0]
    for item, target in zip(prompts, wanted.values(), strict=True):
        plan = controller.plan(item, SCENE)
        assert plan.level is target.level
        assert plan.overview_side == 128
        assert plan.max_tokens is not None
        assert abs(math.log2(plan.max_tokens / target.max_tokens)) < 0.5
        assert plan.stop_below is not None
        if target.level is not Level.IMAGE:
            assert abs(math.log2(plan.stop_below / target.stop_below)) < 0.5


def test_metres_become_pixels_by_a_typical_resolution(read: Reader) -> None:
    controller = Controller(WIDTH, overview_side=256)
    item = read("every ship")
    known, unknown = (controller.plan(item, info).stop_below for info in (SCENE, UNKNOWN))
    assert known is not None
    assert unknown is not None
    assert unknown == pytest.approx(2 * known)


def test_a_prompt_s_loss_does_not_depend_on_the_others(read: Reader) -> None:
    controller = Controller(WIDTH, overview_side=256)
    prompts = [read("ships"), read("Where is the white ship at the left? Box it.")]
    infos, targets = [SCENE, UNKNOWN], [PlanTarget(Level.PIXEL, 1.0, 64)] * 2
    together = controller.loss(prompts, infos, targets)
    for place in range(2):
        alone = controller.loss(prompts[place:][:1], infos[place:][:1], targets[:1])
        torch.testing.assert_close(together[place], alone[0], atol=1e-6, rtol=1e-6)
    assert controller.loss([], [], []).shape == (0,)
