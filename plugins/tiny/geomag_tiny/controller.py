"""Granularity controller (TMRA), learned: from the prompt to level, resolution and token budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.values import Level, Plan, PlanTarget, Prompt, SceneInfo

from .pool import PromptPool

LEVELS = (Level.IMAGE, Level.REGION, Level.PIXEL)
TYPICAL_RESOLUTION = 0.5
"""Metres per scene pixel to begin with where a scene does not say."""
FEWEST_TOKENS = 16


class Controller(nn.Module):
    """Says how fine one has to look in metres; the prompt cannot know pixels.

    Where the scene's resolution is unknown, metres become scene pixels by a typical resolution,
    which is learned. A prompt at image level is answered from the overview; for all others
    `max_views` bounds the closer views.
    """

    def __init__(
        self, prompt_dim: int, overview_side: int, width: int = 96, max_views: int = 64
    ) -> None:
        super().__init__()
        self.overview_side = overview_side
        self.max_views = max_views
        self.pool = PromptPool(prompt_dim, width)
        self.level = nn.Linear(width, len(LEVELS))
        self.amount = nn.Linear(width, 2)
        self.typical = nn.Parameter(torch.tensor(math.log2(TYPICAL_RESOLUTION)))
        with torch.no_grad():
            # Metres per look pixel and tokens, as powers of two, before anything is learned.
            self.amount.bias.copy_(torch.tensor([0.0, 7.0]))

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        with torch.no_grad():
            level, steps, tokens = self._judge([prompt], [info])
        chosen = LEVELS[int(level[0].argmax())]
        return Plan(
            level=chosen,
            overview_side=self.overview_side,
            stop_below=2.0 ** min(max(float(steps[0]), -20.0), 20.0),
            max_views=0 if chosen is Level.IMAGE else self.max_views,
            max_tokens=max(FEWEST_TOKENS, round(2.0 ** min(float(tokens[0]), 16.0))),
        )

    def loss(
        self, prompts: Sequence[Prompt], infos: Sequence[SceneInfo], targets: Sequence[PlanTarget]
    ) -> Tensor:
        """Cross entropy of the level, and how many doublings resolution and tokens are off."""
        if not prompts:
            return self.level.weight.new_zeros(0)
        level, steps, tokens = self._judge(prompts, infos)
        wanted = torch.tensor([LEVELS.index(target.level) for target in targets])
        numbers = level.new_tensor(
            [[math.log2(target.stop_below), math.log2(target.max_tokens)] for target in targets]
        )
        # At image level the overview is all there is: its step says nothing about the prompt.
        closer = level.new_tensor([target.level is not Level.IMAGE for target in targets])
        return (
            F.cross_entropy(level, wanted.to(level.device), reduction="none")
            + F.smooth_l1_loss(steps, numbers[:, 0], reduction="none") * closer
            + F.smooth_l1_loss(tokens, numbers[:, 1], reduction="none")
        )

    def _judge(
        self, prompts: Sequence[Prompt], infos: Sequence[SceneInfo]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Levels `[B, 3]`, and log2 of `stop_below` in the scene's unit and of tokens, `[B]`."""
        words = self.pool([prompt.embedding for prompt in prompts])
        amount = self.amount(words).float()
        unknown = amount.new_tensor([info.resolution is None for info in infos])
        return self.level(words).float(), amount[:, 0] - unknown * self.typical, amount[:, 1]
