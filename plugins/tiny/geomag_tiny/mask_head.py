"""Mask head: every query becomes a small network of its own, run over each cell of a look.

After CondInst (Tian et al. 2020): dynamic 1 x 1 convolutions over shared features say what a cell
shows. Two curves of the query, over the rows and the columns of the scene, say where its target may
lie ("at the top left"). A cell is marked where all three agree. A thing lies at one place, whatever
borders it crosses: cells that hang together are judged by what the curves say of them on average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.values import Look, LookMasks

from .layers import kept, valid_cells

RARE = -3.0
"""The logit masks start from: most cells are not what is asked for."""
OUTSIDE = -20.0
"""The logit where there is no data."""
OPEN = 4.0
"""The logit of the best place, and of every place before anything is learnt. Curves that could rise
and fall as a whole would do what contents do better, and never learn to tell places apart."""
_WAVES = 3
_CURVE = 1 + 2 * _WAVES
"""Numbers that make a curve: its slope, and waves."""
_STEEP = 4.0
"""Curves are so many times what their layer says: few prompts of a step name a place, and so they
would be learnt last."""
_SAMPLES = 33
"""Places a curve is sampled at to find its highest."""
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
        inputs = width + 1
        self.weights = hidden * (inputs + 2) + 1
        last = nn.Linear(192, self.weights)
        self.kernels = nn.Sequential(
            nn.LayerNorm(query_dim), nn.Linear(query_dim, 192), nn.GELU(), last
        )
        # Straight from the query: words that say where keep their meaning whatever else is said.
        self.curves = nn.Linear(query_dim, 2 * _CURVE)
        self.presence = nn.Linear(len(_TOPS) + query_dim, 1)
        with torch.no_grad():
            last.weight.mul_(0.3)
            # Every query starts from the same random network, as a layer of its own would.
            last.bias.normal_(std=inputs**-0.5)
            last.bias[-1] = RARE
            self.curves.weight.zero_()
            self.curves.bias.zero_()
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
        cells = torch.cat([self._fused(looks, seen), _scales(looks, seen)], dim=1)
        content = _run(self.kernels(query), cells, self.hidden).masked_fill(seen == 0, OUTSIDE)
        # Logits of "and": the lowest of them decides, and each of them learns where it does.
        places = torch.stack(_allowed(self.curves(query), looks, seen))
        vertical, horizontal = _together(places, content)
        logits = -torch.logaddexp(-content, torch.logaddexp(-vertical, -horizontal))
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
        return values + self.mix(kept(F.relu(values), seen))

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


def _scales(looks: Sequence[Look], like: Tensor) -> Tensor:
    """How coarsely each cell is seen, `[N, 1, h, w]`."""
    scales = like.new_tensor([math.log2(look.view.scale) / 4 for look in looks])
    return scales[:, None, None, None].expand(-1, 1, *like.shape[-2:])


def _allowed(curves: Tensor, looks: Sequence[Look], like: Tensor) -> tuple[Tensor, Tensor]:
    """`[N, K, 2 curves]` to the logits of the rows and of the columns, `[N, K, h, w]` each."""
    height, width = like.shape[-2:]
    rows, columns = [], []
    for look in looks:
        box, size, scene = look.view.box, look.view.size, look.view.scene
        down = look.pixels.shape[-2] / height * box.height / size.height
        across = look.pixels.shape[-1] / width * box.width / size.width
        rows.append(((torch.arange(height) + 0.5) * down + box.top) / scene.height)
        columns.append(((torch.arange(width) + 0.5) * across + box.left) / scene.width)
    along_rows, along_columns = (_STEEP * curves).split(_CURVE, dim=2)
    vertical = _drawn(along_rows, torch.stack(rows))
    horizontal = _drawn(along_columns, torch.stack(columns))
    grid = (-1, -1, height, width)
    return vertical[..., None].expand(grid), horizontal[..., None, :].expand(grid)


def _together(allowed: Tensor, content: Tensor) -> Tensor:
    """`allowed [..., N, K, h, w]` averaged over each connected region of what is shown."""
    region, count = _regions(content)
    flat = allowed.flatten(-4)
    sums = flat.new_zeros(*flat.shape[:-1], count).index_add(-1, region, flat)
    cells = torch.bincount(region, minlength=count)
    mean = (sums / cells)[..., region].view_as(allowed)
    return torch.where(content > 0, mean, allowed)


def _regions(content: Tensor) -> tuple[Tensor, int]:
    """A number for each cell, `[N K h w]`, the same within a region, and how many there are."""
    shown = (content.detach() > 0).flatten(0, 1).byte().cpu().numpy()
    numbers, count = [], 0
    for one in shown:
        # Regions that meet only at a corner are two.
        found, region = cv2.connectedComponents(one, connectivity=4)
        numbers.append(region + count)
        count += found
    return torch.from_numpy(np.stack(numbers)).flatten().to(content.device), count


def _drawn(curves: Tensor, places: Tensor) -> Tensor:
    """Curves `[N, K, curve]` at places `[N, L]`, `[N, K, L]`, none above `OPEN` in the scene."""
    everywhere = torch.linspace(0, 1, _SAMPLES)[None]
    highest = (curves @ _basis(everywhere).to(curves)).amax(2, keepdim=True)
    return OPEN - highest + curves @ _basis(places).to(curves)


def _basis(places: Tensor) -> Tensor:
    """Places `[N, L]`, shares of a side of the scene, to what curves are made of, `[N, curve, L]`.

    Half waves, a whole one and three halves: enough to tell thirds of a side apart.
    """
    angles = math.pi * places[:, None] * torch.arange(1, _WAVES + 1)[:, None]
    return torch.cat([2 * places[:, None] - 1, angles.sin(), angles.cos()], dim=1)
