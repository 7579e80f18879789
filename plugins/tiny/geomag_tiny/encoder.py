"""Vision encoder: residual 3 x 3 convolutions down to stride 32, one attention block there, and a
way back up, so that fine levels know what coarse ones saw.

Dense convolutions, because a CPU runs them at several times the rate of depthwise ones; channels
last, because that makes normalisation of the levels four times as fast. Inside, channels are
normalised over each view by itself: normalised per position, the same network learns many times
slower (docs/training-log.md). Padding is zeros below and to the right of the data: rows and columns
of zeros at the end are masked before everything that mixes positions, so that a view on a larger
canvas is encoded as on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ChannelNorm, ViewNorm, kept, pooled

MEAN, SPREAD = 0.38, 0.19
"""Of aerial photographs, roughly; one number each, so that any number of bands is served."""


class Encoder(nn.Module):
    """Features of strides 4, 8 and 16, with context from stride 32.

    `widths` are the channels at strides 2, 4, 8, 16 and 32, `depths` the residual blocks at the
    last four, `embed_dims` the channels of the three levels that are returned.
    """

    def __init__(
        self,
        embed_dims: Sequence[int] = (32, 64, 128),
        widths: Sequence[int] = (24, 48, 80, 128, 192),
        depths: Sequence[int] = (1, 1, 2, 1),
        heads: int = 6,
        bands: int = 3,
    ) -> None:
        super().__init__()
        self.embed_dims = tuple(embed_dims)
        self.strides = (4, 8, 16)
        self.bands = bands
        self.entry = nn.Conv2d(bands, widths[0], 3, stride=2, padding=1)
        self.stages = nn.ModuleList(
            _Stage(before, width, depth)
            for before, width, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        )
        self.context = _Context(widths[-1], heads)
        self.ascent = nn.ModuleList(
            _Ascent(own, above, width)
            for own, above, width in zip(
                widths[1:4], (*embed_dims[1:], widths[-1]), embed_dims, strict=True
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        frames = _frames(pixels)
        values = ((pixels - MEAN) / SPREAD).contiguous(memory_format=torch.channels_last)
        values = self.entry(kept(values.to(self.entry.weight.dtype), frames[1]))
        below = []
        for stage, stride in zip(self.stages, (4, 8, 16, 32), strict=True):
            values = stage(values, frames[stride // 2], frames[stride])
            below.append(values)
        values = kept(self.context(below.pop(), frames[32]), frames[32])
        levels = []
        for place in reversed(range(len(self.ascent))):
            values = self.ascent[place](below[place], values, frames[self.strides[place]])
            levels.append(values)
        return tuple(reversed(levels))


class _Stage(nn.Module):
    """Halves the grid, then refines."""

    def __init__(self, before: int, width: int, depth: int) -> None:
        super().__init__()
        self.norm = ViewNorm(before)
        self.down = nn.Conv2d(before, width, 3, stride=2, padding=1)
        # Inner widths are multiples of 16, what the vector units of CPUs like.
        inner = max(16, width * 3 // 4 // 16 * 16) if width < 128 else width
        self.blocks = nn.ModuleList(_Residual(width, inner) for _ in range(depth))

    def forward(self, values: Tensor, before: Tensor | None, frame: Tensor | None) -> Tensor:
        values = self.down(kept(F.relu(self.norm(values, before)), before))
        for block in self.blocks:
            values = block(values, frame)
        return values


class _Residual(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = ViewNorm(width)
        self.squeeze = nn.Conv2d(width, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, values: Tensor, frame: Tensor | None) -> Tensor:
        change = F.relu(self.squeeze(kept(self.norm(values, frame), frame)))
        changed: Tensor = values + self.expand(kept(change, frame))
        return changed


class _Context(nn.Module):
    """Every cell sees every other cell of its image; no positions, so any grid will do."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, values: Tensor, frame: Tensor | None) -> Tensor:
        height, width = values.shape[-2:]
        cells: Tensor = values.flatten(2).transpose(1, 2)  # [N, h w, C]
        parts = self.inward(self.norm(cells)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mask = None if frame is None else frame.flatten(2)[:, None].bool()
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        cells = cells + self.outward(seen.transpose(1, 2).flatten(2))
        mixed: Tensor = cells.transpose(1, 2).unflatten(2, (height, width))
        return mixed


class _Ascent(nn.Module):
    """One level of the way up: what is seen here, with what the level above made of it."""

    def __init__(self, own: int, above: int, width: int) -> None:
        super().__init__()
        self.norm = ViewNorm(own)
        self.own = nn.Conv2d(own, width, 1)
        self.above = nn.Conv2d(above, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = ChannelNorm(width)

    def forward(self, own: Tensor, above: Tensor, frame: Tensor | None) -> Tensor:
        lifted = F.interpolate(self.above(above), scale_factor=2.0, mode="nearest")
        # A grid of odd sides was rounded up on the way down.
        mixed = self.own(self.norm(own, frame)) + lifted[..., : own.shape[2], : own.shape[3]]
        mixed = mixed + self.mix(kept(F.relu(mixed), frame))
        return kept(self.out(mixed), frame)


def _frames(pixels: Tensor) -> dict[int, Tensor | None]:
    """For every stride where the data is, `[N, 1, h/s, w/s]`; None where it fills the canvas.

    Data reaches to the last row and the last column that are not all zero.
    """
    strides = (1, 2, 4, 8, 16, 32)
    dark = pixels.detach().amax(1) <= 0  # [N, h, w]
    rows, columns = ~dark.all(2), ~dark.all(1)
    blank = ~rows.any(1, keepdim=True)  # an image of nothing is taken for a black one
    rows = rows.flip(1).cummax(1).values.flip(1) | blank
    columns = columns.flip(1).cummax(1).values.flip(1) | blank
    if bool(rows.all()) and bool(columns.all()):
        return dict.fromkeys(strides)
    frame = (rows[:, :, None] & columns[:, None, :])[:, None].to(pixels.dtype)
    return {stride: pooled(frame, stride) for stride in strides}
