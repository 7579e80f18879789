"""Mask head: every query becomes a small network of its own, run over each cell of a look.

After CondInst (Tian et al. 2020): dynamic 1 x 1 convolutions over shared features. Beside the
features a cell knows where it lies in the scene, so that "at the left" can be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.values import Look, LookMasks

from .layers import ChannelNorm, kept, valid_cells

RARE = -3.0
"""The logit masks start from: most cells are not what is asked for."""
OUTSIDE = -20.0
"""The logit where there is no data."""
_PLACES = 7
_LEAK = 0.1
"""A query whose cells all fell silent would never learn again."""
_TOPS = (1, 8, 32)
"""Presence is read off the mean of so many highest logits."""


class MaskHead(nn.Module):
    """One mask a query, at the finest stride of the encoder."""

    def __init__(
        self,
        visual_dims: Sequence[int],
        strides: Sequence[int],
        query_dim: int,
        width: int = 32,
        hidden: int = 16,
    ) -> None:
        super().__init__()
        self.stride = strides[0]
        self.hidden = hidden
        self.levels = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in visual_dims)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.norm = ChannelNorm(width)
        inputs = width + _PLACES
        kernels = hidden * (inputs + 2) + 1
        last = nn.Linear(192, kernels)
        self.kernels = nn.Sequential(
            nn.LayerNorm(query_dim), nn.Linear(query_dim, 192), nn.GELU(), last
        )
        self.presence = nn.Linear(len(_TOPS) + query_dim, 1)
        with torch.no_grad():
            last.weight.mul_(0.3)
            # Every query starts from the same random network, as a layer of its own would.
            last.bias.normal_(std=inputs**-0.5)
            last.bias[-1] = RARE
            self.presence.weight.zero_()
            self.presence.weight[0, 1] = 1.0
            self.presence.bias.fill_(1.0)

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, (look, query) in enumerate(zip(looks, queries, strict=True)):
            groups.setdefault((tuple(look.pixels.shape), len(query)), []).append(place)
        masks: dict[int, LookMasks] = {}
        for group in groups.values():
            drawn = self._draw([looks[i] for i in group], [queries[i] for i in group])
            masks.update(zip(group, drawn, strict=True))
        return [masks[place] for place in range(len(looks))]

    def _draw(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        """Looks of one shape with equally many queries."""
        seen = valid_cells([look.valid for look in looks], self.stride, self.mix.weight)
        count = len(queries[0])
        query = torch.stack(list(queries)).to(self.mix.weight.dtype)  # [N, K, D]
        if not count:
            empty = seen.new_zeros(len(looks), 0, *seen.shape[-2:])
            return [_masks(logits, logits.new_zeros(0)) for logits in empty]
        cells = torch.cat([self._fused(looks, seen), _places(looks, seen)], dim=1)
        logits = _run(self.kernels(query), cells, self.hidden)
        logits = logits.masked_fill(seen == 0, OUTSIDE)
        score = self._score(logits, query)
        return [_masks(*pair) for pair in zip(logits, score, strict=True)]

    def _fused(self, looks: Sequence[Look], seen: Tensor) -> Tensor:
        """All levels on the finest grid, `[N, width, h, w]`."""
        values = seen.new_zeros(())
        for number, level in enumerate(self.levels):
            stacked = torch.stack([look.features[number] for look in looks]).to(seen.dtype)
            part = level(stacked)
            if number:
                part = F.interpolate(part, seen.shape[-2:], mode="nearest")
            values = values + part
        values = values + self.mix(kept(F.relu(values), seen))
        normed: Tensor = self.norm(values)
        return normed

    def _score(self, logits: Tensor, query: Tensor) -> Tensor:
        """`[N, K]` in [0, 1]."""
        flat = logits.flatten(2)
        ranked = flat.topk(min(max(_TOPS), flat.shape[2]), dim=2).values.clamp_min(-10)
        tops = [ranked[..., :top].mean(2) for top in _TOPS]
        logit: Tensor = self.presence(torch.cat([torch.stack(tops, 2), query], 2))
        return logit[..., 0].sigmoid()


def _run(kernels: Tensor, cells: Tensor, hidden: int) -> Tensor:
    """Two layers for each query: `[N, K, weights]` on `[N, inputs, h, w]` gives `[N, K, h, w]`."""
    images, count = kernels.shape[:2]
    inputs = cells.shape[1]
    first, bias, second, offset = kernels.split([hidden * inputs, hidden, hidden, 1], dim=2)
    rows = first.reshape(images, count * hidden, inputs)
    inner = F.leaky_relu(torch.baddbmm(bias.reshape(images, -1, 1), rows, cells.flatten(2)), _LEAK)
    inner = inner.view(images * count, hidden, -1)
    drawn = torch.baddbmm(offset.reshape(-1, 1, 1), second.reshape(-1, 1, hidden), inner)
    return drawn.view(images, count, *cells.shape[2:])


def _masks(logits: Tensor, score: Tensor) -> LookMasks:
    return LookMasks(logits, torch.arange(len(logits), device=logits.device), score)


def _places(looks: Sequence[Look], like: Tensor) -> Tensor:
    """Where each cell lies in the scene, and how coarsely it is seen, `[N, 7, h, w]`."""
    height, width = like.shape[-2:]
    places = []
    for look in looks:
        box, size, scene = look.view.box, look.view.size, look.view.scene
        rows, columns = look.pixels.shape[-2] / height, look.pixels.shape[-1] / width
        down = (torch.arange(height) + 0.5) * rows * box.height / size.height + box.top
        across = (torch.arange(width) + 0.5) * columns * box.width / size.width + box.left
        y = (2 * down / scene.height - 1)[:, None].expand(height, width)
        x = (2 * across / scene.width - 1).expand(height, width)
        scale = torch.full_like(y, math.log2(look.view.scale) / 4)
        angles = math.pi * torch.stack([y, x])
        waves = torch.cat([angles.sin(), angles.cos()])
        places.append(torch.cat([torch.stack([y, x]), waves, scale[None]]))
    return torch.stack(places).to(like)
