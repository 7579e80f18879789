"""What the visual components share: normalisations and masked spatial mixing.

Letters: N images, C channels, h w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of `[N, C, h, w]`, each position on its own.

    Neither images of a batch nor padding can leak through it, in training either.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ViewNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016): each channel over the data of its own image.

    Padding is left out of the statistics, so a larger canvas changes nothing. `EPSILON` is large
    enough not to turn the noise of an even surface into a pattern.
    """

    EPSILON = 1e-3

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor, frame: Tensor | None) -> Tensor:
        """`values [N, C, h, w]` with data in `frame [N, 1, h, w]`, None where it fills them."""
        if frame is None:
            return torch.group_norm(values, len(self.weight), self.weight, self.bias, self.EPSILON)
        area = frame.sum((2, 3))  # [N, 1]
        inside = values * frame
        mean = inside.sum((2, 3)) / area
        apart = (inside - mean[..., None, None]) * frame
        variance = apart.square().sum((2, 3)) / area
        scale = (variance + self.EPSILON).rsqrt() * self.weight
        return torch.addcmul(self.bias[:, None, None], apart, scale[..., None, None])


def kept(values: Tensor, frame: Tensor | None) -> Tensor:
    """`values [N, C, h, w]` with what lies outside `frame [N, 1, h, w]` at zero; None keeps all.

    Spatial mixing then sees a border where the data ends, as it would on a smaller canvas.
    """
    return values if frame is None else values * frame


def pooled(frame: Tensor, stride: int) -> Tensor:
    """The cells of a grid of `stride` that hold any of `frame [N, 1, h, w]` (1 where data is)."""
    return F.max_pool2d(frame, stride, ceil_mode=True) if stride > 1 else frame


def valid_cells(valid: list[Tensor], stride: int, like: Tensor) -> Tensor:
    """Looks' `valid [h, w]` bool to `[N, 1, h/s, w/s]` in the dtype of `like`, 1 for any data."""
    return pooled(torch.stack(valid)[:, None].to(like.dtype), stride)
