"""Comparing what a component returned with what it returned before."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Outputs = Mapping[str, Tensor]

EXACT = 1e-5
"""For the same sums in the same order; kernels may still differ in the last bits."""
CLOSE = 1e-3
"""For the same sums in another order: another batch, another way to attend."""

ROUGH = 2e-2
"""For the same sums on another machine."""


def distance(first: Tensor, second: Tensor) -> float:
    """The largest difference, as a share of the largest value; infinite where shapes differ."""
    if first.shape != second.shape:
        return float("inf")
    if not first.numel():
        return 0.0
    first, second = first.detach().double(), second.detach().double()
    odd = ~(first.isfinite() & second.isfinite())
    if odd.any():
        if not torch.equal(first[odd].nan_to_num(), second[odd].nan_to_num()):
            return float("inf")
        first, second = first.masked_fill(odd, 0), second.masked_fill(odd, 0)
    scale = max(float(first.abs().max()), float(second.abs().max()), 1e-6)
    return float((first - second).abs().max()) / scale


def differences(first: Outputs, second: Outputs, tolerance: float = EXACT) -> list[str]:
    """Which outputs are not the same, each with how far apart they are."""
    found = [f"{name} is only in one" for name in first.keys() ^ second.keys()]
    for name in first.keys() & second.keys():
        apart = distance(first[name], second[name])
        if apart > tolerance:
            found.append(
                f"{name} changed shape from {list(first[name].shape)} to {list(second[name].shape)}"
                if first[name].shape != second[name].shape
                else f"{name} differs by {apart:.1%} of its largest value"
            )
    return sorted(found)


def quarters(change: Tensor) -> dict[tuple[bool, bool], float]:
    """The mean of `[..., h, w]` over the quarters of the canvas, by (at the top, at the left)."""
    height, width = change.shape[-2] // 2, change.shape[-1] // 2
    change = change.detach().abs().double()
    return {
        (True, True): float(change[..., :height, :width].mean()),
        (True, False): float(change[..., :height, width:].mean()),
        (False, True): float(change[..., height:, :width].mean()),
        (False, False): float(change[..., height:, width:].mean()),
    }
