"""A cropper that is told the truth: how good an answer could be if it knew where to look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomag.contracts import Shape
from geomag.values import Box, Look, Plan, Prompt, View


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
        return sorted((view for view in candidates if held[view] > 0), key=lambda v: -held[v])

    def _seen_in(self, look: Look) -> Tensor:
        """1 in every cell that a target touches."""
        side = look.pixels.shape[-1]
        touched = torch.zeros(side // self.stride, side // self.stride)
        for target in self.targets:
            if _overlap(target.box, look.view.box) > 0:
                # Drawn at full size: a target smaller than a cell must not vanish.
                drawn = target.draw(look.view, side)
                touched = touched.maximum(
                    torch.nn.functional.max_pool2d(drawn[None], self.stride)[0]
                )
        return (touched > 0).to(look.pixels.device, torch.float32)

    def _held_by(self, view: View, side: int) -> float:
        """Scene pixels of targets inside a view."""
        pixel = view.box.height / view.size.height * view.box.width / view.size.width
        return sum(
            float(target.draw(view, side).sum()) * pixel
            for target in self.targets
            if _overlap(target.box, view.box) > 0
        )


def _overlap(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(width, 0) * max(height, 0)
