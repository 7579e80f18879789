"""The losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from geomag import losses
from geomag.values import (
    Box,
    Exchange,
    Level,
    Look,
    LookMasks,
    MaskTargets,
    Reply,
    SceneInfo,
    Size,
    Turn,
    View,
)


def look(side: int = 8, filled: int = 8) -> Look:
    valid = torch.zeros(side, side, dtype=torch.bool)
    valid[:filled, :filled] = True
    view = View(Box(0, 0, filled, filled), Size(filled, filled), Size(filled, filled))
    return Look(view, torch.zeros(3, side, side), valid, ())


def exchange(extent: float | None, level: Level = Level.PIXEL) -> Exchange:
    return Exchange((Turn("user", "?"),), Reply("."), level, extent=extent)


def test_outline_is_cross_entropy_plus_dice_over_valid_pixels() -> None:
    logits = torch.zeros(2, 2, 2)
    target = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).expand(2, 2, 2)
    entropy = math.log(2)
    dice = 1 - (2 * 0.5 + 1) / (1.0 + 1.0 + 1)
    # What is marked or should be is two pixels in the first row, and one in the second.
    expected = torch.tensor([2 * entropy / 2 + dice, 2 * entropy / 1])
    torch.testing.assert_close(losses.outline(logits, target, valid), expected)


@pytest.mark.parametrize("side", [2, 4, 16])
def test_the_smallest_false_mark_is_as_wrong_as_the_largest(side: int) -> None:
    """Marked with certainty, beside a target of the same size that is marked too."""
    target = torch.zeros(1, 64, 64)
    target[0, :side, :side] = 1
    logits = torch.full((1, 64, 64), -20.0)
    logits[0, :side, :side] = logits[0, -side:, -side:] = 9
    logits.requires_grad_()
    losses.outline(logits, target, torch.ones(1, 64, 64)).sum().backward()
    assert logits.grad is not None
    shared = max(3 * side**2, 64 * 64 * losses.LEAST)
    found = float(logits.grad[0, -side:, -side:].sum())
    assert found == pytest.approx(side**2 / shared, rel=0.02)


def test_a_mask_is_compared_with_the_union_of_what_its_query_means() -> None:
    targets = torch.zeros(3, 8, 8)
    targets[0, :2, :2] = targets[1, 4:6, 4:6] = targets[2, 0, 7] = 1
    logits = torch.full((2, 8, 8), -20.0)
    logits[0][(targets[0] + targets[1]) > 0] = 20
    logits[1][targets[2] > 0] = 20
    masks = LookMasks(logits, torch.arange(2), torch.ones(2))
    truth = MaskTargets(targets, torch.tensor([0, 0, 1]))
    assert losses.mask(masks, truth, look()).max() < 1e-3
    swapped = MaskTargets(targets, torch.tensor([0, 1, 1]))
    assert losses.mask(masks, swapped, look()).min() > 0.3


def test_the_score_learns_whether_the_target_is_in_the_look() -> None:
    logits = torch.full((1, 8, 8), -20.0)
    nothing = MaskTargets(torch.zeros(0, 8, 8), torch.zeros(0, dtype=torch.long))
    values = [
        losses.mask(LookMasks(logits, torch.arange(1), torch.tensor([score])), nothing, look())
        for score in (0.0, 0.5)
    ]
    assert values[0] < 1e-3
    torch.testing.assert_close(values[1], torch.tensor([losses.SCORE_WEIGHT * math.log(2)]))


def test_relevance_keeps_objects_smaller_than_a_cell() -> None:
    target = torch.zeros(8, 8)
    target[5, 2] = 1.0
    right, blind = torch.full((2, 2), 1e-6), torch.full((2, 2), 1e-6)
    right[1, 0] = 1 - 1e-6
    assert losses.relevance(right, target, look()) < 1e-3
    assert losses.relevance(blind, target, look()) > 1


def test_padding_does_not_count() -> None:
    target = torch.zeros(1, 8, 8)
    logits = torch.full((1, 8, 8), -20.0)
    logits[:, 4:] = 20
    logits[:, :, 4:] = 20
    masks = LookMasks(logits, torch.arange(1), torch.zeros(1))
    truth = MaskTargets(target, torch.zeros(1, dtype=torch.long))
    assert losses.mask(masks, truth, look(filled=4)) < 1e-3
    assert losses.mask(masks, truth, look()) > 10


@pytest.mark.parametrize(
    ("extent", "resolution", "expected"),
    [
        (256.0, None, 4.0),
        (256.0, 0.5, 2.0),
        (4.0, None, 1.0),  # Never finer than native,
        (4.0, 0.5, 0.5),
        (5000.0, None, 8.0),  # nor coarser than the overview,
        (None, None, 8.0),  # which is enough where nothing particular is asked for.
    ],
)
def test_a_target_should_span_many_look_pixels(
    extent: float | None, resolution: float | None, expected: float
) -> None:
    info = SceneInfo(Size(2048, 1000), resolution=resolution)
    target = losses.plan_target(exchange(extent), info, side=256)
    assert target.stop_below == pytest.approx(expected)
    assert target.level is Level.PIXEL
    assert target.max_tokens == losses.TOKENS[Level.PIXEL]


def test_averages_are_within_samples_first() -> None:
    values = [torch.tensor(1.0), torch.tensor(3.0), torch.tensor(10.0)]
    # Samples of 2, 1 and 0 values: (2 + 10 + 0) / 3.
    assert float(losses.per_sample(values, [0, 0, 1], 3)) == pytest.approx(4.0)
