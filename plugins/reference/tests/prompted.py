"""What the tests of the SAM family share: looks, weights that matter, and a lesson."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from geomag import losses
from geomag.values import Box, Look, MaskTargets, Size, View

DIM = 24
"""Width of a query."""
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def look(head: Any = None, height: int = 64, width: int = 64) -> Look:
    """A look at noise, as `head` encodes it."""
    size = Size(height, width)
    view = View(Box(0, 0, width, height), size, size)
    valid = torch.ones(height, width, dtype=torch.bool)
    bare = Look(view, torch.rand(3, height, width), valid, ())
    return bare if head is None else encoded(bare, head)


def encoded(one: Look, head: Any) -> Look:
    """The same look, encoded by `head`."""
    parts = tuple(part[0] for part in head.encode(one.pixels[None]))
    return Look(one.view, one.pixels, one.valid, (), parts)


def resized(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """By Pillow, which smooths where it shrinks, and normalised."""
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    bands = [
        np.asarray(Image.fromarray(band).resize((width, height), Image.Resampling.BILINEAR))
        for band in pixels.numpy()
    ]
    return torch.from_numpy((np.stack(bands) - mean) / std).float()


def stirred(model: nn.Module) -> None:
    """Weights so large that everything shows in what is drawn."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5 if "pos" in name else 0.3)


def count(model: nn.Module) -> int:
    return sum(item.numel() for item in model.parameters())


def trained(head: nn.Module) -> set[str]:
    return {name for name, item in head.named_parameters() if item.requires_grad}


def lesson(head: Any, looks: Sequence[Look], queries: Sequence[torch.Tensor]) -> torch.Tensor:
    """The loss of the core: each query means the upper half of its look."""
    total = []
    for one, rows, masks in zip(looks, queries, head(looks, queries), strict=True):
        truth = torch.zeros(len(rows), 16, 16)
        truth[:, :8] = 1
        total.append(losses.mask(masks, MaskTargets(truth, torch.arange(len(rows))), one).sum())
    return torch.stack(total).sum()


def taught(head: Any, steps: int = 2) -> list[float]:
    """The loss before each step. A look is encoded in each: the encoder may learn."""
    head.train()
    optimizer = torch.optim.SGD([item for item in head.parameters() if item.requires_grad], 1e-4)
    bare, queries = look(), [torch.randn(2, DIM)]
    found = []
    for _ in range(steps):
        value = lesson(head, [encoded(bare, head)], queries)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    head.eval()
    return found
