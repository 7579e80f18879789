"""What a model costs, counted without running it: parameters, FLOPs and tokens of its parts.

The model is built on torch's meta device, where tensors have shapes and no numbers, so a model of
any size is counted in little memory. FLOPs are what `torch.utils.flop_counter` counts: two for each
multiplication in matrix products, convolutions and attention.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .. import geometry
from ..contracts import Encoding
from ..errors import ConfigError
from ..hookspecs import SLOT_KINDS
from ..model import GeoMag
from ..values import SEG, Look, Prompt, Reply, Size, Turn, VisualTokens

PROMPT = "Segment every building with a tin roof at the left of the river."
REPLY = Reply(f"There are many of them here, at the left of the river. {SEG}")


@dataclass(frozen=True, slots=True)
class Part:
    """A slot, or what it is made of: parameters, those that train, and bytes of memory."""

    name: str
    parameters: int
    trained: int
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer about a square scene costs, nothing of it seen before; FLOPs by part.

    `looks` counts the overview too; `tokens` are those that the language model gets.
    """

    side: int
    looks: int
    tokens: int
    encoding: float
    relevance: float
    language: float
    masks: float

    @property
    def total(self) -> float:
        return self.encoding + self.relevance + self.language + self.masks


def parts(model: nn.Module) -> list[Part]:
    """The five slots, and within each what it is made of, as "slot.child"."""
    found = []
    for slot in SLOT_KINDS:
        module = getattr(model, slot)
        if isinstance(module, nn.Module):
            found.append(_part(slot, module))
            children = [(name, child) for name, child in module.named_children()]
            found += [_part(f"{slot}.{name}", child) for name, child in children]
    return found


class Counter:
    """Counts the FLOPs of a model, part by part; on the meta device where its parts run there."""

    def __init__(self, model: GeoMag) -> None:
        self.model = model.eval()
        self.side = model.overview_side
        with model.device:
            self._count_looks()

    def _count_looks(self) -> None:
        model = self.model
        self.prompt: Prompt = model.llm_adapter.read([(Turn("user", PROMPT),)])[0]
        self._looks: list[Look] = []
        self.look = self._counted("vision_encoder", self._see)
        self.drawn = self._counted("mask_head", self._encode)
        one, two = (
            self._counted(
                "cropper", partial(model.cropper.relevance, self._looks * count, self.prompt)
            )
            for count in (1, 2)
        )
        self.judged, self.asked = two - one, 2 * one - two
        query = torch.zeros(1, model.llm_adapter.query_dim)
        self.drawn += self._counted("mask_head", lambda: model.mask_head(self._looks, [query]))

    def answer(self, side: int, looks: int) -> Answer:
        """An answer about a scene of `side` pixels a side, from so many looks."""
        with self.model.device:
            tokens = self._tokens(looks)
            language = self._counted(
                "llm_adapter", lambda: self.model.llm_adapter([tokens], [self.prompt], [REPLY])
            )
        return Answer(
            side=side,
            looks=looks,
            tokens=sum(len(item.cells) for item in tokens),
            encoding=looks * self.look,
            relevance=looks * self.judged + self.asked,
            language=language,
            masks=looks * self.drawn,
        )

    def _see(self) -> None:
        pixels = torch.zeros(1, self.model.vision_encoder.bands, self.side, self.side)
        levels = self.model.vision_encoder(pixels)
        look = Look(
            view=geometry.overview(Size(self.side, self.side), self.side),
            pixels=pixels[0],
            valid=torch.ones(self.side, self.side, dtype=torch.bool),
            features=tuple(level[0] for level in levels),
        )
        self._looks.append(look)

    def _encode(self) -> None:
        head, look = self.model.mask_head, self._looks.pop()
        parts = head.encode(look.pixels[None]) if isinstance(head, Encoding) else ()
        self._looks.append(replace(look, encoded=tuple(part[0] for part in parts) or None))

    def _tokens(self, looks: int) -> list[VisualTokens]:
        """As many tokens as the language model takes, shared out evenly, in square grids."""
        grid = self.side // self.model.vision_encoder.strides[-1]
        room = self.model.llm_adapter.max_visual_tokens // looks
        across = min(grid, math.isqrt(room))
        kept = looks if across else min(looks, self.model.llm_adapter.max_visual_tokens)
        return [self._grid(grid, max(across, 1)) for _ in range(kept)]

    def _grid(self, grid: int, across: int) -> VisualTokens:
        edges = [round(place * grid / across) for place in range(across + 1)]
        cells = [
            [top, left, bottom, right]
            for top, bottom in itertools.pairwise(edges)
            for left, right in itertools.pairwise(edges)
        ]
        look, count = self._looks[0], len(cells)
        width = self.model.vision_encoder.embed_dims[-1]
        return VisualTokens(
            look=look,
            # Which cells is known before any pixel is: numbers, on the meta device too.
            cells=torch.tensor(cells, device="cpu"),
            features=torch.zeros(count, width),
            positions=torch.zeros(count, 4),
            relevance=torch.ones(count),
        )

    def _counted(self, part: str, call: Callable[[], object]) -> float:
        """
        Raises:
            ConfigError: the part looks at numbers, which there are none of on the meta device.
        """
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                call()
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            if self.model.device.type != "meta":
                raise
            raise ConfigError(
                f"{part} {type(getattr(self.model, part)).__name__} cannot be counted without its "
                f"numbers ({error}); count it with --device cpu"
            ) from error
        return float(counter.get_total_flops())


def looks_of(side: int, overview_side: int, most: float = math.inf) -> int:
    """Looks at a square scene, the overview among them: all of the pyramid, or `most` beside it."""
    views = sum(
        math.ceil(side / (overview_side * scale)) ** 2
        for scale in geometry.rungs(Size(side, side), overview_side)
    )
    return 1 + int(min(views, most))


def _part(name: str, module: nn.Module) -> Part:
    own = list(module.parameters())
    return Part(
        name=name,
        parameters=sum(one.numel() for one in own),
        trained=sum(one.numel() for one in own if one.requires_grad),
        size=sum(one.numel() * one.element_size() for one in (*own, *module.buffers())),
    )
