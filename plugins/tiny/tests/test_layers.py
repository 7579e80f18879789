"""Normalising a view: over all of its data, and over nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geomag_tiny.layers import ViewNorm

WIDTH = 6


@pytest.fixture
def norm() -> ViewNorm:
    """With a weight and a bias of each channel's own, as after some learning."""
    made = ViewNorm(WIDTH)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(0.5, 2, WIDTH))
        made.bias.copy_(torch.linspace(-1, 1, WIDTH))
    return made


def values(height: int, width: int, count: int = 1) -> Tensor:
    """Channels of different means and spreads."""
    spread = torch.linspace(0.5, 3, WIDTH)[:, None, None]
    return torch.randn(count, WIDTH, height, width) * spread + 4 * spread


def framed(data: Tensor, height: int, width: int, filling: float = 0.0) -> tuple[Tensor, Tensor]:
    """On a larger canvas, with its frame."""
    canvas = torch.full((*data.shape[:2], height, width), filling)
    frame = torch.zeros(len(data), 1, height, width)
    canvas[..., : data.shape[2], : data.shape[3]] = data
    frame[..., : data.shape[2], : data.shape[3]] = 1
    return canvas, frame


def test_every_channel_of_every_image_is_centred_and_scaled_by_itself() -> None:
    found = ViewNorm(WIDTH)(values(24, 20, count=3), None)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(3, WIDTH), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found.std((2, 3), correction=0), torch.ones(3, WIDTH), atol=5e-3, rtol=0
    )


def test_weights_and_biases_are_those_of_channels(norm: ViewNorm) -> None:
    found = norm(values(24, 20), None)[0]
    torch.testing.assert_close(found.mean((1, 2)), norm.bias.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found.std((1, 2), correction=0), norm.weight.detach(), atol=1e-2, rtol=0
    )


def test_a_frame_that_is_full_changes_nothing(norm: ViewNorm) -> None:
    data = values(12, 9, count=2)
    torch.testing.assert_close(norm(data, torch.ones(2, 1, 12, 9)), norm(data, None))


@pytest.mark.parametrize("filling", [0.0, 50.0])
def test_a_larger_canvas_changes_nothing_whatever_it_is_filled_with(
    norm: ViewNorm, filling: float
) -> None:
    data = values(12, 9, count=2)
    canvas, frame = framed(data, 32, 20, filling)
    torch.testing.assert_close(norm(canvas, frame)[..., :12, :9], norm(data, None))


def test_images_of_different_frames_do_not_mix(norm: ViewNorm) -> None:
    canvases, frames = zip(
        *(framed(values(height, width), 16, 16) for height, width in ((16, 16), (5, 16), (3, 2))),
        strict=True,
    )
    together = norm(torch.cat(canvases), torch.cat(frames))
    for place, (canvas, frame) in enumerate(zip(canvases, frames, strict=True)):
        torch.testing.assert_close(together[place : place + 1], norm(canvas, frame))


def test_an_even_surface_stays_even(norm: ViewNorm) -> None:
    """Its noise is not blown up to a pattern, and one that has none is not divided by zero."""
    even = torch.full((1, WIDTH, 16, 16), 0.7)
    noisy = even + 1e-3 * torch.randn_like(even)
    bias = norm.bias[:, None, None]
    for data, reach in ((even, 1e-4), (noisy, 0.5)):
        for found in (norm(data, None), norm(*framed(data, 32, 32))[..., :16, :16]):
            assert (found - bias).abs().max() < reach


def test_a_single_cell_has_finite_values(norm: ViewNorm) -> None:
    assert norm(*framed(values(1, 1), 8, 8)).isfinite().all()
    assert norm(values(1, 1), None).isfinite().all()


def test_gradients_are_the_same_with_a_frame_and_without(norm: ViewNorm) -> None:
    data = values(7, 5)
    plain, padded = (data.clone().requires_grad_(True) for _ in range(2))
    pattern = torch.randn(1, WIDTH, 7, 5)
    (norm(plain, None) * pattern).sum().backward()
    weights = norm.weight.grad.clone()
    norm.zero_grad()
    (norm(*framed(padded, 12, 12))[..., :7, :5] * pattern).sum().backward()
    torch.testing.assert_close(padded.grad, plain.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm.weight.grad, weights, atol=1e-4, rtol=1e-4)
