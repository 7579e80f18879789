"""Croppers that never look at a look: nothing, everything, or anything."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from torch import Tensor

from geomag.values import Look, Plan, Prompt, View


class Whole:
    """Finds the overview enough, whatever is asked.

    A prompt without any bound (no `stop_below`, no `max_views`) is answered from everything all the
    same, because that is what it asks for.
    """

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [None] * len(looks)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return []


class Tiles:
    """Tiles the scene uniformly, in raster order (what "AnyRes" does), whatever is asked."""

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [None] * len(looks)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return list(candidates)


class Random:
    """Looks anywhere, to compare with at an equal budget.

    The order is a hash of each view and of `seed`: the same for scenes of the same size, on any
    machine and beside any other candidates.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [None] * len(looks)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return sorted(candidates, key=self._lot)

    def _lot(self, view: View) -> bytes:
        box = view.box
        corners = [float(side) for side in (box.left, box.top, box.right, box.bottom)]
        return blake2b(f"{self.seed} {corners} {view.size} {view.scene}".encode()).digest()
