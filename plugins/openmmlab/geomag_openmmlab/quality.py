"""How well a mask is drawn, judged from the mask and what lies in its box.

After Mask Scoring R-CNN (Huang et al. 2019): a slot can be sure of its object and draw it badly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import ops

SIDE = 7
"""Cells along a side of the window that a box is seen through."""
_WIDTH, _HIDDEN = 32, 64


class Quality(nn.Module):
    """Estimates the intersection over union of masks and the objects they are meant to be.

    It teaches nothing to what it judges: neither features nor masks get a gradient from it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, _WIDTH, 1)
        self.mix = nn.Sequential(nn.Conv2d(_WIDTH + 1, _HIDDEN, 3, padding=1), nn.ReLU())
        self.judge = nn.Linear(_HIDDEN, 1)

    def forward(self, features: Tensor, masks: Tensor, owner: Tensor) -> Tensor:
        """`features [N, C, h, w]`, and `masks [M, h, w]`, logits, each in look `owner [M]`, to
        estimates in [0, 1], `[M]`."""
        drawn = masks.detach()
        edges = boxes(drawn)
        looks = torch.cat([owner[:, None].to(edges.dtype), edges], 1)
        shown = ops.roi_align(self.reduce(features.detach()), looks, SIDE)
        own = torch.arange(len(drawn), device=drawn.device, dtype=edges.dtype)
        shape = ops.roi_align(drawn.sigmoid()[:, None], torch.cat([own[:, None], edges], 1), SIDE)
        pooled = self.mix(torch.cat([shown, shape], 1)).mean((2, 3))
        estimate: Tensor = self.judge(pooled)[:, 0].sigmoid()
        return estimate


def boxes(masks: Tensor) -> Tensor:
    """Left, top, right, bottom in cells of where `masks [M, h, w]`, logits, are above zero,
    `[M, 4]`; all there is of a mask that is nowhere."""
    inside = masks > 0
    left, right = _ends(inside.any(1))
    top, bottom = _ends(inside.any(2))
    return torch.stack([left, top, right, bottom], 1).to(masks.dtype)


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """The first place of `line [M, length]` that is set and the one after the last."""
    steps = torch.arange(line.shape[1], device=line.device)
    line = line | ~line.any(1, keepdim=True)
    first = torch.where(line, steps, line.shape[1]).amin(1)
    return first, torch.where(line, steps + 1, 0).amax(1)
