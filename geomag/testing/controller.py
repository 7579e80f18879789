"""What a granularity controller promises (TMRA).

Letters: P prompt width, T tokens, B prompts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Learning
from ..values import Level, Plan, PlanTarget, Prompt, SceneInfo, Size
from .checks import expect, expect_none, needs, promise
from .comparison import CLOSE, differences
from .samples import TEXTS, Samples, conversation
from .subject import Subject

STEPS = 200
LOOK_EVERY = 20
RATE = 0.01


@promise("granularity_controller")
def check_any_prompt_and_scene(build: Subject) -> None:
    """It plans for any prompt and any scene: one word or hundreds, one pixel or a million squared,
    any number of bands, the resolution known or not."""
    controller = build()
    for prompt, info in _situations(build.samples(controller)):
        plan = controller.plan(prompt, info)
        expect(isinstance(plan, Plan), f"plan() returned {type(plan).__name__}, expected a Plan")


@promise("granularity_controller")
def check_level_is_a_level(build: Subject) -> None:
    """The level of a plan is one of `Level`."""
    controller = build()
    for prompt, info in _situations(build.samples(controller)):
        level = controller.plan(prompt, info).level
        expect(isinstance(level, Level), f"level is {level!r}, expected a Level")


@promise("granularity_controller")
def check_overview_side_is_kept(build: Subject) -> None:
    """It plans with the overview side of its model."""
    samples = build.samples(build())
    # An instance has been told already.
    sides = (samples.side, 2 * samples.side) if isinstance(build.config, dict) else (samples.side,)
    for side in sides:
        controller = build(overview_side=side)
        for prompt, info in _situations(samples):
            planned = controller.plan(prompt, info).overview_side
            expect(planned == side, f"overview_side is {planned}, the model's is {side}")


@promise("granularity_controller")
def check_budgets_make_sense(build: Subject) -> None:
    """`max_views` is a whole number of at least 0, or infinite; `max_tokens` at least 1, or None;
    `stop_below` above 0 and finite, or None."""
    controller = build()
    for prompt, info in _situations(build.samples(controller)):
        expect_none(_faults(controller.plan(prompt, info)))


@promise("granularity_controller")
def check_loss_of_each_prompt(build: Subject) -> None:
    """Where it learns, its loss is one finite number for each prompt, `[B]`."""
    controller = _learning(build)
    loss = controller.loss(*_lessons(build.samples(controller)))
    expect(loss.shape == (len(TEXTS),), f"loss is {list(loss.shape)}, expected [{len(TEXTS)}]")
    expect(loss.isfinite().all(), "loss is not finite")


@promise("granularity_controller")
def check_prompts_do_not_mix(build: Subject) -> None:
    """The loss of a prompt does not depend on the other prompts of its batch."""
    controller = _learning(build)
    prompts, infos, targets = _lessons(build.samples(controller))
    together = controller.loss(prompts, infos, targets)
    for place in range(len(prompts)):
        part = slice(place, place + 1)
        alone = controller.loss(prompts[part], infos[part], targets[part])
        found = differences({"loss": together[part]}, {"loss": alone}, CLOSE)
        expect_none([f"alone, {problem}" for problem in found])


@promise("granularity_controller")
def check_plans_what_it_learnt(build: Subject) -> None:
    """Where it learns, a prompt gets the plan it was taught: the level, and `stop_below` within a
    factor of two, in metres where the scene's resolution is known."""
    samples = build.samples(build())
    prompt = samples.prompts()[0]
    known = SceneInfo(samples.scene, samples.facts.bands, resolution=0.1)
    unknown = SceneInfo(samples.scene, samples.facts.bands)
    for info, target in (
        (known, PlanTarget(Level.PIXEL, 0.6, 256)),
        (unknown, PlanTarget(Level.REGION, 4.0, 128)),
        (known, PlanTarget(Level.IMAGE, 2.0, 64)),
    ):
        controller = _learning(build)
        _teach(controller, prompt, info, target)
        expect_none(_missed(controller.plan(prompt, info), info, target))


def _teach(controller: Any, prompt: Prompt, info: SceneInfo, target: PlanTarget) -> None:
    needs(isinstance(controller, nn.Module), "it is no torch module")
    trained = [value for value in controller.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, RATE)
    with torch.enable_grad():
        for step in range(STEPS):
            optimizer.zero_grad()
            loss: Tensor = controller.loss([prompt], [info], [target]).sum()
            loss.backward()
            optimizer.step()
            if step % LOOK_EVERY == 0 and not _missed(controller.plan(prompt, info), info, target):
                break


def _missed(plan: Plan, info: SceneInfo, target: PlanTarget) -> list[str]:
    """How a plan is not what was taught."""
    missed = []
    if plan.level != target.level:
        missed.append(f"taught level {target.level}, it plans {plan.level}")
    if target.level is Level.IMAGE:  # the overview alone needs no resolution
        return missed
    stop = (info.resolution or 1.0) if plan.stop_below is None else plan.stop_below
    if abs(math.log2(stop / target.stop_below)) > 1:
        missed.append(
            f"taught stop_below={target.stop_below} at a resolution of {info.resolution}, "
            f"it plans {plan.stop_below}"
        )
    return missed


def _learning(build: Subject) -> Any:
    controller = build()
    needs(isinstance(controller, Learning), "it does not learn: it has no loss()")
    return controller


def _lessons(samples: Samples) -> tuple[list[Prompt], list[SceneInfo], list[PlanTarget]]:
    bands = samples.facts.bands
    infos = [
        samples.info,
        SceneInfo(Size(300, 200), bands),
        SceneInfo(Size(9000, 20), bands, resolution=10.0),
        SceneInfo(samples.scene, bands),
    ]
    return samples.prompts(), infos, samples.plan_targets()


def _situations(samples: Samples) -> list[tuple[Prompt, SceneInfo]]:
    long = " ".join(TEXTS * 12)
    texts = ("?", "every airplane", long)
    prompts = samples.prompts(texts)
    if samples.reader is None:
        width = samples.facts.prompt_dim
        loud = samples.normal("prompt.embedding", 1, width) * 100
        prompts.append(Prompt(conversation("loud"), loud))
    infos = [
        SceneInfo(Size(height, width), bands, resolution)
        for height, width, bands, resolution in (
            (1, 1, 3, None),
            (1, 1, 3, 0.3),
            (64, 64, 3, 0.05),
            (1, 100_000, 1, None),
            (1_000_000, 1_000_000, 4, 0.1),
            (600, 800, 3, 1000.0),
            (600, 800, 3, None),
        )
    ]
    return [(prompt, info) for prompt in prompts for info in infos]


def _faults(plan: Plan) -> list[str]:
    faults = []
    views, tokens, stop = plan.max_views, plan.max_tokens, plan.stop_below
    if not (views >= 0 and (math.isinf(views) or float(views).is_integer())):
        faults.append(f"max_views is {views}, expected a whole number of at least 0, or inf")
    if tokens is not None and not (isinstance(tokens, int) and tokens >= 1):
        faults.append(f"max_tokens is {tokens!r}, expected an int of at least 1, or None")
    if stop is not None and not 0 < stop < math.inf:
        faults.append(f"stop_below is {stop}, expected a number above 0, or None")
    return faults
