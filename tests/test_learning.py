"""One training step of the frame, with the simplest components."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geomag import geometry
from geomag.errors import ContractError
from geomag.model import GeoMag
from geomag.values import Exchange, Level, Reply, SceneInfo, Size, TrainingSample, Turn
from tests.stand_ins import Noise
from tests.test_model import SIDE, model_with

NAMES = {"loss_text", "loss_mask", "loss_relevance", "loss_plan"}


def sample(*instances: tuple[tuple[int, ...], ...], seed: int = 0) -> TrainingSample:
    """The overview and one tile of a scene, and one exchange for each of `instances`."""
    size = Size(SIDE * 4, SIDE * 4)
    views = (geometry.overview(size, SIDE), geometry.tiles(size, SIDE, 1)[5])
    read = [Noise(size, seed).read(view, SIDE) for view in views]
    masks = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    for place in range(3):
        masks[:, place, place : place + 3] = 255
    exchanges = [
        Exchange(
            (Turn("user", "which"),),
            Reply("Here. [SEG]" * len(named)),
            Level.PIXEL,
            instances=named,
            relevant=tuple(row for rows in named for row in rows),
        )
        for named in instances
    ]
    return TrainingSample(
        info=SceneInfo(size),
        views=views,
        pixels=torch.stack([(item.pixels * 255).to(torch.uint8) for item in read]),
        valid=torch.stack([item.valid for item in read]),
        masks=masks,
        exchanges=tuple(exchanges),
    )


def step(model: GeoMag, *samples: TrainingSample) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in model.loss(samples).items()}


def test_a_step_is_the_mean_of_its_samples() -> None:
    """So a step over two processes equals one over both shares."""
    model = model_with()
    first = sample(((0,),), ((1, 2),), seed=1)
    second = sample(((2,), (0,)), seed=2)
    third = sample((), (), seed=3)
    alone = [step(model, one) for one in (first, second, third)]
    together = step(model, first, second, third)
    assert set(together) == NAMES
    for name in NAMES:
        expected = sum(one[name] for one in alone) / 3
        assert together[name] == pytest.approx(expected, abs=1e-5), name


def test_prompts_of_a_sample_do_not_change_each_others_losses() -> None:
    model = model_with()
    both = step(model, sample(((0,),), ((1,), (2,))))
    apart = [step(model, sample(((0,),))), step(model, sample(((1,), (2,))))]
    for name in NAMES:
        assert both[name] == pytest.approx(sum(one[name] for one in apart) / 2, abs=1e-5), name


@pytest.mark.parametrize("instances", [((),), (((0,),),), ((), ((0,), (1,)))])
def test_every_weight_gets_a_gradient_with_and_without_masks(instances: object) -> None:
    model = model_with()
    sum(model.loss([sample(*instances)]).values()).backward()  # type: ignore[union-attr,misc]
    missing = [name for name, one in model.named_parameters() if one.grad is None]
    assert not missing


def test_no_masks_cost_nothing() -> None:
    assert step(model_with(), sample(()))["loss_mask"] == 0


def test_queries_that_do_not_fit_the_text_name_the_adapter() -> None:
    broken = sample(((0,),))
    wrong = replace(broken.exchanges[0], reply=Reply("[SEG] [SEG]"))
    with pytest.raises(ContractError, match=r"Parrot.*2 queries for 1 \[SEG\]"):
        model_with().loss([replace(broken, exchanges=(wrong,))])
