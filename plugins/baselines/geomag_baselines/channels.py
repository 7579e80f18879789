"""The yardstick: an encoder with one output channel a class, and no language at all.

What a prompt can be worth is measured against it, and encoders are trained with it before a
language model joins: every view teaches every class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from geomag import geometry
from geomag.assembly import assemble
from geomag.contracts import Scene
from geomag.data.words import noun
from geomag.errors import ConfigError
from geomag.limits import AS_PLANNED, Limits
from geomag.masks import SceneMask
from geomag.model import Findings, LookCache, Observation
from geomag.registry import VISION_ENCODERS
from geomag.values import (
    Box,
    Conversation,
    Level,
    Look,
    LookMasks,
    Plan,
    Prompt,
    Reading,
    TrainingSample,
    View,
)

from .rule import placed

RARE = -4.0
"""The logit a channel starts from: most cells are of no class."""
OUTSIDE = -20.0
"""The logit where there is no scene."""
STEP = 32
"""Encoders may have coarser strides inside than they return: canvases are multiples of this."""
ENTROPY, MARKED = 10.0, 8.0
"""What cross entropy counts beside Dice, and a marked pixel in it."""
SURE = 32
"""A class is as sure as the mean of so many highest logits."""


@MODELS.register_module()
class ClassChannels(nn.Module):
    """Marks one of `classes` wherever it sees it; fills no slot, but trains and tests like a model.

    Of a prompt it takes the class that it names, and with `rule` a number and a place ("2 ships at
    the top left"). It sees the whole scene in `zoom` (at most 1) pixels a scene pixel, in tiles of
    `side` pixels or, without, at once.

    Raises:
        ConfigError: `side` is no multiple of the encoder's strides.
    """

    def __init__(
        self,
        vision_encoder: Mapping[str, Any] | nn.Module,
        classes: Sequence[str],
        width: int = 32,
        zoom: float = 1.0,
        side: int | None = None,
        presence: float = 0.0,
        rule: bool = True,
    ) -> None:
        super().__init__()
        self.vision_encoder: Any = VISION_ENCODERS.build(vision_encoder)
        step = max(STEP, *self.vision_encoder.strides)
        if side is not None and (side < 1 or side % step):
            raise ConfigError(f"ClassChannels: side is {side}, expected a multiple of {step}")
        self.classes = tuple(classes)
        self.zoom, self.side, self.presence, self.rule = zoom, side, presence, rule
        dims = self.vision_encoder.embed_dims
        self.levels = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in dims)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.decide = nn.Conv2d(width, len(self.classes), 1)
        nn.init.constant_(self.decide.bias, RARE)  # type: ignore[arg-type]  # it has one

    def forward(self, pixels: Tensor) -> Tensor:
        """`pixels [N, bands, h, w]` in [0, 1] to logits `[N, classes, h/s, w/s]`."""
        levels = self.vision_encoder(pixels)
        size = levels[0].shape[-2:]
        parts = [
            F.interpolate(own(level), size, mode="nearest")
            for own, level in zip(self.levels, levels, strict=True)
        ]
        fused = torch.stack(parts).sum(0)
        logits: Tensor = self.decide(fused + self.mix(F.relu(fused)))
        return logits

    def loss(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """`loss_mask`, cross entropy, and `loss_dice`, of each class over all views together.

        Every shape in a view has to be among the masks of its sample. Marked pixels are rare: cross
        entropy counts them `MARKED` times, or nothing at all is what is learnt first.
        """
        pixels = torch.cat([sample.pixels for sample in samples]).to(self.decide.weight)
        valid = torch.cat([sample.valid for sample in samples])[:, None].to(pixels)
        target = torch.cat([self._target(sample) for sample in samples]).to(pixels) / 255
        logits = F.interpolate(
            self(pixels / 255), target.shape[-2:], mode="bilinear", align_corners=False
        )
        valid = F.adaptive_max_pool2d(valid, target.shape[-2:])
        entropy = F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=target.new_tensor(MARKED), reduction="none"
        )
        probability = logits.sigmoid() * valid
        wanted = (target * valid).sum((0, 2, 3))
        hit = (probability * target).sum((0, 2, 3))
        dice = 1 - (2 * hit + 1) / (probability.sum((0, 2, 3)) + wanted + 1)
        there = (wanted > 0).float()
        return {
            "loss_mask": 10
            * (entropy * valid).sum()
            / valid.sum().clamp_min(1)
            / len(self.classes),
            "loss_dice": (dice * there).sum() / there.sum().clamp_min(1),
        }

    def _target(self, sample: TrainingSample) -> Tensor:
        """Coverage of each class, `[V, classes, h, w]` uint8."""
        masks = sample.masks
        target = masks.new_zeros(masks.shape[0], len(self.classes), *masks.shape[2:])
        for place, name in enumerate(self.classes):
            # "storage_tank" and "storage tank" are one class.
            wanted = noun(name).one
            rows = [row for row, label in enumerate(sample.labels) if noun(label).one == wanted]
            if rows:
                target[:, place] = masks[:, rows].amax(1)
        return target

    @torch.inference_mode()
    def answer(
        self,
        scene: Scene,
        conversation: Conversation,
        looks: LookCache,
        limits: Limits = AS_PLANNED,
        threshold: float = 0.5,
    ) -> Findings:
        """Answers the last turn from one look at the whole scene; the views are not bounded."""
        prompt = Prompt(tuple(conversation), torch.zeros(1, 1))
        fresh = not looks
        look = self._look(scene, looks)
        plan = Plan(Level.PIXEL, look.pixels.shape[-1], max_views=0)
        named = self._named(prompt.text)
        masks: tuple[SceneMask, ...] = ()
        if named is not None:
            logits = look.features[0][named : named + 1]
            inside = logits[logits > OUTSIDE]
            score = inside.topk(min(SURE, inside.numel())).values.mean().sigmoid()
            if self.rule:
                stride = look.pixels.shape[-1] // logits.shape[-1]
                logits = placed(logits, prompt.text, look.view, stride, threshold)
            if float(score) >= self.presence:
                drawn = LookMasks(logits, torch.zeros(1, dtype=torch.long), score[None])
                masks = assemble([look], [drawn], 1, threshold)
        text = "Here. [SEG]" if masks else "There is nothing like that here."
        reading = Reading(text, torch.zeros(len(masks), 1))
        return Findings(
            prompt, plan, Observation((look,), (None,), int(fresh)), 0, reading, masks, ()
        )

    def _look(self, scene: Scene, looks: LookCache) -> Look:
        """The whole scene, with the logits of all classes as its features."""
        size = scene.info.size
        whole = geometry.overview(size, max(1, round(max(size.height, size.width) * self.zoom)))
        if whole in looks:
            return looks[whole]
        step = max(STEP, *self.vision_encoder.strides)
        canvas = math.ceil(max(whole.size.height, whole.size.width) / step) * step
        side = canvas if self.side is None else self.side
        stride = self.vision_encoder.strides[0]
        logits = torch.full(
            (len(self.classes), *(canvas // stride,) * 2),
            OUTSIDE,
            device=self.decide.weight.device,
        )
        inside = torch.zeros(canvas, canvas, dtype=torch.bool)
        across, down = size.width / whole.size.width, size.height / whole.size.height
        for tile in geometry.tiles(whole.size, side, 1):
            box = tile.box
            part = Box(box.left * across, box.top * down, box.right * across, box.bottom * down)
            seen = scene.read(View(part, tile.size, size), side)
            drawn = self(seen.pixels[None].to(self.decide.weight))[0]
            height, width = (-(-edge // stride) for edge in (tile.size.height, tile.size.width))
            top, left = int(box.top) // stride, int(box.left) // stride
            logits[:, top : top + height, left : left + width] = drawn[:, :height, :width]
            inside[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = seen.valid[
                : tile.size.height, : tile.size.width
            ]
        looks[whole] = Look(whole, torch.zeros(3, canvas, canvas), inside, (logits,))
        return looks[whole]

    def _named(self, text: str) -> int | None:
        """The class with the longest name in a text."""
        found = [
            (len(word), place)
            for place, name in enumerate(self.classes)
            for word in (noun(name).one, noun(name).many)
            if re.search(rf"\b{re.escape(word.lower())}\b", text.lower())
        ]
        return max(found)[1] if found else None
