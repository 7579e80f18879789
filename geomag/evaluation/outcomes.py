"""What testing notes of every exchange: pixels that agree, what was said, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from .. import geometry
from ..contracts import Shape
from ..masks import SceneMask
from ..values import Box, Size

if TYPE_CHECKING:
    from ..data.samples import LabelledSample
    from ..model import Findings

BLOCK = 512
"""Scene pixels a side that are compared at once, so that memory does not grow with the scene."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixels of the scene: where two masks agree, and how much each and both together cover."""

    intersection: int
    union: int
    predicted: int
    truth: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one exchange went. `name` is the sample's: intervals resample these, not exchanges.

    `reply` is what should have been answered, `text` what was. `refused` says that nothing was
    marked; `score` is the highest of the masks, 0 where there is none. `views` were looked at
    beyond the overview; `new_views` of all were not yet cached.
    """

    name: str
    task: str
    prompt: str
    reply: str
    text: str
    overlap: Overlap
    refused: bool
    views: int
    new_views: int
    tokens: int
    score: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """One sample with an outcome and the findings behind it for each of its exchanges."""

    sample: LabelledSample
    outcomes: tuple[Outcome, ...]
    findings: tuple[Findings, ...]


def compare(
    masks: Sequence[SceneMask], shapes: Sequence[Shape], size: Size, block: int = BLOCK
) -> Overlap:
    """Compares the union of some masks with the union of some shapes, at the scene's own pixels.

    A pixel belongs to a shape that covers at least half of it.
    """
    intersection = union = predicted = truth = 0
    outlines = [mask.box for mask in masks]
    for view in geometry.tiles(size, block, 1):
        here = [
            mask for mask, box in zip(masks, outlines, strict=True) if box and _meet(box, view.box)
        ]
        drawn = [shape for shape in shapes if _meet(shape.box, view.box)]
        if not here and not drawn:
            continue
        marked = np.zeros((view.size.height, view.size.width), dtype=bool)
        wanted = marked.copy()
        for mask in here:
            marked |= mask.to_dense(view.box)
        for shape in drawn:
            coverage = shape.draw(view, block)[: view.size.height, : view.size.width]
            wanted |= coverage.numpy() >= 0.5
        intersection += int((marked & wanted).sum())
        union += int((marked | wanted).sum())
        predicted += int(marked.sum())
        truth += int(wanted.sum())
    return Overlap(intersection, union, predicted, truth)


def _meet(one: Box, other: Box) -> bool:
    return (
        one.left < other.right
        and other.left < one.right
        and one.top < other.bottom
        and other.top < one.bottom
    )


@METRICS.register_module()
class OutcomeKeeper(BaseMetric):
    """Keeps the outcomes of a test run, as plain data, in `outcomes` of the main process."""

    default_prefix = "outcomes"

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[dict[str, Any]] = []

    def process(self, data_batch: object, data_samples: Sequence[Examined]) -> None:
        self.results.extend(tested.outcomes for tested in data_samples)

    def compute_metrics(self, results: Sequence[Sequence[Outcome]]) -> dict[str, float]:
        self.outcomes = [asdict(outcome) for outcomes in results for outcome in outcomes]
        return {}
