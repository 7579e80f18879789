"""From the levels of an encoder to those that Mask2Former works on.

Letters: N images, C channels, h w cells, s strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmengine.config import ConfigDict
from torch import Tensor, nn

from .attention import DeformableAttention

DECODED = 3
"""Levels, the coarsest, that deformable attention mixes and the decoder attends to; the finest of
all becomes the mask features (Cheng et al. 2022)."""
FINEST = 4
"""Masks are drawn at this stride, or the next one above it there is."""
POINTS = 4
"""Places that a head looks at in each level."""
GROUP = 8
"""Channels that are normalised together: 32 groups of 256."""


class Pyramid(nn.Module):
    """One level for each stride, and four at least.

    Of several levels of one stride the last is taken. Where fewer than four are left, as of a plain
    ViT, transposed convolutions make finer ones down to a stride of 4 where it divides by two, and
    then strided ones coarser ones, a simple feature pyramid (Li et al. 2022). A stride of 16 alone
    becomes 4, 8, 16 and 32; 14 alone 7, 14, 28 and 56; 4, 8 and 16 get 32.
    """

    def __init__(self, visual_dims: Sequence[int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        last = {stride: place for place, stride in enumerate(strides)}
        self.places = [last[stride] for stride in sorted(last)]
        found = sorted(last)
        dims = [visual_dims[place] for place in self.places]
        self.finer, self.coarser = nn.ModuleList(), nn.ModuleList()
        while len(found) <= DECODED and found[0] > FINEST and found[0] % 2 == 0:
            self.finer.append(nn.Sequential(nn.ConvTranspose2d(dims[0], width, 2, 2), nn.GELU()))
            found, dims = [found[0] // 2, *found], [width, *dims]
        while len(found) <= DECODED:
            self.coarser.append(nn.Conv2d(dims[-1], width, 2, 2))
            found, dims = [*found, 2 * found[-1]], [*dims, width]
        self.strides, self.dims = tuple(found), tuple(dims)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        levels = [features[place] for place in self.places]
        for grow in self.finer:
            levels.insert(0, grow(levels[0]))
        for shrink in self.coarser:
            height, width = levels[-1].shape[-2:]
            # An odd row or column would be left out, and of a single one nothing.
            levels.append(shrink(F.pad(levels[-1], (0, width % 2, 0, height % 2))))
        return levels


class PixelDecoder(MSDeformAttnPixelDecoder):  # type: ignore[misc]  # mmdetection has no types
    """mmdetection's pixel decoder, which never asks a tensor for the shape of a level.

    Its parameters have mmdetection's names and its numbers.
    """

    def __init__(
        self, dims: Sequence[int], width: int, layers: int, heads: int, feed_forward: int
    ) -> None:
        attention = {
            "embed_dims": width,
            "num_heads": heads,
            "num_levels": DECODED,
            "num_points": POINTS,
            "dropout": 0.0,
            "batch_first": True,
        }
        network = {"embed_dims": width, "feedforward_channels": feed_forward, "ffn_drop": 0.0}
        super().__init__(
            in_channels=list(dims),
            strides=[1] * len(dims),
            feat_channels=width,
            out_channels=width,
            num_outs=DECODED,
            norm_cfg={"type": "GN", "num_groups": width // GROUP},
            act_cfg={"type": "ReLU"},
            encoder=ConfigDict(
                num_layers=layers, layer_cfg={"self_attn_cfg": attention, "ffn_cfg": network}
            ),
            positional_encoding={"num_feats": width // 2, "normalize": True},
        )
        self.init_weights()
        for layer in self.encoder.layers:
            layer.self_attn = DeformableAttention(width, heads, DECODED, POINTS)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Levels, finest first, to mask features `[N, C, h, w]` at the stride of the finest, and
        the `DECODED` coarsest ones, coarsest first, `[N, C, h, w]` each."""
        coarse = list(reversed(feats))[:DECODED]
        shapes = [(level.shape[-2], level.shape[-1]) for level in coarse]
        rows = [
            project(level).flatten(2).transpose(1, 2)
            for project, level in zip(self.input_convs, coarse, strict=True)
        ]
        like = rows[0]
        kinds = self.level_encoding(torch.arange(DECODED, device=like.device))
        places = [
            encoded(self.postional_encoding, shape, like) + kind
            for shape, kind in zip(shapes, kinds, strict=True)
        ]
        memory = self.encoder(
            query=torch.cat(rows, 1),
            query_pos=torch.cat(places, 1),
            key_padding_mask=None,
            spatial_shapes=shapes,
            level_start_index=None,
            valid_ratios=None,
            reference_points=torch.cat([_centres(*shape, like) for shape in shapes]),
        )
        parts = memory.split([height * width for height, width in shapes], 1)
        levels = [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        finest = levels[-1]
        finer = list(reversed(feats))[DECODED:]
        for lateral, output, level in zip(
            self.lateral_convs, self.output_convs, finer, strict=True
        ):
            beside = lateral(level)
            above = F.interpolate(finest, beside.shape[-2:], mode="bilinear")
            finest = output(beside + above)
        return self.mask_feature(finest), levels


def encoded(encoding: nn.Module, shape: tuple[int, int], like: Tensor) -> Tensor:
    """The sine encoding of every cell of a grid, `[1, h w, C]`."""
    nothing = torch.zeros(1, *shape, dtype=torch.bool, device=like.device)
    rows = encoding(nothing).flatten(2).transpose(1, 2)
    return cast(Tensor, rows.to(like.dtype))


def _centres(height: int, width: int, like: Tensor) -> Tensor:
    """The centres of cells `[h w, 2]`, (x, y) in [0, 1]."""
    rows = (torch.arange(height, device=like.device) + 0.5) / height
    columns = (torch.arange(width, device=like.device) + 0.5) / width
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([across, down], -1).flatten(0, 1).to(like.dtype)
