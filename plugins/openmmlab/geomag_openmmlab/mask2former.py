"""Mask head: Mask2Former (Cheng et al. 2022), several instances for each language query.

mmdetection's pixel decoder and masked-attention decoder; matching, losses and what a query adds to
them are in the files beside this one.

Letters: N looks, K queries of a look, D query width, P pairs of look and query, S slots,
C channels, h w cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.errors import ConfigError
from geomag.values import Look, LookMasks, MaskTargets

from . import ops
from .quality import Quality, boxes
from .silence import silenced

if TYPE_CHECKING:
    from .mask_decoder import Drawn

OUTSIDE = -20.0
"""The logit where there is no data."""
_PLACE = 5
"""Numbers that say where in the scene a look lies."""


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """Looks of one shape: `counts` of pairs each, what the layers drew, `quality [P, S]` of the
    last, and `seen [N, 1, h, w]`, 1 for data."""

    counts: Sequence[int]
    drawn: Sequence[Drawn]
    quality: Tensor
    seen: Tensor


class Mask2Former(nn.Module):
    """Up to `instances` masks for each query in a look, at the finest stride there is.

    A slot that holds an object with a probability of `threshold` or more becomes a mask; of two
    masks of a query whose boxes overlap by more than `duplicates` (intersection over union) the
    better one stays. A score is the probability that the object is there times the estimated
    quality of its mask. Losses compare `points` points of each mask. `feed_forward` is of the
    decoder, `encoder_feed_forward` of the pixel decoder.

    Raises:
        ConfigError: the numbers do not fit together.
    """

    def __init__(
        self,
        visual_dims: Sequence[int],
        strides: Sequence[int],
        query_dim: int,
        feat_channels: int = 256,
        instances: int = 20,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        heads: int = 8,
        feed_forward: int = 2048,
        encoder_feed_forward: int = 1024,
        points: int = 3136,
        threshold: float = 0.5,
        duplicates: float = 0.8,
    ) -> None:
        super().__init__()
        _check(feat_channels, heads, instances, points)
        self.instances, self.threshold, self.duplicates = instances, threshold, duplicates
        with silenced():
            from .mask_decoder import MaskDecoder
            from .matching import Matcher
            from .pixel_decoder import PixelDecoder, Pyramid

            self.pyramid = Pyramid(visual_dims, strides, feat_channels)
            self.pixel_decoder = PixelDecoder(
                self.pyramid.dims, feat_channels, encoder_layers, heads, encoder_feed_forward
            )
            self.mask_decoder = MaskDecoder(
                feat_channels, instances, decoder_layers, heads, feed_forward
            )
            self.matcher = Matcher(points)
        self.ask = nn.Sequential(nn.LayerNorm(query_dim), nn.Linear(query_dim, 2 * feat_channels))
        self.place = nn.Linear(_PLACE, 2 * feat_channels)
        self.quality = Quality(feat_channels)

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        masks: dict[int, LookMasks] = {}
        for group in _alike(looks):
            decoded = self._decode([looks[i] for i in group], [queries[i] for i in group])
            counts = [len(queries[i]) for i in group]
            masks.update(zip(group, self._chosen(decoded, counts), strict=True))
        return [masks[place] for place in range(len(looks))]

    def loss(
        self, looks: Sequence[Look], queries: Sequence[Tensor], targets: Sequence[MaskTargets]
    ) -> Tensor:
        """For each look `[B]`, the published losses of each query: averaged over layers and
        queries, not summed. Without a query it is a zero that keeps the graph."""
        losses: dict[int, Tensor] = {}
        for group in _alike(looks):
            decoded = self._decode([looks[i] for i in group], [queries[i] for i in group])
            start = 0
            for place, count in zip(group, decoded.counts, strict=True):
                rows = slice(start, start + count)
                value = self.matcher.loss(
                    looks[place].view,
                    looks[place].valid,
                    [layer.of(rows) for layer in decoded.drawn],
                    decoded.quality[rows],
                    targets[place],
                )
                losses[place] = value if len(queries[place]) else value * 0
                start += count
        if not losses:
            return self.place.weight.new_zeros(0)
        return torch.stack([losses[place] for place in range(len(looks))])

    def _decode(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> _Decoded:
        """A look without a query is asked nothing in particular, so that all parts always run."""
        weight = self.place.weight
        features = [
            torch.stack(level).to(weight.dtype)
            for level in zip(*(look.features for look in looks), strict=True)
        ]
        fine, levels = self.pixel_decoder(self.pyramid(features))
        asked = [query if len(query) else query.new_zeros(1, query.shape[1]) for query in queries]
        counts = [len(query) for query in asked]
        owner = torch.tensor(
            [look for look, count in enumerate(counts) for _ in range(count)], device=weight.device
        )
        places = weight.new_tensor([_place(look) for look in looks])
        conditions = self.ask(torch.cat(asked).to(weight.dtype)) + self.place(places)[owner]
        valid = torch.stack([look.valid for look in looks])[:, None].to(weight.dtype)
        seen = F.adaptive_max_pool2d(valid, fine.shape[-2:])
        drawn = self.mask_decoder(conditions, counts, fine, levels, seen)
        masks = drawn[-1].masks.flatten(0, 1)
        quality = self.quality(fine, masks, owner.repeat_interleave(self.instances))
        return _Decoded(counts, drawn, quality.view(-1, self.instances), seen)

    def _chosen(self, decoded: _Decoded, counts: Sequence[int]) -> list[LookMasks]:
        """The masks of each look, of its own `counts` of queries."""
        last = decoded.drawn[-1]
        objects = last.objects.softmax(-1)[..., 0]
        scores = objects * decoded.quality
        found, start = [], 0
        for blank, pairs, count in zip(decoded.seen == 0, decoded.counts, counts, strict=True):
            rows = slice(start, start + count)
            logits = last.masks[rows].masked_fill(blank, OUTSIDE).flatten(0, 1)
            score = scores[rows].flatten()
            kept = self._kept(logits, objects[rows].flatten(), score)
            query = kept.div(self.instances, rounding_mode="floor")
            found.append(LookMasks(logits[kept], query, score[kept]))
            start += pairs
        return found

    @torch.no_grad()
    def _kept(self, logits: Tensor, objects: Tensor, scores: Tensor) -> Tensor:
        """Which of the slots of one look become masks; on the meta device, where none is known to
        be empty, all."""
        if logits.is_meta:
            return torch.arange(len(logits), device=logits.device)
        drawn = logits.flatten(1).amax(1) > 0
        rows = ((objects >= self.threshold) & drawn).nonzero()[:, 0]
        # Side by side, boxes of other queries never overlap.
        apart = rows.div(self.instances, rounding_mode="floor") * (max(logits.shape[1:]) + 1)
        left = ops.nms(boxes(logits[rows]) + apart[:, None], scores[rows], self.duplicates)
        return rows[left].sort().values


def _check(width: int, heads: int, instances: int, points: int) -> None:
    problems = []
    if width % 8 or width % heads:
        problems.append(f"feat_channels={width} is no multiple of 8 and of heads={heads}")
    if instances < 1 or points < 1:
        problems.append(f"instances={instances} and points={points}, expected at least 1 of each")
    if problems:
        raise ConfigError(f"openmmlab/mask2former: {'; '.join(problems)}")


def _place(look: Look) -> list[float]:
    """Where in the scene a look lies, how much of it, and how coarsely it is seen."""
    box, scene = look.view.box, look.view.scene
    return [
        (box.top + box.bottom) / scene.height - 1,
        (box.left + box.right) / scene.width - 1,
        math.log2(box.height / scene.height) / 4,
        math.log2(box.width / scene.width) / 4,
        math.log2(look.view.scale) / 4,
    ]


def _alike(looks: Sequence[Look]) -> list[list[int]]:
    """The places of looks of one shape, which can be decoded at once."""
    groups: dict[tuple[torch.Size, ...], list[int]] = {}
    for place, look in enumerate(looks):
        shapes = (look.valid.shape, *(level.shape for level in look.features))
        groups.setdefault(shapes, []).append(place)
    return list(groups.values())
