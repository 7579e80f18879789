"""Cropper (PSC): where in a look the prompt's target is, and so where to look closer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag import ranking
from geomag.values import Look, Plan, Prompt, View

from .layers import kept, valid_cells
from .pool import PromptPool

STRIDE = 8
RARE = -4.0
"""The logit relevance starts from: few cells hold what is asked for."""


class Cropper(nn.Module):
    """The prompt turns channels of the fused features up and down; what is left is relevance.

    Maps have a stride of 8, or the finest there is above it: small things survive, and a further
    prompt about known looks costs little. Views are ranked by `ranking.by_turns`.
    """

    def __init__(
        self,
        visual_dims: Sequence[int],
        strides: Sequence[int],
        prompt_dim: int,
        width: int = 64,
        threshold: float = 0.1,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.finest = next(
            (place for place, stride in enumerate(strides) if stride >= STRIDE), len(strides) - 1
        )
        self.stride = strides[self.finest]
        self.levels = nn.ModuleList(
            nn.Conv2d(dim, width, 1, bias=False) for dim in visual_dims[self.finest :]
        )
        self.prompt = PromptPool(prompt_dim, width)
        self.modulate = nn.Linear(width, 2 * width)
        self.mix = nn.Conv2d(width, width // 2, 3, padding=1)
        self.decide = nn.Conv2d(width // 2, 1, 1)
        nn.init.constant_(self.decide.bias, RARE)  # type: ignore[arg-type]  # it has one

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        maps: dict[int, Tensor] = {}
        for group in _alike(looks):
            found = self._judge([looks[place] for place in group], prompt)
            maps.update(zip(group, found, strict=True))
        return [maps[place] for place in range(len(looks))]

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return ranking.by_turns(looks, relevance, candidates, self.threshold)

    def _judge(self, looks: Sequence[Look], prompt: Prompt) -> Tensor:
        """Looks of one shape to `[N, h/s, w/s]`."""
        dtype = self.decide.weight.dtype
        seen = valid_cells([look.valid for look in looks], self.stride, self.decide.weight)
        fused: Tensor = 0  # type: ignore[assignment]  # what a sum starts from
        for place, level in enumerate(self.levels, self.finest):
            values = level(torch.stack([look.features[place] for look in looks]).to(dtype))
            if place > self.finest:
                values = F.interpolate(values, seen.shape[-2:], mode="nearest")
            fused = fused + values
        scale, shift = self.modulate(self.prompt([prompt.embedding])).view(1, 2, -1, 1, 1).unbind(1)
        chosen = F.relu(fused * (1 + scale) + shift)
        logits: Tensor = self.decide(F.relu(self.mix(kept(chosen, seen))))
        return (logits.sigmoid() * seen)[:, 0]


def _alike(looks: Sequence[Look]) -> list[list[int]]:
    """The places of looks whose canvases have one shape, which can be judged at once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, look in enumerate(looks):
        groups.setdefault(tuple(look.pixels.shape), []).append(place)
    return list(groups.values())
