"""Mutants of the vision encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geomag_tiny.encoder import Encoder
from tests.mutants.catalogue import mutant

Levels = tuple[Tensor, ...]
KIND = "vision_encoder"


@mutant(KIND)
class Wider(Encoder):
    """No mutant: features of another scale are as good."""

    def forward(self, pixels: Tensor) -> Levels:
        return tuple(3 * level for level in super().forward(pixels))


@mutant(KIND, "check_works_as_promised", "check_flat_images")
class Endless(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        fine, *coarser = super().forward(pixels)
        corner = torch.zeros_like(fine, dtype=torch.bool)
        corner[..., -1, -1] = True
        return (fine.masked_fill(corner, torch.inf), *coarser)


@mutant(KIND, "check_stride_is_true")
class LyingStride(Encoder):
    def __init__(self, embed_dims: Any, widths: Any, heads: int) -> None:
        super().__init__(embed_dims, widths, heads=heads)
        self.strides = (4, 8, 32)

    def forward(self, pixels: Tensor) -> Levels:
        told, self.strides = self.strides, (4, 8, 16)
        levels = super().forward(pixels)
        self.strides = told
        return levels


@mutant(KIND, "check_width_is_true")
class LyingWidth(Encoder):
    def __init__(self, embed_dims: Any, widths: Any, heads: int) -> None:
        super().__init__(embed_dims, widths, heads=heads)
        self.embed_dims = (*self.embed_dims[:-1], self.embed_dims[-1] + 8)


@mutant(KIND, "check_finest_first", "check_stride_is_true", "check_width_is_true")
class CoarsestFirst(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        return super().forward(pixels)[::-1]


@mutant(KIND, "check_any_size")
class NeedsRoom(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        if min(pixels.shape[-2:]) < 2 * self.strides[-1]:
            raise ValueError("an image has at least two cells each way")
        return super().forward(pixels)


@mutant(KIND, "check_any_size")
class CutsToEven(Encoder):
    """Drops the last row of cells where their number is odd and above one."""

    def forward(self, pixels: Tensor) -> Levels:
        rows = pixels.shape[-2] // self.strides[-1]
        keep = rows - 1 if rows % 2 and rows > 1 else rows
        return super().forward(pixels[..., : keep * self.strides[-1], :])


@mutant(KIND, "check_bands_are_true")
class LeavesBandOut(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        kept = torch.tensor([1.0, 1.0, 0.0], dtype=pixels.dtype)[:, None, None]
        return super().forward(pixels * kept)


@mutant(KIND, "check_flat_images")
class DividesByDarkness(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        return super().forward(pixels * (1 - pixels) / (1 - pixels))


@mutant(KIND, "check_images_do_not_mix", "check_images_do_not_mix_in_training")
class MixesImages(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        return tuple(level + level.mean(0) for level in super().forward(pixels))


@mutant(KIND, "check_images_do_not_mix", "check_images_do_not_mix_in_training")
class PassesOn(Encoder):
    """Every image gets a little of the one before it."""

    def forward(self, pixels: Tensor) -> Levels:
        return tuple(level + 0.1 * level.roll(1, 0) for level in super().forward(pixels))


@mutant(KIND, "check_images_do_not_mix_in_training")
class MixesInTraining(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        levels = super().forward(pixels)
        return tuple(level + level.mean(0) for level in levels) if self.training else levels


@mutant(KIND, "check_features_lie_where_pixels_lie")
class SwapsAxes(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        levels = super().forward(pixels)
        square = pixels.shape[-2] == pixels.shape[-1]
        return tuple(level.transpose(-1, -2) for level in levels) if square else levels


@mutant(KIND, "check_features_lie_where_pixels_lie")
class MirrorsCoarsest(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        *finer, coarsest = super().forward(pixels)
        return (*finer, coarsest.flip(-1))


@mutant(KIND)
class NormalisesView(Encoder):
    """No mutant: every channel has a mean and a variance over the data of its view alone."""

    def forward(self, pixels: Tensor) -> Levels:
        data = (pixels.amax(1, keepdim=True) > 0).to(pixels.dtype)
        return tuple(self._normed(level, data) for level in super().forward(pixels))

    def _normed(self, level: Tensor, data: Tensor) -> Tensor:
        frame = nn.functional.adaptive_max_pool2d(data, level.shape[-2:])
        area = frame.sum((2, 3), keepdim=True).clamp_min(1)
        apart = (level - (level * frame).sum((2, 3), keepdim=True) / area) * frame
        variance = apart.square().sum((2, 3), keepdim=True) / area
        return apart * (variance + 1e-3).rsqrt()


@mutant(KIND, "check_padding_does_not_leak")
class NormalisesCanvas(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        return tuple(nn.functional.group_norm(level, 4) for level in super().forward(pixels))


@mutant(KIND, "check_padding_does_not_leak")
class NormalisesCanvasInTraining(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        levels = super().forward(pixels)
        if self.training:
            return tuple(nn.functional.instance_norm(level) for level in levels)
        return levels


@mutant(KIND, "check_input_unchanged")
class NormalisesInPlace(Encoder):
    def forward(self, pixels: Tensor) -> Levels:
        levels = super().forward(pixels)
        pixels.detach().sub_(0.4).div_(0.2)
        return levels
