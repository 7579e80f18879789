"""What it is worth that a prompt chooses where to look: answers from a bounded number of tiles.

Budgets count the finest tiles, those at the scene's own resolution; the coarser views on the way to
them come on top. What was seen of a scene is kept while that scene is asked about, and no longer.
"""

from __future__ import annotations

import inspect
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .. import geometry
from ..contracts import Cropper, GranularityController, Scene
from ..data.facts import Facts
from ..data.instructions import segment
from ..data.samples import Kind, LabelledSample
from ..errors import DataError
from ..limits import Limits
from ..model import Findings, GeoMag
from ..values import Conversation, Look, Plan, Prompt, SceneInfo, View
from .budgets import Target, enough, targets, tiles_for, views_for
from .controls import BlankScene
from .outcomes import compare

AS_IS, RANDOM = "as is", "random"
"""Names of arms: the model as it is, and with a cropper that ranks by chance."""
REPEATS = 5
"""How often one view is encoded to say how long that takes."""


class ToNative(nn.Module):
    """Plans as another controller does, but down to native resolution and without a bound on views.

    Level and tokens stay as planned, because the language model was trained with them.
    """

    def __init__(self, controller: GranularityController) -> None:
        super().__init__()
        self.controller = controller

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return replace(self.controller.plan(prompt, info), stop_below=None, max_views=math.inf)


class Reordered(nn.Module):
    """Judges looks as one cropper does and orders views as another: the places alone are changed,
    and tokens are still spent by the prompt's relevance."""

    def __init__(self, judging: Cropper, ordering: Cropper) -> None:
        super().__init__()
        self.judging, self.ordering = judging, ordering

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return self.judging.relevance(looks, prompt)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return self.ordering.rank(looks, relevance, candidates, plan)


def rebuilt(model: GeoMag, **parts: Any) -> GeoMag:
    """The model with some of its slots filled by other components; the rest is shared, no copy."""
    # It keeps every argument under its name.
    same = {name: getattr(model, name) for name in inspect.signature(GeoMag).parameters}
    return GeoMag(**(same | parts)).eval()


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One way to ask: a model that plans `ToNative`, granted each of some `shares` of the finest
    tiles (0 is the overview alone), shown the scene or a `blanked` one, asked for the class that is
    meant or, `swapped`, for the next one."""

    name: str
    model: GeoMag
    shares: tuple[float, ...]
    blanked: bool = False
    swapped: bool = False


def to_native(model: GeoMag) -> GeoMag:
    """The model, planning `ToNative`."""
    return rebuilt(model, granularity_controller=ToNative(model.granularity_controller))


def controls(model: GeoMag, chance: Cropper, share: float) -> list[Arm]:
    """A model as it is, and robbed of what it should need to choose where to look: of relevance,
    which `chance` ranks without, and of that for the places alone; of the prompt; of the image."""
    elsewhere = rebuilt(model, cropper=Reordered(model.cropper, chance))
    shares = (share,)
    return [
        Arm(AS_IS, model, shares),
        Arm(RANDOM, rebuilt(model, cropper=chance), shares),
        Arm("random places", elsewhere, shares),
        Arm("prompt swapped", model, shares, swapped=True),
        Arm("image blanked", model, shares, blanked=True),
    ]


@dataclass(frozen=True, slots=True)
class ViewCost:
    """What one whole view costs: FLOPs of encoding it, seconds of reading and encoding it."""

    flops: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Answered:
    """How one pair of a mosaic and a class that is there went, in one arm and at one share.

    `wanted` finest tiles were granted and `finest` looked at, fewer where the cropper had seen
    enough. `target` counts the scene pixels of the class, `covered` those in the finest tiles that
    were looked at. `views` and `encoded`, their pixels, include the overview; `scene` has so many.
    `flops` and `seconds` are those of an answer for which nothing was seen before; None where they
    were not measured.
    """

    mosaic: str
    label: str
    prompt: str
    arm: str
    share: float
    wanted: int
    finest: int
    target: int
    covered: int
    views: int
    encoded: int
    scene: int
    iou: float
    refused: bool
    flops: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A prompt about a scene, put to one model; `looks` keeps what was seen of the scene."""

    model: GeoMag
    scene: Scene
    conversation: Conversation
    looks: dict[View, Look]
    threshold: float

    def answer(self, max_views: int) -> Findings:
        findings: Findings = self.model.answer(
            self.scene, self.conversation, self.looks, Limits(max_views), self.threshold
        )
        return findings

    @torch.inference_mode()
    def order(self, max_views: int) -> list[View]:
        """The views that are looked at, the overview first; a smaller budget's are a prefix."""
        prompt = self.model.llm_adapter.read([self.conversation])[0]
        plan = self.model.granularity_controller.plan(prompt, self.scene.info)
        plan = replace(plan, max_views=max_views)
        seen = self.model.observe(self.scene, prompt, plan, self.looks)
        return [look.view for look in seen.looks]

    def flops(self, max_views: int) -> int:
        """Of everything but the encoder, where all views were seen before."""
        with FlopCounterMode(display=False) as counter:
            self.answer(max_views)
        return int(counter.get_total_flops())


def answers(
    sample: LabelledSample,
    arms: Sequence[Arm],
    threshold: float = 0.5,
    cost: ViewCost | None = None,
) -> Iterator[Answered]:
    """Asks for every class that is there, in every arm and at every share of it.

    A class of which no pixel is there is left out. Given the `cost` of a view, FLOPs and seconds
    are measured too, which takes a further answer each.
    """
    scenes = {False: sample.scene, True: BlankScene(sample.scene)}
    looks: dict[bool, dict[View, Look]] = {False: {}, True: {}}
    facts = Facts(sample)
    for target in targets(sample, arms[0].model.overview_side):
        for arm in arms:
            asked = following(sample.kinds, target.kind) if arm.swapped else target.kind
            question = Question(
                arm.model,
                scenes[arm.blanked],
                segment(facts, asked).conversation,
                looks[arm.blanked],
                threshold,
            )
            yield from _in_arm(question, arm, target, sample.name, cost)


def _in_arm(
    question: Question, arm: Arm, target: Target, mosaic: str, cost: ViewCost | None
) -> Iterator[Answered]:
    size = question.scene.info.size
    granted = [tiles_for(share, len(target.held)) for share in arm.shares]
    order = question.order(enough(size, arm.model.overview_side, max(granted)))
    for share, wanted in zip(arm.shares, granted, strict=True):
        max_views = views_for(order, target.held, wanted)
        began = time.perf_counter()
        findings = question.answer(max_views)
        seconds = time.perf_counter() - began
        overlap = compare(findings.masks, target.shapes, size)
        views = [look.view for look in findings.observation.looks]
        yield Answered(
            mosaic=mosaic,
            label=target.kind.name,
            prompt=question.conversation[-1].text,
            arm=arm.name,
            share=share,
            wanted=wanted,
            finest=sum(view in target.held for view in views),
            target=sum(target.held.values()),
            covered=sum(target.held.get(view, 0) for view in views),
            views=len(views),
            encoded=sum(view.size.area for view in views),
            scene=size.area,
            iou=overlap.intersection / max(overlap.union, 1),
            refused=not overlap.predicted,
            flops=question.flops(max_views) + len(views) * cost.flops if cost else None,
            seconds=seconds + len(views) * cost.seconds if cost else None,
        )


def following(kinds: Sequence[Kind], kind: Kind) -> Kind:
    """The next class in a list that goes round.

    Raises:
        DataError: there is no other one.
    """
    names = [one.name for one in kinds]
    after = kinds[(names.index(kind.name) + 1) % len(kinds)]
    if after.name == kind.name:
        raise DataError(f"there is no other class than {kind.name!r} to ask for")
    return after


def view_cost(model: GeoMag, scene: Scene) -> ViewCost:
    """Measures a whole view of a scene: the median of some repeats, after one that warms up."""
    side, chunk = model.overview_side, model.encode_chunk
    view = geometry.tiles(scene.info.size, side, 1)[0]
    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            model.encode([view] * chunk, [scene.read(view, side) for _ in range(chunk)])
            if model.device.type != "cpu":
                torch.accelerator.synchronize()
            seconds.append((time.perf_counter() - began) / chunk)
        with FlopCounterMode(display=False) as counter:
            model.encode([view] * chunk, [scene.read(view, side) for _ in range(chunk)])
    return ViewCost(counter.get_total_flops() / chunk, statistics.median(seconds[1:]))
