"""Visual tokens as the language model takes them in: what is seen, where, how coarsely, and how
relevant the cropper found it.

Letters: T tokens, C visual width, H width of the language model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.values import VisualTokens

_OCTAVES = 7
"""Waves of a position: from twice the scene's side down to a 32nd of it."""


class Projector(nn.Module):
    """Features and positions of visual tokens, brought to the width, the size and the dtype of
    `words`, rows of a language model's vocabulary."""

    def __init__(self, visual_dim: int, words: Tensor) -> None:
        super().__init__()
        width, dtype = words.shape[1], words.dtype
        self.norm = nn.LayerNorm(visual_dim, dtype=dtype)
        self.content = _twofold(visual_dim, width, dtype)
        self.place = _twofold(4 * _OCTAVES + 8, width, dtype)
        self.size = nn.LayerNorm(width, dtype=dtype)
        with torch.no_grad():
            self.size.weight.copy_(words[:4096].float().std().expand(width))

    def forward(self, tokens: Sequence[VisualTokens]) -> Tensor:
        """All tokens of all looks, one after the other, `[sum of T, H]`."""
        weight = self.norm.weight
        features = [weight.new_zeros(0, len(weight))]
        places = [weight.new_zeros(0, 4 * _OCTAVES + 8)]
        for item in tokens:
            features.append(item.features.to(weight.dtype))
            # The waves are counted in float32: in 16 bits neighbours would fall together.
            places.append(_place(item).to(weight.dtype))
        content = self.content(self.norm(torch.cat(features)))
        embedded: Tensor = self.size(content + self.place(torch.cat(places)))
        return embedded


def _twofold(inner: int, width: int, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inner, width, dtype=dtype), nn.GELU(), nn.Linear(width, width, dtype=dtype)
    )


def _place(tokens: VisualTokens) -> Tensor:
    """Centre, extent, scale and relevance, `[T, 4 octaves + 8]` float32."""
    positions = tokens.positions.float()
    centre, extent = positions[:, :2], positions[:, 2:]
    octaves = 2.0 ** torch.arange(_OCTAVES, device=positions.device)
    angles = (math.pi / 2 * centre[:, :, None] * octaves).flatten(1)
    scale = math.log2(tokens.look.view.scale) / 4
    zoom = F.pad(positions.new_full((len(positions), 1), scale), (0, 1), value=1.0)
    relevance = tokens.relevance.float()[:, None]
    # As a logit too: what is faint is told from what is not there at all.
    faint = relevance.logit(1e-3) / 4
    parts = [angles.sin(), angles.cos(), centre, extent.clamp_min(1e-6).log2() / 4, zoom]
    parts += [relevance, faint]
    return torch.cat(parts, dim=1)
