"""What the yardstick learns from, worked out by hand, and that it trains as a GeoMag does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled, collate
from geomag.engine.trainable import Trainable, build
from geomag.geometry import overview
from geomag.scenes.array import ArrayScene
from geomag.values import Exchange, Level, Reply, Size, TrainingSample, Turn
from geomag_baselines.channels import MARKED, ClassChannels

from .stand_ins import BLUE, RED, Region, painted, reader

TINY = {
    "type": "tiny/encoder",
    "embed_dims": (16, 24, 32),
    "widths": (16, 16, 24, 32, 48),
    "heads": 3,
}


def sample_of(
    array: NDArray[np.uint8], labels: Sequence[str], masks: Tensor, valid: Tensor | None = None
) -> TrainingSample:
    """One view of a square scene; `masks [I, h, w]` in [0, 1]."""
    side = array.shape[0]
    size = Size(side, side)
    everywhere = torch.ones(side, side, dtype=torch.bool)
    return TrainingSample(
        info=ArrayScene(array).info,
        views=(overview(size, side),),
        pixels=torch.from_numpy(array).permute(2, 0, 1)[None].clone(),
        valid=(everywhere if valid is None else valid)[None],
        masks=(masks * 255).round().to(torch.uint8)[None],
        exchanges=(Exchange((Turn("user", "a"),), Reply("b"), Level.PIXEL),),
        labels=tuple(labels),
    )


def blocks(side: int, *regions: Region) -> Tensor:
    masks = torch.zeros(len(regions), side, side)
    for place, (top, left, height, width) in enumerate(regions):
        masks[place, top : top + height, left : left + width] = 1
    return masks


def test_losses_are_those_worked_out_by_hand() -> None:
    """Everything dark, so every logit is -1; two of the classes are there."""
    model = reader()
    with torch.no_grad():
        model.decide.bias.fill_(-1)
    masks = blocks(32, (0, 0, 4, 4), (0, 2, 4, 4), (8, 8, 2, 8), (20, 20, 9, 9))
    masks[2] *= 0.4  # a share of each cell
    sample = sample_of(painted(32, 32), ("ship", "ship", "harbor", "bridge"), masks)
    losses = model.loss([sample])
    chance = 1 / (1 + math.e)
    ship, harbor, cells = 24.0, 16 * 0.4, 32 * 32  # the ships overlap; nobody asked for a bridge
    wanted = ship + harbor
    entropy = -MARKED * wanted * math.log(chance) - (3 * cells - wanted) * math.log(1 - chance)
    assert losses["loss_mask"].item() == pytest.approx(10 * entropy / cells / 3, rel=1e-4)
    dice = [1 - (2 * chance * area + 1) / (chance * cells + area + 1) for area in (ship, harbor)]
    assert losses["loss_dice"].item() == pytest.approx(sum(dice) / 2, rel=1e-4)


def test_a_label_may_be_spelt_as_files_do_or_as_people_do() -> None:
    masks = blocks(32, (0, 0, 8, 8))
    losses = [
        reader().loss([sample_of(painted(32, 32), (label,), masks)])["loss_mask"].item()
        for label in ("baseball_diamond", "baseball diamond", "Baseball-Diamonds", "diamond")
    ]
    assert losses[0] == losses[1] == losses[2]
    assert losses[3] < 0.5 * losses[0]


def test_a_class_that_is_seen_right_costs_least() -> None:
    array = painted(32, 32, (RED, (0, 0, 8, 8)), (BLUE, (16, 16, 8, 8)))
    masks = blocks(32, (0, 0, 8, 8), (16, 16, 8, 8))
    right = reader().loss([sample_of(array, ("ship", "harbor"), masks)])
    for labels in (("harbor", "ship"), ("ship", "ship"), ("ship", "bridge"), ("bridge",) * 2):
        wrong = reader().loss([sample_of(array, labels, masks)])
        assert wrong["loss_mask"].item() > 10 * right["loss_mask"].item()
    assert right["loss_dice"].item() < 0.05
    blank = reader().loss([sample_of(painted(32, 32), (), masks[:0])])
    assert blank["loss_dice"].item() == 0


def test_views_and_samples_count_by_their_pixels() -> None:
    """Dice is over all views together: a class that is found in one of two is half found."""
    masks = blocks(32, (0, 0, 8, 8))
    seen, missed = (
        sample_of(array, ("ship",), masks)
        for array in (painted(32, 32, (RED, (0, 0, 8, 8))), painted(32, 32))
    )
    together = reader().loss([seen, missed])
    chance = 1 / (1 + math.exp(8))
    for samples, hits in (([seen, missed], 1), ([seen, missed, seen], 2)):
        marked = 64 * hits * (1 - chance) + (1024 * len(samples) - 64 * hits) * chance
        hit = 64 * hits * (1 - chance) + 64 * (len(samples) - hits) * chance
        expected = 1 - (2 * hit + 1) / (marked + 64 * len(samples) + 1)
        found = reader().loss(samples)["loss_dice"]
        assert found.item() == pytest.approx(expected, rel=1e-3)
    apart = [reader().loss([one])["loss_mask"].item() for one in (seen, missed)]
    assert together["loss_mask"].item() == pytest.approx(sum(apart) / 2, rel=1e-4)


def test_what_is_no_data_teaches_nothing() -> None:
    valid = torch.ones(32, 32, dtype=torch.bool)
    valid[:, 16:] = False
    blank = sample_of(painted(32, 32), (), blocks(32), valid)
    sure = 1 + math.exp(-8)  # of every cell that has data, that it is of no class
    found = reader().loss([blank])["loss_mask"].item()
    assert found == pytest.approx(10 * math.log(sure), rel=1e-2)
    masks = blocks(32, (0, 0, 8, 8))
    array = painted(32, 32, (RED, (0, 0, 8, 8)))
    clean = reader().loss([sample_of(array, ("ship",), masks, valid)])
    array[:, 16:] = 255
    masks[:, :, 16:] = 1
    noisy = reader().loss([sample_of(array, ("ship",), masks, valid)])
    half = reader().loss([sample_of(array, ("ship",), masks)])
    for name in ("loss_mask", "loss_dice"):
        assert noisy[name].item() == pytest.approx(clean[name].item(), rel=1e-5)
        assert half[name].item() != pytest.approx(clean[name].item(), rel=1e-2)


def test_masks_of_another_stride_are_learnt_from() -> None:
    array = painted(32, 32, (RED, (0, 0, 8, 8)))
    fine, coarse = blocks(32, (0, 0, 8, 8)), blocks(16, (0, 0, 4, 4))
    losses = [
        reader(4).loss([sample_of(array, ("ship",), masks)])["loss_dice"].item()
        for masks in (fine, coarse)
    ]
    assert max(losses) < 0.1


def drawn_batch() -> tuple[DrawnScenes, dict[str, list[Any]]]:
    scenes = DrawnScenes(length=4, size=(120, 200))
    sampled = ViewSampled(scenes, side=64, exchanges=1, tasks=[("conversation", 1)])
    return scenes, collate([sampled[number] for number in range(3)])


def names(scenes: DrawnScenes) -> tuple[str, ...]:
    return tuple(kind.name for kind in scenes[0].kinds)


def test_a_few_steps_lower_the_loss_and_reach_every_parameter() -> None:
    torch.manual_seed(0)
    scenes, batch = drawn_batch()
    model = build({"type": ClassChannels, "vision_encoder": TINY, "classes": names(scenes)})
    assert isinstance(model, ClassChannels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(12):
        loss = torch.stack(list(model.loss(batch["samples"]).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().any()
    ]
    assert silent == []
    assert totals[-1] < 0.7 * totals[0]


def test_an_untrained_yardstick_marks_hardly_anything() -> None:
    torch.manual_seed(0)
    scenes, _ = drawn_batch()
    model = ClassChannels(TINY, names(scenes))
    assert model(torch.rand(1, 3, 64, 64)).sigmoid().mean().item() < 0.1


def test_it_trains_and_is_tested_as_a_geomag_is() -> None:
    scenes, batch = drawn_batch()
    torch.manual_seed(0)
    # As a run spells it in the config that it leaves behind.
    spelt = f"{ClassChannels.__module__}.{ClassChannels.__name__}"
    model = {"type": spelt, "vision_encoder": TINY, "classes": names(scenes)}
    trainable = Trainable(model, max_views=2)
    total, logged = trainable.parse_losses(trainable(**batch, mode="loss"))
    assert list(logged) == ["loss", "loss_mask", "loss_dice"]
    assert total.item() == pytest.approx(logged["loss_mask"] + logged["loss_dice"], rel=1e-5)
    sample = scenes[0]
    examined = trainable.eval().test_step(collate([sample]))[0]
    assert len(examined.outcomes) == len(sample.exchanges)
    assert {one.views for one in examined.outcomes} == {0}
