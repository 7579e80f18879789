"""An encoder that passes the colours of a scene through, and channels that mark each a colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geomag_baselines.channels import ClassChannels

CLASSES = ("ship", "baseball_diamond", "harbor")
"""Shown in red, green and blue."""


class Colours(nn.Module):
    """The mean colours of cells; remembers what sizes it was shown."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.embed_dims, self.strides, self.bands = (3,), (stride,), 3
        self.shown: list[tuple[int, int]] = []

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        self.shown.append((pixels.shape[-2], pixels.shape[-1]))
        return (nn.functional.avg_pool2d(pixels, self.strides[0]),)


def reader(stride: int = 1, classes: Sequence[str] = CLASSES, **more: Any) -> ClassChannels:
    """Channels that mark what has the colour of their class: logit 8 for all of it, -8 for none."""
    model = ClassChannels(Colours(stride), classes, width=3, **more).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.levels[0].weight[:, :, 0, 0] = torch.eye(3)
        model.decide.weight[:, :, 0, 0] = 16 * torch.eye(len(classes), 3)
        model.decide.bias.fill_(-8)
    return model


Region = tuple[int, int, int, int]
RED, GREEN, BLUE = range(3)


def painted(height: int, width: int, *regions: tuple[int, Region]) -> NDArray[np.uint8]:
    """A dark scene with (colour, (top, left, height, width)) in it."""
    array = np.zeros((height, width, 3), np.uint8)
    for colour, (top, left, rows, columns) in regions:
        array[top : top + rows, left : left + columns, colour] = 255
    return array
