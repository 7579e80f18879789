"""What stands between a GeoMag and mmengine's Runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from geomag.contracts import Shape
from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled, collate
from geomag.engine.trainable import Trainable, build
from geomag.errors import GeoMagError
from geomag.values import View

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
