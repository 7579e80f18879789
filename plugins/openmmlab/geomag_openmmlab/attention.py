"""Multi-scale deformable attention as a layer, with mmcv's names, over this plugin's `ops`.

mmcv's own layer asks tensors for the shapes of levels: every call waits for the device, and none
works on the meta device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import ops


class DeformableAttention(nn.Module):
    """Every cell looks at a few places in each level (Zhu et al. 2021), and is added to."""

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        count = heads * levels * points
        self.sampling_offsets = nn.Linear(width, 2 * count)
        self.attention_weights = nn.Linear(width, count)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        # To begin with, each head looks its own way, its points one after the other.
        angles = torch.arange(heads) * (2 * math.pi / heads)
        ways = torch.stack([angles.cos(), angles.sin()], 1)
        ways = ways / ways.abs().amax(1, keepdim=True)
        steps = ways[:, None, None] * torch.arange(1, points + 1)[:, None]
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(steps.expand(-1, levels, -1, -1).flatten())
            self.attention_weights.weight.zero_()
            self.attention_weights.bias.zero_()
            for layer in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_pos: Tensor,
        key_pos: Tensor,
        key_padding_mask: None,
        spatial_shapes: Sequence[tuple[int, int]],
        level_start_index: None,
        valid_ratios: None,
        reference_points: Tensor,
    ) -> Tensor:
        """`query [N, cells, width]`, at `reference_points [cells, 2]` (x, y) in [0, 1]; the rest is
        what mmdetection's layers hand on."""
        images, cells = query.shape[:2]
        asking = query + query_pos
        split = (images, cells, self.heads, self.levels, self.points)
        sides = torch.tensor([[w, h] for h, w in spatial_shapes], dtype=query.dtype)
        offsets = self.sampling_offsets(asking).view(*split, 2)
        places = reference_points[:, None, None, None] + offsets / sides[:, None].to(query.device)
        weights = self.attention_weights(asking).view(*split[:3], -1).softmax(-1).view(split)
        values = self.value_proj(value).view(images, cells, self.heads, -1)
        attended = ops.deformable_attention(values, spatial_shapes, places, weights)
        added: Tensor = query + self.output_proj(attended)
        return added
