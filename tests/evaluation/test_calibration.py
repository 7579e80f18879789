"""Presence chosen and weighed by hand: ten answers, and the edges of what can be asked."""

from __future__ import annotations

import math

import pytest

from geomag.errors import DataError
from geomag.evaluation.calibration import (
    by_prompt,
    choose,
    comparison,
    figures,
    trades,
    with_presence,
)
from geomag.evaluation.outcomes import Outcome, Overlap


def outcome(
    score: float, task: str = "class", name: str = "A", prompt: str = "every ship", truth: int = 10
) -> Outcome:
    """Marks half of what is there and as much beside it, or nothing for a score of 0."""
    hit = truth // 2
    overlap = Overlap(hit, 10 + truth - hit, 10, truth) if score else Overlap(0, truth, 0, truth)
    return Outcome(name, task, prompt, "", "", overlap, not score, 0, 1, 9, score)


def absent(score: float, **changes: str) -> Outcome:
    return outcome(score, "absent", truth=0, **changes)


def there(*scores: float) -> list[Outcome]:
    return [outcome(score) for score in scores]


TEN = there(0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5, 0.95, 0.1)


@pytest.mark.parametrize(
    ("most", "presence"), [(0.0, 0.1), (0.1, 0.2), (0.19, 0.2), (0.2, 0.3), (0.9, 0.95)]
)
def test_the_highest_that_refuses_few_enough(most: float, presence: float) -> None:
    assert choose(TEN, most) == presence
    refused = figures(with_presence(TEN, presence)).false_refusals.value
    assert refused <= most
    above = math.nextafter(presence, 1)
    assert figures(with_presence(TEN, above)).false_refusals.value > most


def test_of_scores_that_tie_all_stay_or_all_go() -> None:
    tied = there(0.3, 0.3, 0.3, 0.6)
    assert choose(tied, 0.5) == 0.3
    assert figures(with_presence(tied, 0.3)).false_refusals.value == 0
    assert choose(tied, 0.75) == 0.6
    assert figures(with_presence(tied, 0.6)).false_refusals.value == 0.75


def test_shares_are_counted_and_not_rounded() -> None:
    """29 of 100 is 0.29, though 0.29 x 100 is less than 29."""
    scores = [place / 100 for place in range(1, 101)]
    assert choose(there(*scores), 0.29) == 0.3


def test_what_is_refused_already_counts() -> None:
    assert choose(there(0.0, 0.2, 0.3, 0.4, 0.5), 0.4) == 0.3
    assert choose(there(0.0, 0.0, 0.3, 0.4, 0.5), 0.4) == 0.3
    assert choose(there(0.0, 0.0, 0.0, 0.4, 0.5), 0.4) == 0.0
    assert choose(there(0.0, 0.2), 0.0) == 0.0
    assert choose(there(0.0, 0.0), 0.5) == 0.0


def test_what_is_not_there_has_no_say_and_something_has_to_be_there() -> None:
    assert choose([*TEN, absent(0.01), absent(0.99)], 0.1) == choose(TEN, 0.1)
    with pytest.raises(DataError, match="none of the exchanges asks for a class that is there"):
        choose([absent(0.5), outcome(0.5, "referring")], 0.1)
    assert trades([absent(0.5)]) == []


def test_what_is_below_is_marked_nowhere() -> None:
    low, high, nothing = with_presence(there(0.29, 0.3, 0.0), 0.3)
    assert low.refused
    assert low.overlap == Overlap(0, 10, 0, 10)
    assert [high, nothing] == there(0.3, 0.0)
    assert with_presence(TEN, 0.0) == TEN


def test_figures_before_and_after() -> None:
    """Of what is there each answer is 5 of 15 pixels right; an absent one has nothing to be."""
    found = [*there(0.2, 0.6, 0.8, 0.0), absent(0.1, name="B"), absent(0.7), absent(0.0)]
    compared = comparison(found, 0.5)
    assert (compared.images, compared.present, compared.absent) == (2, 4, 3)
    assert compared.before.refused.value == pytest.approx(1 / 3)
    assert compared.after.refused.value == pytest.approx(2 / 3)
    assert compared.before.false_refusals.value == 0.25
    assert compared.after.false_refusals.value == 0.5
    assert compared.before.mean_iou.value == pytest.approx(3 / 12)
    assert compared.after.mean_iou.value == pytest.approx(2 / 12)
    # A has one of two refused and B none: a draw is AA, AB or BB.
    assert (compared.before.refused.low, compared.before.refused.high) == (0, 0.5)


def test_where_nothing_is_asked_there_is_no_figure() -> None:
    assert math.isnan(figures(TEN).refused.value)
    assert figures([outcome(0.0, truth=0)]).mean_iou.value == 1  # as MaskMetric has it


def test_trades_are_one_choice_a_share() -> None:
    found = [*TEN, absent(0.15), absent(0.25), absent(0.35)]
    rows = trades(found, (0.05, 0.1, 0.2))
    assert [row.presence for row in rows] == [0.1, 0.2, 0.3]
    assert [row.figures.refused.value for row in rows] == pytest.approx([0, 1 / 3, 2 / 3])
    assert [row.figures.false_refusals.value for row in rows] == [0, 0.1, 0.2]


def test_a_prompt_that_nowhere_means_something_is_no_class() -> None:
    ships = [outcome(0.5), absent(0.4)]
    piers, cars = [outcome(0.9, prompt="every pier")], [absent(0.4, prompt="every car")]
    groups = by_prompt([*ships, *cars, *piers])
    assert list(groups.items()) == [("every pier", piers), ("every ship", ships)]
