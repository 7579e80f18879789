"""How well masks sit on what was asked for, and whether what is absent is refused.

Every figure is a ratio of sums over exchanges; its 95 % interval resamples images, because the
exchanges of one image are not independent.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from numpy.typing import NDArray

from .outcomes import Examined, Outcome

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
EmptyUnion = Literal["one", "zero", "skip"]
_EMPTY = {"one": 1.0, "zero": 0.0}
_OPERATORS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio with the ends of its 95 % bootstrap interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float


def ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    images: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """The sum of `numerators` over the sum of `denominators`, both one entry an exchange.

    The interval spans the 2.5th to the 97.5th percentile of the ratio over `resamples` draws of as
    many images as there are, with replacement; an image is drawn with all its exchanges.
    """
    if not sum(denominators):
        return Figure(np.nan, np.nan, np.nan)
    names = {name: place for place, name in enumerate(sorted(set(images)))}
    above: NDArray[np.float64] = np.zeros(len(names))
    below: NDArray[np.float64] = np.zeros(len(names))
    places = [names[name] for name in images]
    np.add.at(above, places, numerators)
    np.add.at(below, places, denominators)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    totals = drawn @ below
    ratios = (drawn @ above)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Figure(float(above.sum() / below.sum()), float(low), float(high))


@METRICS.register_module()
class MaskMetric(BaseMetric):
    """Overlap on what is there, refusals on what is not, each with an interval over images.

    For every task of `present`: mean IoU, overall IoU, P@0.5 to P@0.9, and false refusals; for
    every task of `absent`: the share refused. `empty_union` says what the IoU of two empty masks
    is, or that such an exchange is left out; `compare` whether an IoU of exactly 0.5 counts for
    P@0.5.
    """

    default_prefix = "masks"

    def __init__(
        self,
        present: Sequence[str] = ("class", "referring"),
        absent: Sequence[str] = ("absent",),
        empty_union: EmptyUnion = "one",
        compare: Literal[">=", ">"] = ">=",
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.present = tuple(present)
        self.absent = tuple(absent)
        self.empty_union: EmptyUnion = empty_union
        self.compare = compare
        self.resamples = resamples
        self.seed = seed

    def process(self, data_batch: object, data_samples: Sequence[Examined]) -> None:
        self.results.extend(tested.outcomes for tested in data_samples)

    def compute_metrics(self, results: Sequence[Sequence[Outcome]]) -> dict[str, float]:
        outcomes = [outcome for sample in results for outcome in sample]
        lines = ["95 % intervals over images in brackets; I, U: pixels of intersection and union"]
        metrics: dict[str, float] = {}
        for task in (*self.present, *self.absent):
            asked = [outcome for outcome in outcomes if outcome.task == task]
            if not asked:
                continue
            images = len({outcome.name for outcome in asked})
            lines.append(f"{task}: {len(asked)} exchanges on {images} images")
            metrics[f"{task}/exchanges"] = len(asked)
            figures = self._refusals(asked) if task in self.absent else self._overlaps(asked)
            for key, (formula, figure) in figures.items():
                metrics[f"{task}/{key}"] = figure.value
                metrics[f"{task}/{key}_low"] = figure.low
                metrics[f"{task}/{key}_high"] = figure.high
                lines.append(
                    f"  {formula:<44} {figure.value:.4f}  [{figure.low:.4f}, {figure.high:.4f}]"
                )
        MMLogger.get_current_instance().info("\n".join(lines))
        return metrics

    def _overlaps(self, asked: Sequence[Outcome]) -> dict[str, tuple[str, Figure]]:
        kept = [outcome for outcome in asked if outcome.overlap.union or self.empty_union != "skip"]
        ious = [self._iou(outcome) for outcome in kept]
        ones = [1.0] * len(kept)
        unions = [float(outcome.overlap.union) for outcome in kept]
        hits = [float(outcome.overlap.intersection) for outcome in kept]
        figures = {
            "mean_iou": ("mean IoU = mean of I/U", self._ratio(ious, ones, kept)),
            "overall_iou": ("overall IoU = sum of I / sum of U", self._ratio(hits, unions, kept)),
        }
        reaches = _OPERATORS[self.compare]
        for threshold in THRESHOLDS:
            counted = [float(reaches(iou, threshold)) for iou in ious]
            formula = f"P@{threshold} = share with I/U {self.compare} {threshold}"
            figures[f"precision@{threshold}"] = (formula, self._ratio(counted, ones, kept))
        refused = [float(outcome.refused) for outcome in asked]
        formula = "false refusals = share with nothing marked"
        figures["false_refusals"] = (formula, self._ratio(refused, [1.0] * len(asked), asked))
        return figures

    def _refusals(self, asked: Sequence[Outcome]) -> dict[str, tuple[str, Figure]]:
        refused = [float(outcome.refused) for outcome in asked]
        figure = self._ratio(refused, [1.0] * len(asked), asked)
        return {"refused": ("refused = share with nothing marked", figure)}

    def _iou(self, outcome: Outcome) -> float:
        if not outcome.overlap.union:
            return _EMPTY[self.empty_union]
        return outcome.overlap.intersection / outcome.overlap.union

    def _ratio(
        self, above: Sequence[float], below: Sequence[float], asked: Sequence[Outcome]
    ) -> Figure:
        images = [outcome.name for outcome in asked]
        return ratio(above, below, images, self.resamples, self.seed)
