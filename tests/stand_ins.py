"""The simplest components that keep the contracts: for tests of the frame, not of any model."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geomag import geometry
from geomag.values import (
    Conversation,
    Lesson,
    Level,
    Look,
    LookMasks,
    Pixels,
    Plan,
    Prompt,
    Reading,
    Reply,
    SceneInfo,
    Size,
    View,
    VisualTokens,
)


class Shades(nn.Module):
    """Mean colours of cells; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dims, self.strides, self.bands = (3, 3), (2, 4), 3
        self.gain = nn.Parameter(torch.ones(1))
        self.images = 0

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        self.images += len(pixels)
        return tuple(
            nn.functional.avg_pool2d(pixels * self.gain, stride) for stride in self.strides
        )


class Parrot(nn.Module):
    """Answers with one mask, whose query is the mean of the tokens."""

    def __init__(self, visual_dims: Sequence[int]) -> None:
        super().__init__()
        self.prompt_dim, self.query_dim, self.max_visual_tokens = 4, visual_dims[-1], 64
        self.weight = nn.Parameter(torch.zeros(1))

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        return [
            Prompt(turns, torch.full((1, 4), float(len(turns[-1].text)))) for turns in conversations
        ]

    def forward(
        self,
        tokens: Sequence[Sequence[VisualTokens]],
        prompts: Sequence[Prompt],
        answers: Sequence[Reply],
    ) -> Lesson:
        queries = [
            torch.cat([item.features for item in sample]).mean(0, keepdim=True)
            + self.weight * torch.ones(reply.text.count("[SEG]"), 1)
            for sample, reply in zip(tokens, answers, strict=True)
        ]
        return Lesson(self.weight.expand(len(prompts)) ** 2, queries)

    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        seen = torch.cat([item.features for item in tokens])
        return Reading("Here. [SEG]", seen.mean(0, keepdim=True))


class Closest:
    """Plans to look at everything."""

    def __init__(self, overview_side: int, stop_below: float | None = None) -> None:
        self.overview_side, self.stop_below = overview_side, stop_below

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return Plan(Level.PIXEL, self.overview_side, self.stop_below)


class Moody:
    """Ranks by a hash of the candidate and of what was seen last; keeps `keep` of them."""

    def __init__(self, keep: float = 1.0, opinion: bool = True) -> None:
        self.keep, self.opinion = keep, opinion

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [look.features[0].mean(0).clamp(0, 1) if self.opinion else None for look in looks]

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        history = f"{len(looks)}{looks[-1].view.box}"

        def mood(view: View) -> str:
            return hashlib.md5(f"{history}{view.box}".encode(), usedforsecurity=False).hexdigest()

        return sorted(candidates, key=mood)[: int(len(candidates) * self.keep)]


class Thresholds(nn.Module):
    """One mask a query: where the finest level is brighter than the query."""

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = strides

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        found = []
        for look, query in zip(looks, queries, strict=True):
            logits = look.features[0].mean(0)[None] - query.mean(1)[:, None, None]
            score = torch.full((len(query),), 0.5)
            found.append(LookMasks(logits * 20, torch.arange(len(query)), score))
        return found


class Noise:
    """A scene of smooth noise that counts its reads; it is made up view by view."""

    def __init__(self, size: Size, seed: int = 0) -> None:
        self.info = SceneInfo(size)
        self.seed = seed
        self.reads: list[View] = []

    def read(self, view: View, side: int) -> Pixels:
        self.reads.append(view)
        pixels, valid = torch.zeros(3, side, side), torch.zeros(side, side, dtype=torch.bool)
        rows = torch.linspace(view.box.top, view.box.bottom, view.size.height)[:, None]
        columns = torch.linspace(view.box.left, view.box.right, view.size.width)[None]
        bands = [((rows + self.seed) * (0.1 + band) + columns * 0.3).sin() for band in range(3)]
        pixels[:, : view.size.height, : view.size.width] = torch.stack(bands) / 2 + 0.5
        valid[: view.size.height, : view.size.width] = True
        return Pixels(pixels, valid)


def odd_sizes(count: int, side: int, largest: int = 40) -> list[Size]:
    """Sides from 1 to `largest` overview sides, many at, just below or above a multiple of one."""
    draw = random.Random(0)
    sizes = [Size(1, 1), Size(1, 700), Size(700, 1), Size(side, side), Size(side + 1, side)]

    def one() -> int:
        if draw.random() < 0.4:
            return max(1, side * draw.choice((1, 2, 4, 8, largest // 2)) + draw.randint(-2, 2))
        return draw.randint(1, int(side * largest ** draw.random()))

    while len(sizes) < count:
        sizes.append(Size(one(), one()))
    return sizes


def pyramid_views(size: Size, side: int) -> set[View]:
    """Every view the pyramid of a scene has."""
    rungs = geometry.rungs(size, side)
    return {
        geometry.overview(size, side),
        *(view for scale in rungs for view in geometry.tiles(size, side, scale)),
    }
