"""GeoMag: the five components and the order they are asked in.

    prompt -> plan -> overview -> (relevance -> rank -> closer looks)* -> tokens -> reading -> masks

The model owns no weights of its own and knows no concrete component.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import geometry, learning, tokens
from .assembly import assemble
from .contracts import (
    Cropper,
    Encoding,
    GranularityController,
    LLMAdapter,
    MaskHead,
    Matching,
    Scene,
    VisionEncoder,
)
from .errors import ContractError
from .limits import AS_PLANNED, Limits
from .masks import SceneMask
from .registry import SLOTS, Borrowed
from .values import (
    Box,
    Conversation,
    Look,
    Pixels,
    Plan,
    Prompt,
    Reading,
    TrainingSample,
    View,
)

FIRST_ROUND = 4
"""Views asked for in the first round; each further round asks for twice as many."""

LookCache = MutableMapping[View, Look]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What was looked at for one prompt, in the order it was found, and how relevant it was."""

    looks: tuple[Look, ...]
    relevance: tuple[Tensor | None, ...]
    new_views: int


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All that one prompt left behind; boxes and masks in scene pixels."""

    prompt: Prompt
    plan: Plan
    observation: Observation
    tokens: int
    reading: Reading
    masks: tuple[SceneMask, ...]
    boxes: tuple[Box, ...]


class GeoMag(nn.Module):
    """Answers prompts about a scene, and learns to.

    Each slot takes a built component or a config; widths flow from left to right and never stand
    in a config. `encode_chunk` images go through the encoder at once, always that many, so that a
    look does not depend on what it was encoded beside. A mask whose score is below `presence` comes
    back empty: what it shows is taken for not there. Neighbouring views share `overlap` pixels,
    across which their masks blend.

    Raises:
        ConfigError: a component is unknown or its arguments do not fit.
        ContractError: a component does not fill its slot.
    """

    vision_encoder: VisionEncoder
    llm_adapter: LLMAdapter
    granularity_controller: GranularityController
    cropper: Cropper
    mask_head: MaskHead

    def __init__(
        self,
        vision_encoder: Mapping[str, Any] | VisionEncoder,
        llm_adapter: Mapping[str, Any] | LLMAdapter,
        granularity_controller: Mapping[str, Any] | GranularityController,
        cropper: Mapping[str, Any] | Cropper,
        mask_head: Mapping[str, Any] | MaskHead,
        overview_side: int = 256,
        encode_chunk: int = 1,
        max_new_tokens: int = 48,
        presence: float = 0.0,
        overlap: int = 0,
    ) -> None:
        super().__init__()
        geometry.check_overlap(overlap, overview_side)
        self.presence = presence
        self.overlap = overlap
        self.overview_side = overview_side
        self.encode_chunk = encode_chunk
        self.max_new_tokens = max_new_tokens
        encoder = self._add("vision_encoder", vision_encoder, {})
        facts: dict[str, Any] = {
            "visual_dims": tuple(encoder.embed_dims),
            "strides": tuple(encoder.strides),
            "overview_side": overview_side,
        }
        adapter = self._add("llm_adapter", llm_adapter, facts)
        facts |= {"prompt_dim": adapter.prompt_dim, "query_dim": adapter.query_dim}
        self._add("granularity_controller", granularity_controller, facts)
        self._add("cropper", cropper, facts)
        self._add("mask_head", mask_head, facts)

    def _add(self, slot: str, component: Any, facts: Mapping[str, Any]) -> Any:
        earlier = {name: Borrowed(getattr(self, name)) for name in SLOTS if hasattr(self, name)}
        built = SLOTS[slot].build(component, **facts, **earlier)
        setattr(self, slot, built)
        return built

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    # -- looking ---------------------------------------------------------------------------------

    def encode(self, views: Sequence[View], pixels: Sequence[Pixels]) -> list[Look]:
        """Encodes views as read, in chunks of a fixed size."""
        looks: list[Look] = []
        for start in range(0, len(views), self.encode_chunk):
            part = pixels[start : start + self.encode_chunk]
            batch = torch.stack([item.pixels for item in part]).to(self.device, self.dtype)
            missing = self.encode_chunk - len(part)
            if missing:
                batch = torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])])
            valid = torch.stack([item.valid for item in part]).to(self.device)
            looks.extend(self._looks(views[start : start + len(part)], batch, valid))
        return looks

    def _looks(self, views: Iterable[View], pixels: Tensor, valid: Tensor) -> list[Look]:
        levels = self.vision_encoder(pixels)
        encoded = self.mask_head.encode(pixels) if isinstance(self.mask_head, Encoding) else None
        return [
            Look(
                view=view,
                pixels=pixels[place],
                valid=valid[place],
                features=tuple(level[place] for level in levels),
                encoded=None if encoded is None else tuple(part[place] for part in encoded),
            )
            for place, view in enumerate(views)
        ]

    def _read(self, scene: Scene, views: Sequence[View], looks: LookCache) -> list[Look]:
        """The looks at some views, from the cache where they were seen before."""
        fresh = [view for view in views if view not in looks]
        # A chunk is read, encoded and let go before the next one is read.
        made: dict[View, Look] = {}
        for start in range(0, len(fresh), self.encode_chunk):
            part = fresh[start : start + self.encode_chunk]
            pixels = [scene.read(view, self.overview_side) for view in part]
            made.update(zip(part, self.encode(part, pixels), strict=True))
        found = [made[view] if view in made else looks[view] for view in views]
        looks.update(made)
        return found

    def observe(self, scene: Scene, prompt: Prompt, plan: Plan, looks: LookCache) -> Observation:
        """Looks at the overview, then closer where the cropper wants to, while the plan allows.

        The views of a small budget are a prefix of those of a larger one. With no budget and no
        `stop_below`, views that the cropper left out are looked at too, after all others.

        Raises:
            ContractError: the cropper ranked views it was not offered.
        """
        plan = replace(plan, overlap=self.overlap)
        whole = geometry.overview(scene.info.size, plan.overview_side)
        known = len(looks.keys() & {whole})
        seen = self._read(scene, [whole], looks)
        everything = plan.stop_below is None and math.isinf(plan.max_views)
        unbudgeted = plan.without_budgets()
        wanted = FIRST_ROUND
        relevance: list[Tensor | None] = []
        judged = 0
        while len(seen) - 1 < plan.max_views:
            offered = geometry.candidates(seen, plan, scene.info)
            if not offered:
                break
            relevance = self.cropper.relevance(seen, prompt)
            judged = len(seen)
            ranked = list(self.cropper.rank(seen, relevance, offered, unbudgeted))
            _check_ranked(self.cropper, ranked, offered)
            if not ranked and not everything:
                break
            chosen = (ranked or offered)[: int(min(wanted, plan.max_views - len(seen) + 1))]
            known += sum(view in looks for view in chosen)
            seen.extend(self._read(scene, chosen, looks))
            wanted *= 2
        if judged < len(seen):
            relevance = self.cropper.relevance(seen, prompt)
        return Observation(tuple(seen), tuple(relevance), len(seen) - known)

    # -- answering -------------------------------------------------------------------------------

    @torch.inference_mode()
    def answer(
        self,
        scene: Scene,
        conversation: Conversation,
        looks: LookCache,
        limits: Limits = AS_PLANNED,
        threshold: float = 0.5,
    ) -> Findings:
        """Answers the last turn of a conversation.

        `looks` keeps what was seen of this scene between prompts. Where `limits` say something, the
        plan's own bounds do not count.
        """
        prompt = self.llm_adapter.read([conversation])[0]
        plan = limits.applied(self.granularity_controller.plan(prompt, scene.info))
        observation = self.observe(scene, prompt, plan, looks)
        order = geometry.raster_order(observation.looks)
        seen = [observation.looks[place] for place in order]
        relevance = [observation.relevance[place] for place in order]
        visual = tokens.adjust(seen, relevance, plan, self.llm_adapter.max_visual_tokens)
        reading = self.llm_adapter.generate(visual, prompt, self.max_new_tokens)
        return Findings(
            prompt=prompt,
            plan=plan,
            observation=observation,
            tokens=sum(len(item.cells) for item in visual),
            reading=reading,
            masks=self.segment(seen, reading.queries, threshold),
            boxes=tuple(
                geometry.to_scene(item.box, seen[item.look].view) for item in reading.boxes
            ),
        )

    def segment(
        self, looks: Sequence[Look], queries: Tensor, threshold: float
    ) -> tuple[SceneMask, ...]:
        """The masks of queries `[K, D]` in scene pixels, from all looks together."""
        if not len(queries):
            return ()
        # Look by look: memory does not grow with the number of looks.
        drawn = [self.mask_head([look], [queries])[0] for look in looks]
        # A head that matches instances draws any number for a query; the others draw one.
        instances = isinstance(self.mask_head, Matching)
        masks = assemble(looks, drawn, None if instances else len(queries), threshold)
        return tuple(
            replace(mask, tiles=()) if mask.score < self.presence else mask for mask in masks
        )

    # -- learning --------------------------------------------------------------------------------

    def loss(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """The losses of one step: `loss_text`, `loss_mask`, `loss_relevance`, `loss_plan`.

        Every sample has the same number of views; its prompts share its looks.
        """
        views = list(itertools.chain.from_iterable(sample.views for sample in samples))
        pixels = torch.cat([sample.pixels for sample in samples]).to(self.device)
        valid = torch.cat([sample.valid for sample in samples]).to(self.device)
        packed = self._looks(views, pixels.to(self.dtype) / 255, valid)
        share = len(views) // len(samples)
        looks = [packed[start : start + share] for start in range(0, len(packed), share)]
        return learning.loss(self, samples, looks)


def _check_ranked(cropper: Cropper, ranked: Sequence[View], offered: Sequence[View]) -> None:
    invented = set(ranked) - set(offered)
    problems = []
    if invented:
        problems.append(f"rank() returned {len(invented)} views that it was not offered")
    if len(set(ranked)) < len(ranked):
        problems.append("rank() returned a view more than once")
    if problems:
        raise ContractError(type(cropper).__name__, problems)
