"""Figures over pairs of a mosaic and a class, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geomag.evaluation.looking import Answered
from geomag.evaluation.pairs import gain, grouped, kept, summary


def pair(mosaic: str, label: str, iou: float, covered: int = 0, **changes: object) -> Answered:
    plain = Answered(
        *(mosaic, label, f"every {label}", "as is", 0.25),
        *(4, 4, 100, covered, 5, 50, 100, iou, False, None, None),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


FULL = [pair("A", "ship", 0.4), pair("A", "pier", 0.6), pair("B", "ship", 0.5)]
LESS = [pair("A", "ship", 0.2), pair("A", "pier", 0.4), pair("B", "ship", 0.5)]


def test_gain_pairs_and_resamples_mosaics() -> None:
    """A loses 0.2 twice and B nothing: a draw is AA, AB or BB, so -0.2, -0.4 / 3 or 0."""
    figure = gain(LESS, FULL)
    assert figure.value == pytest.approx(-0.4 / 3)
    assert figure.low == pytest.approx(-0.2)
    assert figure.high == 0


def test_kept_is_a_share_of_the_mean() -> None:
    figure = kept(LESS, FULL)
    assert figure.value == pytest.approx(1.1 / 1.5)
    assert (figure.low, figure.high) == (pytest.approx(0.6), pytest.approx(1))


def test_pairs_have_to_be_the_same() -> None:
    with pytest.raises(AssertionError, match="same pairs"):
        gain(LESS[:2], FULL[1:])


def test_summary_of_pairs() -> None:
    pairs = [
        pair("A", "ship", 0.2, 80, finest=3, views=4, encoded=40, flops=1e9, seconds=1.0),
        pair("B", "ship", 0.4, 10, target=25, views=6, encoded=60, flops=3e9, seconds=5.0),
        pair("B", "pier", 0.6, 0, views=5, encoded=50, flops=2e9, seconds=2.0, refused=True),
    ]
    found = summary(pairs, pairs)
    assert found.mean_iou.value == pytest.approx(0.4)
    assert (found.gain.value, found.kept.value) == (0, 1)
    assert found.coverage.value == pytest.approx((0.8 + 0.4 + 0) / 3)
    assert found.pooled_coverage.value == pytest.approx(90 / 225)
    assert (found.views, found.encoded, found.encoded_share) == (5, 50, 0.5)
    assert (found.stopped_early, found.flops, found.seconds) == (1, 2e9, 2.0)
    assert found.refused == pytest.approx(1 / 3)
    assert summary(FULL, FULL).seconds is None


def test_groups_keep_the_order_in_which_answers_came() -> None:
    others = [replace(one, share=0.5) for one in FULL]
    mixed = [one for two in zip(FULL, others, strict=True) for one in two]
    assert grouped(mixed) == {("as is", 0.25): FULL, ("as is", 0.5): others}
