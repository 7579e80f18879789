"""mmdetection's Mask2Former decoder, asked by language queries.

Letters: N looks, K queries of a look, P pairs of look and query, S slots, C channels, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.models.layers import Mask2FormerTransformerDecoder, SinePositionalEncoding
from torch import Tensor, nn

from .pixel_decoder import DECODED, encoded

KINDS = 2
"""What a slot can hold: an object, or nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What the slots of all pairs hold after one layer: `objects [P, S, 2]`, the logits of object
    and of nothing, and `masks [P, S, h, w]`, logits."""

    objects: Tensor
    masks: Tensor

    def of(self, pairs: slice) -> Drawn:
        """What the slots of some pairs hold."""
        return Drawn(self.objects[pairs], self.masks[pairs])


class MaskDecoder(nn.Module):
    """A set of slots for each pair of look and query, each to hold one object or nothing.

    A slot starts as a learnt vector to which what is asked is added, as content and as position.
    Layer by layer it attends to where it last drew its mask (masked attention, Cheng et al. 2022),
    in one level after another, coarsest first, never to padding, and to the slots of its own pair.
    """

    def __init__(self, width: int, slots: int, layers: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.contents = nn.Embedding(slots, width)
        self.positions = nn.Embedding(slots, width)
        self.levels = nn.Embedding(DECODED, width)
        self.encoding = SinePositionalEncoding(num_feats=width // 2, normalize=True)
        attention = {"embed_dims": width, "num_heads": heads, "attn_drop": 0.0}
        self.decoder = Mask2FormerTransformerDecoder(
            num_layers=layers,
            layer_cfg={
                "self_attn_cfg": {**attention, "batch_first": True},
                "cross_attn_cfg": {**attention, "batch_first": True},
                "ffn_cfg": {"embed_dims": width, "feedforward_channels": feed_forward},
            },
        )
        for parameter in self.decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
        self.kind = nn.Linear(width, KINDS)
        self.embed = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )

    def forward(
        self,
        asked: Tensor,
        counts: Sequence[int],
        features: Tensor,
        levels: Sequence[Tensor],
        seen: Tensor,
    ) -> list[Drawn]:
        """What is drawn before the first layer and after each.

        `asked [P, 2 C]` is added to contents and positions, its pairs in the order of their looks,
        `counts` of them each; `features [N, C, h, w]`, `levels` and `seen [N, 1, h, w]`, 1 for
        data, are the looks'.
        """
        owner = torch.tensor(
            [look for look, count in enumerate(counts) for _ in range(count)], device=asked.device
        )
        numbers = torch.arange(self.contents.num_embeddings, device=asked.device)
        content, position = asked[:, None].chunk(2, 2)  # [P, 1, C]
        content, position = content + self.contents(numbers), position + self.positions(numbers)
        kinds = self.levels(torch.arange(DECODED, device=asked.device))
        shapes = [(level.shape[-2], level.shape[-1]) for level in levels]
        keys = [
            (level.flatten(2).transpose(1, 2) + kind)[owner]
            for level, kind in zip(levels, kinds, strict=True)
        ]
        places = [encoded(self.encoding, shape, content) for shape in shapes]
        padding = [_padding(seen, shape)[owner] for shape in shapes]
        drawn = [self._draw(content, counts, features)]
        for number, layer in enumerate(self.decoder.layers):
            level = number % DECODED
            content = layer(
                query=content,
                key=keys[level],
                value=keys[level],
                query_pos=position,
                key_pos=places[level],
                cross_attn_mask=self._blocked(drawn[-1].masks, shapes[level], padding[level]),
            )
            drawn.append(self._draw(content, counts, features))
        return drawn

    def _draw(self, content: Tensor, counts: Sequence[int], features: Tensor) -> Drawn:
        content = self.decoder.post_norm(content)
        parts = self.embed(content).split(list(counts))
        masks = [
            torch.einsum("ksc,chw->kshw", part, look)
            for part, look in zip(parts, features, strict=True)
        ]
        return Drawn(self.kind(content), torch.cat(masks))

    @torch.no_grad()
    def _blocked(self, masks: Tensor, shape: tuple[int, int], padding: Tensor) -> Tensor:
        """Where a slot must not look, `[P x heads, S, cells]`: outside of its mask, and in padding;
        a slot that drew nothing looks everywhere else."""
        logits = F.interpolate(masks, shape, mode="bilinear").flatten(2)
        blocked = (logits < 0) | padding
        blocked = torch.where(blocked.all(2, keepdim=True), padding, blocked)
        return blocked.repeat_interleave(self.heads, 0)


def _padding(seen: Tensor, shape: tuple[int, int]) -> Tensor:
    """The cells without data, `[N, 1, cells]`; none where there is no data at all."""
    padding = F.adaptive_max_pool2d(seen, shape).flatten(2) == 0
    return padding & ~padding.all(2, keepdim=True)
