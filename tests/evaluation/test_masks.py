"""Mask metrics against values worked out by hand."""

from __future__ import annotations

import logging
import math
from itertools import product

import numpy as np
import pytest

from geomag.evaluation.masks import MaskMetric, ratio
from geomag.evaluation.outcomes import Outcome, Overlap


def outcome(
    name: str, intersection: int, union: int, task: str = "class", predicted: int | None = None
) -> Outcome:
    marked = intersection if predicted is None else predicted
    overlap = Overlap(intersection, union, marked, union)
    return Outcome(name, task, "every ship", "", "", overlap, marked == 0, 0, 1, 10)


SEA = [
    outcome("one", 50, 100),  # IoU 0.5
    outcome("one", 90, 100),  # IoU 0.9
    outcome("two", 0, 400),  # nothing marked
    outcome("two", 0, 0, "absent"),
    outcome("three", 0, 30, "absent", predicted=30),
]


def metrics(outcomes: list[Outcome], **options: object) -> dict[str, float]:
    metric = MaskMetric(**options)  # type: ignore[arg-type]
    names = list(dict.fromkeys(one.name for one in outcomes))
    grouped = [tuple(one for one in outcomes if one.name == name) for name in names]
    return metric.compute_metrics(grouped)


def test_figures_are_those_worked_out_by_hand() -> None:
    found = metrics(SEA)
    assert found["class/exchanges"] == 3
    assert found["class/mean_iou"] == pytest.approx((0.5 + 0.9 + 0) / 3)
    assert found["class/overall_iou"] == pytest.approx(140 / 600)
    assert found["class/precision@0.5"] == pytest.approx(2 / 3)
    assert found["class/precision@0.6"] == pytest.approx(1 / 3)
    assert found["class/precision@0.9"] == pytest.approx(1 / 3)
    assert found["class/false_refusals"] == pytest.approx(1 / 3)
    assert found["absent/refused"] == pytest.approx(1 / 2)
    assert "referring/mean_iou" not in found


def test_operator_decides_at_the_threshold() -> None:
    found = metrics(SEA, compare=">")
    assert found["class/precision@0.5"] == pytest.approx(1 / 3)
    assert found["class/precision@0.9"] == 0


@pytest.mark.parametrize(("policy", "mean"), [("one", 0.75), ("zero", 0.25), ("skip", 0.5)])
def test_empty_union_follows_the_policy(policy: str, mean: float) -> None:
    found = metrics([outcome("one", 50, 100), outcome("two", 0, 0)], empty_union=policy)
    assert found["class/mean_iou"] == pytest.approx(mean)
    assert found["class/overall_iou"] == pytest.approx(0.5)


def test_nothing_to_count_is_no_figure() -> None:
    figure = ratio([], [], [])
    assert all(math.isnan(value) for value in (figure.value, figure.low, figure.high))


def test_interval_resamples_images_with_all_their_exchanges() -> None:
    """Of two images, A (1, 1) and B (0), a draw is AA, AB, BA or BB: 1, 2/3, 2/3 or 0."""
    figure = ratio([1, 1, 0], [1, 1, 1], ["A", "A", "B"], resamples=20_000)
    assert figure.value == pytest.approx(2 / 3)
    assert (figure.low, figure.high) == (0, 1)
    # Were exchanges resampled, three zeros would be drawn 1 in 27 times, and 8 in 27 three ones.
    draws = [sum(draw) / 3 for draw in product((1, 1, 0), repeat=3)]
    assert np.mean(np.array(draws) == 0) < 0.05


def test_interval_agrees_with_a_plain_bootstrap() -> None:
    generator = np.random.default_rng(1)
    images = [f"image {place}" for place in generator.integers(0, 40, size=150)]
    above, below = generator.random(150), generator.random(150) + 1
    figure = ratio(list(above), list(below), images, resamples=4000)
    names = sorted(set(images))
    rows = [[place for place, image in enumerate(images) if image == name] for name in names]
    values = []
    for _ in range(4000):
        drawn = [rows[place] for place in generator.integers(0, len(names), size=len(names))]
        chosen = [place for row in drawn for place in row]
        values.append(above[chosen].sum() / below[chosen].sum())
    low, high = np.percentile(values, (2.5, 97.5))
    assert figure.low == pytest.approx(low, abs=0.01)
    assert figure.high == pytest.approx(high, abs=0.01)


def test_interval_is_seeded() -> None:
    arguments = ([1.0, 0, 1, 0, 1], [1.0] * 5, list("abcde"))
    assert ratio(*arguments) == ratio(*arguments)
    other = ratio(*arguments, resamples=37, seed=3)
    assert other.value == ratio(*arguments).value


def test_formulas_are_printed(caplog: pytest.LogCaptureFixture) -> None:
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        metrics(SEA)
    logger.removeHandler(caplog.handler)
    assert "overall IoU = sum of I / sum of U" in caplog.text
    assert "P@0.7 = share with I/U >= 0.7" in caplog.text
    assert "class: 3 exchanges on 2 images" in caplog.text
