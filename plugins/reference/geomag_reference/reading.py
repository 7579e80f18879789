"""What a prompt is to the controller and the cropper: its words, and where they stand."""

from __future__ import annotations

import torch
from torch import Tensor

HISTORY_WEIGHT = 0.25
"""How much is kept of earlier turns: what was said last decides."""


def remembered(words: Tensor, start: int) -> Tensor:
    """Embedded words `[T, H]`, all of one size, with their places counted from `start`, where the
    last turn begins."""
    words = words.float()
    words = words * words.square().mean(1, keepdim=True).clamp_min(1e-12).rsqrt()
    words = words + _waves(len(words), start, words)
    words[:start] *= HISTORY_WEIGHT
    return words


def _waves(length: int, start: int, like: Tensor) -> Tensor:
    """Sinusoidal positions (Vaswani et al. 2017) of `length` tokens, zero at `start`."""
    width = like.shape[1]
    places = torch.arange(length, device=like.device, dtype=torch.float32) - start
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=like.device) / width)
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
