"""Granularity controller (TMRA), learned: from the prompt to level, resolution and token budget.

It reads what the language model made of the prompt and nothing of the scene but its resolution.
Until it has learnt something, and wherever it is in doubt, another controller plans.

Letters: B prompts, T tokens, P prompt width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.contracts import GranularityController
from geomag.errors import ConfigError
from geomag.registry import GRANULARITY_CONTROLLERS
from geomag.values import Level, Plan, PlanTarget, Prompt, SceneInfo

from .pretrained import dtype_of

LEVELS = (Level.IMAGE, Level.REGION, Level.PIXEL)
TYPICAL_RESOLUTION = 0.5
"""Metres per scene pixel to begin with where a scene does not say."""
FEWEST_TOKENS = 16
FINEST, COARSEST = -20.0, 20.0
"""Bounds of a resolution, as powers of two."""
MOST_TOKENS = 16.0
"""As a power of two."""


class Controller(nn.Module):
    """Says how fine one has to look in metres; the prompt cannot know pixels.

    Where the likeliest level has a probability below `confidence`, the plan is that of `fallback`,
    a controller or its config; without one it is pixel level down to native. An untrained
    controller finds all levels equally likely, and is never sure. Where a scene's resolution is
    unknown, metres become scene pixels by a typical one, which is learned. A prompt at image level
    is answered from the overview; for all others `max_views` bounds the closer views.
    """

    def __init__(
        self,
        prompt_dim: int,
        overview_side: int,
        fallback: Mapping[str, Any] | GranularityController | None = None,
        confidence: float = 0.5,
        max_views: int = 64,
        width: int = 256,
        heads: int = 4,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        if not 0 <= confidence <= 1:
            raise ConfigError(f"confidence={confidence}: expected a probability")
        self.overview_side, self.max_views, self.confidence = overview_side, max_views, confidence
        self.pool = _Pool(prompt_dim, width, heads)
        self.level = nn.Linear(width, len(LEVELS))
        self.amount = nn.Linear(width, 2)
        self.typical = nn.Parameter(torch.full((1,), math.log2(TYPICAL_RESOLUTION)))
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        with torch.no_grad():
            # Metres per look pixel and tokens, as powers of two, before anything is learned.
            self.amount.bias.copy_(torch.tensor([0.0, 7.0]))
        self.to(dtype_of(dtype))
        facts = {"prompt_dim": prompt_dim, "overview_side": overview_side}
        self.fallback = (
            None if fallback is None else GRANULARITY_CONTROLLERS.build(fallback, **facts)
        )
        if isinstance(self.fallback, nn.Module):
            self.fallback.requires_grad_(False)

    def train(self, mode: bool = True) -> Controller:
        super().train(mode)
        if isinstance(self.fallback, nn.Module):
            self.fallback.eval()
        return self

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        with torch.no_grad():
            levels, steps, tokens = self._judge([prompt], [info])
        likely, place = levels[0].softmax(0).max(0)
        if float(likely) < self.confidence:
            return self._planned_otherwise(prompt, info)
        chosen = LEVELS[int(place)]
        return Plan(
            level=chosen,
            overview_side=self.overview_side,
            stop_below=2.0 ** min(max(float(steps[0]), FINEST), COARSEST),
            max_views=0 if chosen is Level.IMAGE else self.max_views,
            max_tokens=max(FEWEST_TOKENS, round(2.0 ** min(float(tokens[0]), MOST_TOKENS))),
        )

    def loss(
        self, prompts: Sequence[Prompt], infos: Sequence[SceneInfo], targets: Sequence[PlanTarget]
    ) -> Tensor:
        """Cross entropy of the level, and how many doublings resolution and tokens are off."""
        if not prompts:
            return self.level.weight.new_zeros(0)
        levels, steps, tokens = self._judge(prompts, infos)
        wanted = torch.tensor([LEVELS.index(target.level) for target in targets])
        numbers = levels.new_tensor(
            [[math.log2(target.stop_below), math.log2(target.max_tokens)] for target in targets]
        )
        # At image level the overview is all there is: its step says nothing about the prompt.
        closer = levels.new_tensor([target.level is not Level.IMAGE for target in targets])
        return (
            F.cross_entropy(levels, wanted.to(levels.device), reduction="none")
            + F.smooth_l1_loss(steps, numbers[:, 0], reduction="none") * closer
            + F.smooth_l1_loss(tokens, numbers[:, 1], reduction="none")
        )

    def _planned_otherwise(self, prompt: Prompt, info: SceneInfo) -> Plan:
        if self.fallback is None:
            return Plan(Level.PIXEL, self.overview_side, max_views=self.max_views)
        plan: Plan = self.fallback.plan(prompt, info)
        return plan

    def _judge(
        self, prompts: Sequence[Prompt], infos: Sequence[SceneInfo]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Levels `[B, 3]`, and log2 of `stop_below` in the scene's unit and of tokens, `[B]`."""
        read = self.pool([prompt.embedding for prompt in prompts])
        amount = self.amount(read).float()
        unknown = amount.new_tensor([info.resolution is None for info in infos])
        return self.level(read).float(), amount[:, 0] - unknown * self.typical, amount[:, 1]


class _Pool(nn.Module):
    """Attention pooling: the telling tokens of a prompt, averaged by several heads.

    Normalised first: a few channels of a language model's states are hundreds of times the others.
    """

    def __init__(self, prompt_dim: int, width: int, heads: int) -> None:
        super().__init__()
        self.inward = nn.Sequential(nn.LayerNorm(prompt_dim), nn.Linear(prompt_dim, width))
        self.weigh = nn.Linear(width, heads)
        self.outward = nn.Sequential(nn.Linear(heads * width, width), nn.GELU())

    def forward(self, embeddings: Sequence[Tensor]) -> Tensor:
        """`[T, P]` each, to `[B, width]`; what a prompt becomes does not depend on the others."""
        rows = torch.nn.utils.rnn.pad_sequence(list(embeddings), batch_first=True)
        lengths = torch.tensor([len(row) for row in embeddings], device=rows.device)
        known = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]  # [B, T]
        words = F.gelu(self.inward(rows.to(self.weigh.weight.dtype)))
        scores = self.weigh(words).masked_fill(~known[..., None], -torch.inf)
        mixed = scores.softmax(1).transpose(1, 2) @ words  # [B, heads, width]
        pooled: Tensor = self.outward(mixed.flatten(1))
        return pooled
