"""Figures over pairs of a mosaic and a class; intervals resample mosaics with all their classes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .looking import Answered
from .masks import Figure, ratio


@dataclass(frozen=True, slots=True)
class Summary:
    """The pairs of one arm and share together.

    `coverage` is the share of the target's pixels in the finest tiles that were looked at, its mean
    over pairs, and `pooled_coverage` that of all pairs' pixels together. `gain` is the mean of what
    the IoU is above that of the same pairs in the arm it is compared with, and `kept` the share
    that the mean IoU is of that arm's. `views` to `encoded_share` (of the scene's pixels) and
    `flops` are means, `seconds` is the median; None where they were not measured. `stopped_early`
    counts the pairs for which fewer finest tiles were looked at than granted.
    """

    arm: str
    share: float
    pairs: int
    mean_iou: Figure
    gain: Figure
    kept: Figure
    coverage: Figure
    pooled_coverage: Figure
    views: float
    wanted: float
    finest: float
    stopped_early: int
    encoded: float
    encoded_share: float
    refused: float
    flops: float | None
    seconds: float | None


def grouped(answers: Sequence[Answered]) -> dict[tuple[str, float], list[Answered]]:
    """The answers of each arm and share, in the order they came."""
    groups: dict[tuple[str, float], list[Answered]] = {}
    for one in answers:
        groups.setdefault((one.arm, one.share), []).append(one)
    return groups


def mean_iou(pairs: Sequence[Answered]) -> Figure:
    """The mean over pairs."""
    return ratio([one.iou for one in pairs], [1.0] * len(pairs), _mosaics(pairs))


def gain(pairs: Sequence[Answered], others: Sequence[Answered]) -> Figure:
    """By how much the mean IoU of some pairs is above that of the same pairs in another arm."""
    _check_paired(pairs, others)
    gained = [one.iou - other.iou for one, other in zip(pairs, others, strict=True)]
    return ratio(gained, [1.0] * len(pairs), _mosaics(pairs))


def kept(pairs: Sequence[Answered], others: Sequence[Answered]) -> Figure:
    """The mean IoU of some pairs as a share of that of the same pairs in another arm."""
    _check_paired(pairs, others)
    return ratio([one.iou for one in pairs], [one.iou for one in others], _mosaics(pairs))


def summary(pairs: Sequence[Answered], others: Sequence[Answered]) -> Summary:
    """The figures of some pairs, compared with the same pairs in another arm."""
    names, ones = _mosaics(pairs), [1.0] * len(pairs)
    covered, target = [one.covered for one in pairs], [one.target for one in pairs]
    shares = [part / whole for part, whole in zip(covered, target, strict=True)]
    flops = [one.flops for one in pairs if one.flops is not None]
    seconds = [one.seconds for one in pairs if one.seconds is not None]
    return Summary(
        arm=pairs[0].arm,
        share=pairs[0].share,
        pairs=len(pairs),
        mean_iou=mean_iou(pairs),
        gain=gain(pairs, others),
        kept=kept(pairs, others),
        coverage=ratio(shares, ones, names),
        pooled_coverage=ratio(covered, target, names),
        views=statistics.fmean(one.views for one in pairs),
        wanted=statistics.fmean(one.wanted for one in pairs),
        finest=statistics.fmean(one.finest for one in pairs),
        stopped_early=sum(one.finest < one.wanted for one in pairs),
        encoded=statistics.fmean(one.encoded for one in pairs),
        encoded_share=statistics.fmean(one.encoded / one.scene for one in pairs),
        refused=statistics.fmean(one.refused for one in pairs),
        flops=statistics.fmean(flops) if flops else None,
        seconds=statistics.median(seconds) if seconds else None,
    )


def _mosaics(pairs: Sequence[Answered]) -> list[str]:
    return [one.mosaic for one in pairs]


def _check_paired(pairs: Sequence[Answered], others: Sequence[Answered]) -> None:
    named = [[(one.mosaic, one.label) for one in some] for some in (pairs, others)]
    assert named[0] == named[1], "the arms were not asked for the same pairs"
