"""Visual tokens as the language model takes them in: what is seen, where, how coarsely, and how
relevant the cropper found it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.values import VisualTokens

_OCTAVES = 5
"""Waves of a position: from twice the scene's side down to an eighth of it."""


class VisualEmbedding(nn.Module):
    """Features and positions of visual tokens to the width of the language model."""

    def __init__(self, visual_dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(visual_dim)
        self.content = nn.Linear(visual_dim, width)
        self.place = nn.Sequential(
            nn.Linear(4 * _OCTAVES + 8, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, tokens: Sequence[VisualTokens]) -> Tensor:
        """All tokens of all looks, one after the other, `[sum of T, width]`."""
        weight = self.content.weight
        features = torch.cat([item.features for item in tokens]).to(weight.dtype)
        places = torch.cat([_place(item) for item in tokens])
        # The waves are counted in float32: in 16 bits neighbours would fall together.
        embedded: Tensor = self.content(self.norm(features)) + self.place(places.to(weight.dtype))
        return embedded


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
