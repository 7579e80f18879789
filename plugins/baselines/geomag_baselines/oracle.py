"""A cropper that is told the truth: how good an answer could be if it knew where to look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomag.contracts import Shape
from geomag.values import Box, Look, Plan, Prompt, View

DUST = 1e-7
"""Coverage below this is left over from adding up, not from a target."""


class Oracle:
    """Looks where the targets are and nowhere else, the view with most of them first.

    For benchmarks only: the test loop tells it the targets of each prompt through `bind`. Told of
    none, it has no opinion and finds the overview enough.
    """

    def __init__(self, strides: tuple[int, ...]) -> None:
        self.stride = strides[-1]
        self.targets: tuple[Shape, ...] = ()

    def bind(self, targets: Sequence[Shape]) -> None:
        self.targets = tuple(targets)

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [self._seen_in(look) if self.targets else None for look in looks]

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        held = {view: self._held_by(view, plan.overview_side) for view in candidates}
        return sorted((view for view in candidates if held[view] > DUST), key=lambda v: -held[v])

    def _seen_in(self, look: Look) -> Tensor:
        """1 in every cell that a target touches, however small it is."""
        side = look.pixels.shape[-1]
        covered = torch.zeros(side // self.stride, side // self.stride)
        for target in self.targets:
            if _overlap(target.box, look.view.box):
                covered = covered.maximum(target.draw(look.view, side, self.stride))
        return (covered > DUST).to(look.pixels.device, torch.float32)

    def _held_by(self, view: View, side: int) -> float:
        """Scene pixels of targets inside a view."""
        pixel = view.box.height / view.size.height * view.box.width / view.size.width
        return sum(
            float(target.draw(view, side).sum()) * pixel
            for target in self.targets
            if _overlap(target.box, view.box)
        )


def _overlap(one: Box, other: Box) -> bool:
    across = one.left < other.right and other.left < one.right
    return across and one.top < other.bottom and other.top < one.bottom
