"""A cropper that looks where another one cannot make up its mind (uncertainty sampling)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from geomag import geometry
from geomag.registry import CROPPERS
from geomag.values import Look, Plan, Prompt, View


class Uncertain(nn.Module):
    """Takes the relevance of another cropper and ranks the views where it is nearest to one half.

    Where that cropper has no opinion, nothing is more uncertain. It never finds that it has seen
    enough: the plan has to bound it. `cropper` is a component or its config.
    """

    def __init__(
        self,
        cropper: Mapping[str, Any] | Any,
        visual_dims: tuple[int, ...],
        strides: tuple[int, ...],
        prompt_dim: int,
    ) -> None:
        super().__init__()
        facts = {"visual_dims": visual_dims, "strides": strides, "prompt_dim": prompt_dim}
        self.cropper = CROPPERS.build(cropper, **facts)

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        found: list[Tensor | None] = self.cropper.relevance(looks, prompt)
        return found

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        opinions = geometry.relevance_of(candidates, looks, relevance)
        certainty = {
            view: 0.0 if opinion is None else abs(opinion - 0.5)
            for view, opinion in zip(candidates, opinions, strict=True)
        }
        return sorted(candidates, key=certainty.__getitem__)
