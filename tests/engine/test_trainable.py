"""What stands between a GeoMag and mmengine's Runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

from geomag.contracts import Scene, Shape
from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled, collate
from geomag.engine.trainable import Answering, Trainable, build
from geomag.engine.trainable import outcome as outcome_of
from geomag.errors import ConfigError, GeoMagError
from geomag.limits import AS_PLANNED, Limits
from geomag.masks import SceneMask
from geomag.model import Findings, GeoMag, LookCache, Observation
from geomag.tile import Tile
from geomag.values import (
    SEG,
    Box,
    Conversation,
    Level,
    Plan,
    Prompt,
    Reading,
    Size,
    TrainingSample,
    View,
)

SMALL = Config.fromfile(Path(__file__).with_name("small.py")).model
SCENES = DrawnScenes(length=2, size=(120, 200))


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return build(SMALL)


def test_a_step_descends_the_sum_of_the_losses(model: Any) -> None:
    trainable = Trainable(model)
    sampled = ViewSampled(SCENES, side=64, exchanges=2)
    batch = collate([sampled[0], sampled[1]])
    wrapper = OptimWrapper(torch.optim.SGD(trainable.parameters(), lr=1e-3))
    logged = [trainable.train_step(batch, wrapper) for _ in range(3)]
    for losses in logged:
        assert list(losses) == ["loss", "loss_text", "loss_mask", "loss_relevance", "loss_plan"]
        parts = [losses[name] for name in losses if name != "loss"]
        assert losses["loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert logged[2]["loss"] < logged[0]["loss"]


def test_loss_weights_change_what_is_descended_not_what_is_called_a_loss(model: Any) -> None:
    trainable = Trainable(model, loss_weights={"loss_mask": 3, "loss_plan": 0})
    losses = {"loss_text": torch.tensor(1.0), "loss_mask": torch.tensor(2.0)}
    total, logged = trainable.parse_losses({**losses, "loss_plan": torch.tensor(5.0)})
    assert float(total) == 1 + 3 * 2
    assert logged == {"loss": 7, "loss_text": 1, "loss_mask": 2, "loss_plan": 5}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training(model: Any, value: float) -> None:
    with pytest.raises(GeoMagError, match=r"loss_mask (nan|inf)"):
        Trainable(model).parse_losses({"loss_mask": torch.tensor(value)})


def test_initialisation_leaves_the_weights_alone(model: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Trainable(model).init_weights()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_exchanges_of_a_sample_share_its_looks(model: Any) -> None:
    sample = SCENES[0]
    examined = Trainable(model, max_views=3).eval().test_step(collate([sample]))[0]
    assert len(examined.outcomes) == len(sample.exchanges) > 3
    first, *others = examined.outcomes
    assert first.new_views == 1 + first.views
    every: set[View] = set()
    for found, outcome in zip(examined.findings, examined.outcomes, strict=True):
        views = {look.view for look in found.observation.looks}
        assert outcome.new_views == len(views - every)
        every |= views
    assert sum(one.new_views for one in others) < sum(1 + one.views for one in others)


def test_outcome_compares_with_what_the_exchange_means(model: Any) -> None:
    sample = SCENES[0]
    outcomes = Trainable(model).eval().test_step(collate([sample]))[0].outcomes
    tasks = set()
    for exchange, outcome in zip(sample.exchanges, outcomes, strict=True):
        meant = {place for places in exchange.instances for place in places}
        area = sum(sample.shapes[place].area for place in meant)
        assert outcome.overlap.truth == pytest.approx(area, rel=0.1)
        assert outcome.refused == (outcome.overlap.predicted == 0)
        assert (outcome.name, outcome.reply) == (sample.name, exchange.reply.text)
        tasks.add((outcome.task, area > 0))
    assert {("class", True), ("absent", False)} <= tasks


class Informed(torch.nn.Module):
    """A cropper that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Sequence[Shape]] = []

    def bind(self, targets: Sequence[Shape]) -> None:
        self.told.append(targets)

    def relevance(self, looks: Sequence[Any], prompt: Any) -> list[None]:
        return [None] * len(looks)

    def rank(
        self, looks: Sequence[Any], relevance: Sequence[Any], candidates: Sequence[Any], plan: Any
    ) -> Sequence[Any]:
        return []


def test_truth_is_told_for_one_prompt_at_a_time() -> None:
    cropper = Informed()
    trainable = Trainable({**SMALL, "cropper": cropper}).eval()
    sample = SCENES[1]
    trainable.test_step(collate([replace(sample, exchanges=sample.exchanges[:2])]))
    expected: list[list[Shape]] = []
    for exchange in sample.exchanges[:2]:
        expected += [[sample.shapes[place] for place in exchange.relevant], []]
    assert [list(told) for told in cropper.told] == expected


@MODELS.register_module()
class Guess(torch.nn.Module):
    """Trains and answers as a GeoMag does, and is none: marks all of a scene, or nothing."""

    def __init__(self, sure: float = 0.0) -> None:
        super().__init__()
        self.sure = torch.nn.Parameter(torch.tensor(float(sure)))
        self.asked: list[tuple[Limits, float]] = []

    def loss(self, samples: Sequence[TrainingSample]) -> dict[str, torch.Tensor]:
        return {"loss_guess": (self.sure - len(samples)) ** 2}

    def answer(
        self,
        scene: Scene,
        conversation: Conversation,
        looks: LookCache,
        limits: Limits = AS_PLANNED,
        threshold: float = 0.5,
    ) -> Findings:
        self.asked.append((limits, threshold))
        size = scene.info.size
        return answered(
            size, [(self.sure.item(), np.full((size.height, size.width), 255, np.uint8))]
        )


class Mute(torch.nn.Module):
    """Learns, but cannot be asked."""

    def loss(self, samples: Sequence[TrainingSample]) -> dict[str, torch.Tensor]:
        return {}


def answered(size: Size, masks: Sequence[tuple[float, Any]]) -> Findings:
    """What an answer with such masks, (score, levels or nothing), leaves behind."""
    view = View(Box(0, 0, size.width, size.height), size, size)
    drawn = tuple(
        SceneMask(size, () if levels is None else (Tile(view, levels),), place, score)
        for place, (score, levels) in enumerate(masks)
    )
    prompt = Prompt((), torch.zeros(1, 1))
    reading = Reading(f"Here. {SEG}", torch.zeros(len(drawn), 1))
    return Findings(prompt, Plan(Level.PIXEL, 8), Observation((), (), 0), 0, reading, drawn, ())


def test_another_model_trains_and_is_tested_by_the_same_steps() -> None:
    trainable = Trainable({"type": Guess, "sure": 0.5}, max_views=3, threshold=0.25)
    wrapper = OptimWrapper(torch.optim.SGD(trainable.parameters(), lr=0.1))
    sampled = ViewSampled(SCENES, side=64, exchanges=2)
    batch = collate([sampled[0], sampled[1]])
    logged = [trainable.train_step(batch, wrapper) for _ in range(2)]
    assert logged[0] == {"loss": 2.25, "loss_guess": 2.25}
    assert logged[1]["loss"] < 2.25
    sample = SCENES[0]
    examined = trainable.eval().test_step(collate([sample]))[0]
    assert len(examined.outcomes) == len(sample.exchanges)
    assert trainable.model.asked == [(Limits(max_views=3), 0.25)] * len(sample.exchanges)
    assert {one.overlap.predicted for one in examined.outcomes} == {sample.scene.info.size.area}
    assert {one.score for one in examined.outcomes} == {trainable.model.sure.item()}


@pytest.mark.parametrize("name", [Guess, "Guess", f"{__name__}.Guess"])
def test_a_config_names_another_model_by_class_or_by_name(name: object) -> None:
    """The last is how a run spells it in the config that it leaves behind."""
    built = build({"type": name, "sure": 2})
    assert type(built).__name__ == "Guess"
    assert built.sure.item() == 2  # type: ignore[attr-defined]
    assert isinstance(built, Answering)


@pytest.mark.parametrize("name", [None, GeoMag, "GeoMag", "geomag.model.GeoMag"])
def test_a_geomag_goes_by_any_of_its_names(name: object) -> None:
    named = {} if name is None else {"type": name}
    slots = {key: value for key, value in SMALL.items() if key != "type"}
    assert type(build({**slots, **named, "presence": 0.25})) is GeoMag


def test_a_model_that_is_built_already_is_taken_as_it_is(model: Any) -> None:
    guess = Guess()
    assert build(guess) is guess
    assert build(model) is model


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"type": "Nothing"}, "model: its type is Nothing, expected GeoMag"),
        ({"type": Mute}, "model: its type is Mute, expected GeoMag, or a module with loss"),
        (Mute(), "model: its type is Mute"),
    ],
)
def test_what_cannot_be_asked_is_no_model(config: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        build(config)


def test_an_outcome_is_as_sure_as_the_surest_mask() -> None:
    sample = SCENES[0]
    size, exchange = sample.scene.info.size, sample.exchanges[0]
    everything = np.full((size.height, size.width), 255, np.uint8)
    cases: list[tuple[list[tuple[float, Any]], float, bool]] = [
        ([], 0.0, True),
        ([(0.25, everything)], 0.25, False),
        ([(0.25, everything), (0.75, everything), (0.5, everything)], 0.75, False),
        # What presence emptied still says how sure it was.
        ([(0.375, None)], 0.375, True),
    ]
    for masks, score, refused in cases:
        noted = outcome_of(sample, exchange, answered(size, masks))
        assert (noted.score, noted.refused) == (score, refused)
