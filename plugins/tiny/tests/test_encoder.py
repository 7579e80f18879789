from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geomag_tiny.encoder import Encoder


@pytest.fixture
def trained(encoder: Encoder) -> Encoder:
    """As after some learning: norms that leave something where their input is nothing."""
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    return other


def test_costs_at_most_one_and_a_half_gigaflops() -> None:
    encoder = Encoder()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.rand(1, 3, 256, 256))
    assert 0.5e9 < counter.get_total_flops() <= 1.5e9


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 80), (64, 32), (112, 64)])
def test_serves_any_multiple_of_its_coarsest_stride(
    encoder: Encoder, height: int, width: int
) -> None:
    levels = encoder(torch.rand(2, 3, height, width))
    assert [tuple(level.shape) for level in levels] == [
        (2, dim, height // stride, width // stride)
        for dim, stride in zip(encoder.embed_dims, encoder.strides, strict=True)
    ]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 160), (16, 48)])
def test_padding_does_not_leak(trained: Encoder, height: int, width: int) -> None:
    pixels = torch.rand(1, 3, height, width)
    canvas = torch.zeros(1, 3, 160, 160)
    canvas[..., :height, :width] = pixels
    for small, large in zip(trained(pixels), trained(canvas), strict=True):
        rows, columns = small.shape[2:]
        torch.testing.assert_close(large[..., :rows, :columns], small, atol=1e-5, rtol=1e-5)
        assert not large[..., rows:, :].any()
        assert not large[..., columns:].any()


def test_padding_of_one_image_changes_no_other(trained: Encoder) -> None:
    full, half = torch.rand(2, 1, 3, 64, 64)
    half[..., 30:, :] = 0
    together = trained(torch.cat([full, half]))
    for level, alone in zip(together, trained(full), strict=True):
        torch.testing.assert_close(level[:1], alone, atol=1e-5, rtol=1e-5)


def test_images_of_different_paddings_are_encoded_as_alone(trained: Encoder) -> None:
    """Also in training, where a batch holds views of every shape."""
    images = torch.rand(3, 3, 64, 64)
    images[1, :, 32:] = 0
    images[2, :, :, 17:] = 0
    for mode in (False, True):
        together = trained.train(mode)(images)
        for place in range(3):
            for level, alone in zip(together, trained(images[place : place + 1]), strict=True):
                torch.testing.assert_close(level[place], alone[0], atol=1e-5, rtol=1e-5)


def test_a_view_is_normalised_as_a_whole(encoder: Encoder) -> None:
    """In a fainter copy of a view all looks much as it did; per position, features would differ
    about as much as those of two views."""
    view, other = torch.rand(2, 1, 3, 128, 128) * 0.8 + 0.1
    for one, fainter, apart in zip(encoder(view), encoder(view * 0.7), encoder(other), strict=True):
        assert (one - fainter).norm() < 0.2 * (one - apart).norm()


def test_a_black_image_is_encoded_like_any_other(encoder: Encoder) -> None:
    levels = encoder(torch.zeros(1, 3, 64, 64))
    assert all(level.isfinite().all() and level.any() for level in levels)


def test_sees_across_the_whole_image(encoder: Encoder) -> None:
    pixels = torch.rand(1, 3, 256, 256)
    changed = pixels.clone()
    changed[..., -32:, -32:] = 0.5
    before, after = encoder(pixels), encoder(changed)
    assert not torch.equal(before[0][..., :8, :8], after[0][..., :8, :8])


def test_leaves_its_input_alone(encoder: Encoder) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    before = pixels.clone()
    encoder(pixels)
    assert torch.equal(pixels, before)


def test_serves_other_bands() -> None:
    encoder = Encoder(embed_dims=(16, 24, 32), widths=(16, 16, 24, 32, 48), heads=3, bands=5)
    assert encoder.bands == 5
    assert encoder(torch.rand(1, 5, 32, 32))[0].shape == (1, 16, 8, 8)
