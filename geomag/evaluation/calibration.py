"""From which score on something is taken for there: chosen on scenes that nothing was learnt from.

All of it is worked out from outcomes of a model that refuses nothing by its score (`presence` 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import DataError
from .masks import Figure, ratio
from .outcomes import Outcome, Overlap

PRESENT, ABSENT = "class", "absent"
"""The tasks that ask for all of a class where it is, and where it is not."""
TRADES = (0.05, 0.10, 0.15, 0.20)


@dataclass(frozen=True, slots=True)
class Figures:
    """The share refused of what is absent and, falsely, of what is present; the mean IoU there.

    The IoU of two empty masks is 1.
    """

    refused: Figure
    false_refusals: Figure
    mean_iou: Figure


@dataclass(frozen=True, slots=True)
class Trade:
    """What is had for refusing at most a share `most` of what is there."""

    most: float
    presence: float
    figures: Figures


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some outcomes before and after a presence; `present` and `absent` count them."""

    images: int
    present: int
    absent: int
    before: Figures
    after: Figures


def choose(outcomes: Sequence[Outcome], most: float) -> float:
    """The highest presence with which at most a share `most`, below 1, of what is there is refused.

    What is refused already counts; where that alone is more than `most`, it is 0.

    Raises:
        DataError: nothing that is asked for is there.
    """
    present = asked(outcomes, PRESENT)
    if not present:
        raise DataError(
            "none of the exchanges asks for a class that is there, so no presence can be chosen; "
            "expected scenes with labelled objects"
        )
    scores = sorted(outcome.score for outcome in present if not outcome.refused)
    already = len(present) - len(scores)
    allowed = max(count for count in range(len(present)) if count / len(present) <= most)
    # Anything above this score would refuse it too, and with it one more than is allowed.
    return scores[allowed - already] if already <= allowed else 0.0


def with_presence(outcomes: Sequence[Outcome], presence: float) -> list[Outcome]:
    """The outcomes as they are where a score below `presence` means that nothing is marked.

    Exact for answers with one mask. Of several, a model drops those that score too low one by one;
    here they stay until the highest of them does, which leaves refusals right and overlaps not.
    """
    return [
        _emptied(outcome) if not outcome.refused and outcome.score < presence else outcome
        for outcome in outcomes
    ]


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """The figures of some outcomes; their intervals resample images."""
    present = asked(outcomes, PRESENT)
    return Figures(
        refused=_refused(asked(outcomes, ABSENT)),
        false_refusals=_refused(present),
        mean_iou=_mean([_iou(outcome) for outcome in present], present),
    )


def trades(outcomes: Sequence[Outcome], shares: Sequence[float] = TRADES) -> list[Trade]:
    """What each share of false refusals is worth that is put up with; none where nothing is there.

    Shares are below 1.
    """
    found = []
    for most in shares if asked(outcomes, PRESENT) else ():
        presence = choose(outcomes, most)
        found.append(Trade(most, presence, figures(with_presence(outcomes, presence))))
    return found


def comparison(outcomes: Sequence[Outcome], presence: float) -> Comparison:
    """What a presence changes."""
    return Comparison(
        images=len({outcome.name for outcome in outcomes}),
        present=len(asked(outcomes, PRESENT)),
        absent=len(asked(outcomes, ABSENT)),
        before=figures(outcomes),
        after=figures(with_presence(outcomes, presence)),
    )


def by_prompt(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes by what was asked, in order of the alphabet: tests ask for a class in one way.

    Prompts that meant something nowhere are left out.
    """
    groups: dict[str, list[Outcome]] = {}
    for prompt in sorted({outcome.prompt for outcome in asked(outcomes, PRESENT)}):
        groups[prompt] = [outcome for outcome in outcomes if outcome.prompt == prompt]
    return groups


def asked(outcomes: Sequence[Outcome], task: str) -> list[Outcome]:
    """Those of one task."""
    return [outcome for outcome in outcomes if outcome.task == task]


def _emptied(outcome: Outcome) -> Outcome:
    truth = outcome.overlap.truth
    return replace(outcome, refused=True, overlap=Overlap(0, truth, 0, truth))


def _refused(some: Sequence[Outcome]) -> Figure:
    return _mean([float(outcome.refused) for outcome in some], some)


def _mean(values: Sequence[float], some: Sequence[Outcome]) -> Figure:
    return ratio(values, [1.0] * len(some), [outcome.name for outcome in some])


def _iou(outcome: Outcome) -> float:
    overlap = outcome.overlap
    return overlap.intersection / overlap.union if overlap.union else 1.0
