"""LLM adapter: any causal language model of transformers, which sees the features of the encoder.

A sequence is the chat template with what was said in it. At the head of what the user said first
stand the looks, each after the token that names it in boxes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geomag.spelling import first_name
from geomag.values import Conversation, Lesson, Prompt, Reading, Reply, VisualTokens

from . import language, tuning
from .markers import tables
from .script import Script, Seen
from .visual import Projector

DEFAULT: Mapping[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
}
"""Qwen3-8B."""


class CausalLM(nn.Module):
    """Markers, projector and queries always train; `tune` says what of the language model does.

    `weights` and `architecture` are those of `pretrained`; the tokenizer lies beside the weights.
    All of it is built in `dtype`. `attention` is one of transformers' implementations, and
    `prompt_limit` bounds the tokens of a conversation, the chat template's among them.

    Raises:
        ConfigError: an argument is none that it can be built from.
        CheckpointError: the weights or their tokenizer cannot be used.
    """

    def __init__(
        self,
        visual_dims: Sequence[int],
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
        tune: str | Mapping[str, Any] = "frozen",
        query_dim: int = 256,
        max_visual_tokens: int = 1024,
        dtype: str = "float32",
        gradient_checkpointing: bool = False,
        attention: str = "sdpa",
        prompt_limit: int = 512,
    ) -> None:
        from transformers import AutoModelForCausalLM

        super().__init__()
        self.weights = weights
        self.speaker = language.speaker(
            AutoModelForCausalLM,
            DEFAULT,
            architecture,
            weights,
            tune,
            query_dim,
            dtype,
            gradient_checkpointing,
            attention,
            prompt_limit,
        )
        table, _ = tables(self.speaker.language)
        self.visual = Projector(visual_dims[-1], table)
        self.prompt_dim = self.speaker.width
        self.query_dim = query_dim
        self.max_visual_tokens = max_visual_tokens

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        return self.speaker.read(conversations)

    def forward(
        self,
        tokens: Sequence[Sequence[VisualTokens]],
        prompts: Sequence[Prompt],
        answers: Sequence[Reply],
    ) -> Lesson:
        scripts = [
            self._script(looks, prompt) for looks, prompt in zip(tokens, prompts, strict=True)
        ]
        seen = Seen(self.visual([item for looks in tokens for item in looks]))
        return self.speaker.learn(scripts, seen, tokens, answers)

    @torch.no_grad()
    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        seen = Seen(self.visual(tokens))
        return self.speaker.answer(self._script(tokens, prompt), seen, tokens, max_new_tokens)

    def sourced(self) -> Collection[str]:
        return tuning.sourced(self.speaker.language, self.weights, "speaker.language.")

    def export(self, folder: Path) -> None:
        """The language model alone: what looks at features is no part of it."""
        language.export(self.speaker, folder)

    def _script(self, tokens: Sequence[VisualTokens], prompt: Prompt) -> Script:
        ids, after = self.speaker.dialogue.prompt(prompt.turns)
        visual: list[int] = []
        first = first_name(tokens)
        for number, item in enumerate(tokens):
            count = len(item.cells)
            if count:
                ids.append(self.speaker.answers.named(number, first))
                visual += range(len(ids), len(ids) + count)
                ids += [0] * count
        ids += after
        return Script(ids, [range(len(ids))], visual, len(ids))
