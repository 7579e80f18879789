"""Stand-ins for what a component meets: made up, seeded, small; of the shapes that are promised.

Letters: N images, h w canvas pixels, C visual widths, s strides, P prompt width, D query width,
T tokens, K queries, I instances.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .. import geometry
from ..contracts import Encoding, LLMAdapter, Shape, VisionEncoder
from ..values import (
    Box,
    Conversation,
    Level,
    Look,
    MaskTargets,
    Plan,
    PlanTarget,
    Prompt,
    SceneInfo,
    Size,
    Turn,
    View,
    VisualTokens,
)

TEXTS = (
    "every airplane",
    "Where is the large white ship at the left of the harbor? Give a box.",
    "How many vehicles are there?",
    "Describe the scene.",
)


@dataclass(frozen=True)
class Facts:
    """What a model tells a component about the slots before it."""

    visual_dims: tuple[int, ...] = (16, 24, 32)
    strides: tuple[int, ...] = (4, 8, 16)
    bands: int = 3
    prompt_dim: int = 48
    query_dim: int = 40
    overview_side: int = 64

    @classmethod
    def stated(cls, component: Any) -> dict[str, Any]:
        """What a component says of itself."""
        if isinstance(component, VisionEncoder):
            return {
                "visual_dims": tuple(component.embed_dims),
                "strides": tuple(component.strides),
                "bands": component.bands,
            }
        if isinstance(component, LLMAdapter):
            return {"prompt_dim": component.prompt_dim, "query_dim": component.query_dim}
        return {}

    def __or__(self, more: Mapping[str, Any]) -> Facts:
        return replace(self, **more)

    def of(self, kind: str) -> dict[str, Any]:
        """What a component of some kind can be built with."""
        known = ["visual_dims", "strides", "overview_side"]
        if kind == "vision_encoder":
            known = []
        elif kind != "llm_adapter":
            known += ["prompt_dim", "query_dim"]
        return {name: getattr(self, name) for name in known}

    @property
    def all(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def side(self) -> int:
        """Of the canvas: the overview's, made to fit every stride."""
        step = math.lcm(*self.strides)
        return math.ceil(self.overview_side / step) * step


class Samples:
    """Makes stand-ins that fit some facts. It keeps what it handed out, to see it unchanged."""

    def __init__(
        self,
        facts: Facts,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        reader: Any = None,
    ) -> None:
        self.facts, self.dtype, self.device, self.reader = facts, dtype, device, reader
        self.side = facts.side
        self.scene = Size(16 * self.side, 24 * self.side + 37)
        self.info = SceneInfo(self.scene, facts.bands, resolution=0.3)
        self.texts = TEXTS[seed % len(TEXTS) :] + TEXTS[: seed % len(TEXTS)]
        self.plan = Plan(Level.PIXEL, self.side)
        self._draw = torch.Generator().manual_seed(seed)
        self._handed: list[tuple[str, Tensor, Tensor]] = []

    def changed(self) -> list[str]:
        """The names of what was handed out and is no longer what it was."""
        return [
            name for name, given, before in self._handed if not torch.equal(given.detach(), before)
        ]

    def normal(self, name: str, *shape: int) -> Tensor:
        return self._hand(name, torch.randn(*shape, generator=self._draw))

    def pixels(self, count: int, height: int, width: int) -> Tensor:
        """`[N, bands, h, w]` in [0, 1]: blobs and noise, every image another."""
        return self._hand("pixels", self._picture(count, height, width))

    # -- looks -----------------------------------------------------------------------------------

    def views(self) -> list[View]:
        """The overview, one view of each rung below, and the narrow one at the far corner."""
        rungs = geometry.rungs(self.scene, self.side)
        grids = [geometry.tiles(self.scene, self.side, scale) for scale in rungs]
        chosen = [grid[len(grid) // 3] for grid in grids]
        return [geometry.overview(self.scene, self.side), *chosen, grids[-1][-1]]

    def looks(self, owner: Any = None, views: Sequence[View] | None = None) -> list[Look]:
        """Looks with random features, and what `owner` encodes where it encodes images itself."""
        return [self.look(view, owner) for view in (self.views() if views is None else views)]

    def look(self, view: View, owner: Any = None) -> Look:
        side, facts = self.side, self.facts
        valid = torch.zeros(side, side, dtype=torch.bool)
        valid[: view.size.height, : view.size.width] = True
        pixels = self._hand("look.pixels", self._picture(1, side, side)[0] * valid)
        features = tuple(
            self.normal("look.features", width, side // stride, side // stride)
            for width, stride in zip(facts.visual_dims, facts.strides, strict=True)
        )
        return encoded(Look(view, pixels, self._hand("look.valid", valid), features), owner)

    def queries(self, *counts: int) -> list[Tensor]:
        return [self.normal("queries", count, self.facts.query_dim) for count in counts]

    def mask_targets(self, *counts: int, instances: int = 2) -> list[MaskTargets]:
        """For each look `instances` rectangles that belong to its first query."""
        cells = self.side // self.facts.strides[0]
        masks = torch.zeros(instances, cells, cells)
        for place in range(instances):
            masks[place, place + 1 : place + 4, 1 + 4 * place : 4 + 4 * place] = 1
        targets = []
        for count in counts:
            rows = masks if count else masks[:0]
            owner = torch.zeros(len(rows), dtype=torch.long, device=self.device)
            targets.append(MaskTargets(self._hand("targets.masks", rows.clone()), owner))
        return targets

    def truth(self) -> list[Shape]:
        """What a benchmark would tell: one object, somewhere in the scene."""
        return [_Rectangle()]

    # -- prompts ---------------------------------------------------------------------------------

    def prompts(self, texts: Sequence[str] | None = None) -> list[Prompt]:
        """Prompts as the language model beside the component reads them, or as one might."""
        conversations = [conversation(text) for text in texts or self.texts]
        if self.reader is not None:
            read: list[Prompt] = self.reader.read(conversations)
            return [replace(prompt, embedding=prompt.embedding.to(self.dtype)) for prompt in read]
        return [Prompt(turns, self._embedding(turns[-1].text)) for turns in conversations]

    def plan_targets(self) -> list[PlanTarget]:
        """One for each of `TEXTS`."""
        return [
            PlanTarget(Level.PIXEL, 0.6, 256),
            PlanTarget(Level.REGION, 1.2, 128),
            PlanTarget(Level.REGION, 2.4, 128),
            PlanTarget(Level.IMAGE, 9.6, 64),
        ]

    def tokens(self, looks: Sequence[Look], most: int | None = None) -> list[VisualTokens]:
        """One token for each cell of the coarsest grid that holds data, at most `most` a look."""
        stride = self.facts.strides[-1]
        made = []
        for look in looks:
            rows = math.ceil(look.view.size.height / stride)
            columns = math.ceil(look.view.size.width / stride)
            places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))[:most]
            cells = torch.cat([places, places + 1], dim=1).to(self.device)
            grid = look.features[-1].shape[-2:]
            features = look.features[-1][:, cells[:, 0], cells[:, 1]].T
            canvas = (look.pixels.shape[-2], look.pixels.shape[-1])
            owner = torch.zeros_like(cells[:, 0])
            where = geometry.positions(cells, owner, [look.view], (grid[0], grid[1]), canvas)
            made.append(
                VisualTokens(
                    look,
                    self._hand("tokens.cells", cells),
                    self._hand("tokens.features", features),
                    self._hand("tokens.positions", where),
                    self._hand("tokens.relevance", torch.linspace(0, 1, len(cells))),
                )
            )
        return made

    # --------------------------------------------------------------------------------------------

    def _embedding(self, text: str) -> Tensor:
        """One row a word; the same word always gets the same."""
        rows = []
        for word in text.split():
            draw = torch.Generator().manual_seed(zlib.crc32(word.encode()))
            rows.append(torch.randn(self.facts.prompt_dim, generator=draw))
        return self._hand("prompt.embedding", torch.stack(rows))

    def _picture(self, count: int, height: int, width: int) -> Tensor:
        coarse = torch.rand(count, self.facts.bands, 5, 5, generator=self._draw)
        blobs = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        noise = torch.rand(count, self.facts.bands, height, width, generator=self._draw)
        return 0.05 + 0.7 * blobs + 0.25 * noise

    def _hand(self, name: str, made: Tensor) -> Tensor:
        dtype = self.dtype if made.is_floating_point() else made.dtype
        made = made.to(self.device, dtype)
        self._handed.append((name, made, made.detach().clone()))
        return made


class _Rectangle:
    """A labelled object."""

    box = Box(300, 300, 500, 500)
    area = box.width * box.height

    def draw(self, view: View, side: int, stride: int = 1) -> Tensor:
        drawn = torch.zeros(side // stride, side // stride)
        seen = geometry.to_canvas(self.box, view)
        rows = slice(int(seen.top / stride), math.ceil(seen.bottom / stride))
        columns = slice(int(seen.left / stride), math.ceil(seen.right / stride))
        drawn[rows, columns] = 1
        return drawn


def conversation(*texts: str) -> Conversation:
    """User and model in turn; the last text is the user's."""
    last = len(texts) - 1
    return tuple(
        Turn("user" if (last - place) % 2 == 0 else "model", text)
        for place, text in enumerate(texts)
    )


def encoded(look: Look, owner: Any) -> Look:
    """The look with what its owner's own image encoder makes of it, where it has one."""
    if not isinstance(owner, Encoding):
        return look
    return replace(look, encoded=tuple(part[0] for part in owner.encode(look.pixels[None])))


def repainted(look: Look, top: bool, left: bool, seed: int, owner: Any = None) -> Look:
    """The look with one quarter of its canvas showing something else, in pixels and features."""
    draw = torch.Generator().manual_seed(seed)

    def paint(values: Tensor, strength: float) -> Tensor:
        height, width = values.shape[-2] // 2, values.shape[-1] // 2
        rows = slice(0, height) if top else slice(height, None)
        columns = slice(0, width) if left else slice(width, None)
        values = values.clone()
        part = values[..., rows, columns]
        noise = torch.randn(part.shape, generator=draw) * strength
        values[..., rows, columns] = part + noise.to(part)
        return values

    return encoded(
        replace(
            look,
            pixels=paint(look.pixels, 0.3).clamp(0, 1),
            features=tuple(paint(level, 2.0) for level in look.features),
        ),
        owner,
    )
