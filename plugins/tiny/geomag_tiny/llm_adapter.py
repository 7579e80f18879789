"""LLM adapter: a small Llama with its own byte-level tokenizer.

A sequence is prompt, visual tokens, `<model>`, answer. The prompt comes first, so that attention
over the visual tokens already knows what is asked.

A query is what the language model says at `[SEG]` plus the sum of what the words of the prompt
mean: a small language model takes far longer to learn to hand on "at the top left" than to answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.errors import CheckpointError
from geomag.spelling import canvases, first_name
from geomag.values import Conversation, Lesson, Prompt, Reading, Reply, VisualTokens

from .visual import VisualEmbedding
from .vocabulary import SHIPPED, Vocabulary

PROMPT_LIMIT = 384
"""Tokens of a conversation that are read; see `Vocabulary.prompt`."""
HISTORY_WEIGHT = 0.25
"""How much of earlier turns `read` keeps: what was said last decides."""


class LLMAdapter(nn.Module):
    """`transformers`' Llama architecture from a random start, embeddings tied."""

    def __init__(
        self,
        visual_dims: Sequence[int],
        hidden_size: int = 192,
        layers: int = 4,
        heads: int = 6,
        feed_forward: int = 512,
        query_dim: int = 128,
        max_visual_tokens: int = 256,
        tokenizer: str = str(SHIPPED),
    ) -> None:
        # transformers takes seconds to import: only who builds a language model waits for it.
        from transformers.models.llama import LlamaConfig, LlamaModel

        super().__init__()
        self.prompt_dim = hidden_size
        self.query_dim = query_dim
        self.max_visual_tokens = max_visual_tokens
        self.vocabulary = Vocabulary(tokenizer)
        self.answers = self.vocabulary.answers
        self.language = LlamaModel(
            LlamaConfig(
                vocab_size=self.vocabulary.size,
                hidden_size=hidden_size,
                intermediate_size=feed_forward,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                max_position_embeddings=4096,
                initializer_range=0.05,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.visual = VisualEmbedding(visual_dims[-1], hidden_size)
        # Normed, or what the language model says would drown what the words mean.
        self.said = nn.Sequential(nn.Linear(hidden_size, query_dim), nn.LayerNorm(query_dim))
        self.asked = nn.Linear(hidden_size, query_dim, bias=False)

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        """Token embeddings with the positions counted from the start of the last turn."""
        prompts = []
        for conversation in conversations:
            ids, start = self.vocabulary.prompt(conversation, PROMPT_LIMIT)
            rows = self._table[self._ids(ids)].detach().float()
            rows = rows * rows.square().mean(1, keepdim=True).clamp_min(1e-12).rsqrt()
            rows = rows + _waves(len(ids), start, rows)
            rows[:start] *= HISTORY_WEIGHT
            prompts.append(Prompt(tuple(conversation), rows.to(self._table.dtype)))
        return prompts

    def forward(
        self,
        tokens: Sequence[Sequence[VisualTokens]],
        prompts: Sequence[Prompt],
        answers: Sequence[Reply],
    ) -> Lesson:
        if not answers:
            return Lesson(self._table.sum() * self._table.new_zeros(0), [])
        replies = [
            self.answers.reply(answer.text, answer.boxes, canvases(looks), first_name(looks))
            for looks, answer in zip(tokens, answers, strict=True)
        ]
        heads = self._prefixes(tokens, prompts)
        whole = [
            torch.cat([head, self._embedded(reply)])
            for head, reply in zip(heads, replies, strict=True)
        ]
        losses, queries = [], []
        hidden, asked = self._hidden(whole), self._asked(prompts)
        for row, head, reply, meant in zip(hidden, heads, replies, asked, strict=True):
            # The last of the head, <model>, predicts the first token of the answer.
            states = row[len(head) - 1 : len(head) + len(reply)]
            targets = self._ids([*reply, self.answers.end])
            losses.append(F.cross_entropy(F.linear(states, self._table).float(), targets))
            places = [place for place, token in enumerate(reply) if token == self.answers.seg]
            queries.append(self.said(states[1:][self._ids(places)]) + meant)
        return Lesson(torch.stack(losses), queries)

    @torch.no_grad()
    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        from transformers.cache_utils import DynamicCache

        head = self._prefixes([tokens], [prompt])[0]
        cache = DynamicCache(config=self.language.config)
        inputs, ids, states = head, list[int](), list[Tensor]()
        while True:
            state = self.language(
                inputs_embeds=inputs[None], past_key_values=cache, use_cache=True
            ).last_hidden_state[0, -1]
            if ids:
                states.append(state)
            if len(ids) == max_new_tokens:  # only now has the last token been an input
                break
            ids.append(self._next(state, ids, tokens, max_new_tokens - len(ids)))
            if ids[-1] == self.answers.end:
                ids.pop()
                break
            inputs = self._embedded(ids[-1:])
        return self._reading(ids, states, head, tokens, self._asked([prompt])[0])

    def get_extra_state(self) -> Tensor:
        """Which vocabulary the embeddings are of: shapes alone would not tell."""
        return torch.tensor(list(self.vocabulary.fingerprint), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """
        Raises:
            CheckpointError: the weights were trained with another tokenizer.
        """
        if bytes(state.tolist()) != self.vocabulary.fingerprint:
            raise CheckpointError(
                "the weights were trained with another tokenizer.json than this adapter has:"
                " install the version of the plugin they were trained with, or train again"
            )

    def _reading(
        self,
        ids: list[int],
        states: list[Tensor],
        head: Tensor,
        tokens: Sequence[VisualTokens],
        asked: Tensor,
    ) -> Reading:
        sides, first = canvases(tokens), first_name(tokens)
        text, boxes = self.answers.parse(ids, sides, first)
        spelled = self.answers.reply(text, boxes, sides, first)
        hidden = torch.stack(states) if states else head[:0]
        if spelled != ids:
            # Said in other tokens than the text is read back in: the queries are those of reading.
            hidden = self._hidden([torch.cat([head, self._embedded(spelled)])])[0][len(head) :]
        chosen = self._ids(spelled) == self.answers.seg
        return Reading(text, self.said(hidden[chosen]) + asked, tuple(boxes))

    def _next(
        self, state: Tensor, ids: Sequence[int], tokens: Sequence[VisualTokens], room: int
    ) -> int:
        """The likeliest token that keeps the answer well-formed."""
        logits = F.linear(state, self._table).float()
        looks = len(tokens)
        allowed = self.answers.allowed(ids, looks, first_name(tokens))
        if allowed is not None:
            return int(allowed[int(logits[self._ids(allowed)].argmax())])
        logits[self._ids(self.answers.never(looks, room))] = -math.inf
        return int(logits.argmax())

    def _prefixes(
        self, tokens: Sequence[Sequence[VisualTokens]], prompts: Sequence[Prompt]
    ) -> list[Tensor]:
        """Everything before the answer, embedded, for each sample `[L, H]`."""
        flat = [item for looks in tokens for item in looks]
        seen = iter(self.visual(flat).split([len(item.cells) for item in flat]) if flat else ())
        heads = []
        for looks, prompt in zip(tokens, prompts, strict=True):
            ids, _ = self.vocabulary.prompt(prompt.turns, PROMPT_LIMIT)
            parts = [self._embedded(ids)]
            for number in range(len(looks)):
                # The token that names a look in a box also marks what was seen in it.
                name = self.answers.named(number, first_name(looks))
                parts.append(next(seen) + self._embedded([name]))
            parts.append(self._embedded([self.vocabulary.model]))
            heads.append(torch.cat(parts))
        return heads

    def _hidden(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        """The states of each sequence `[L, H]`. Padding comes last, where causal attention never
        looks, so samples cannot mix."""
        padded = nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
        states = self.language(inputs_embeds=padded, use_cache=False).last_hidden_state
        return [row[: len(one)] for row, one in zip(states, sequences, strict=True)]

    def _asked(self, prompts: Sequence[Prompt]) -> Tensor:
        """What the words of each prompt mean, each by itself, `[B, D]`."""
        bags = torch.stack([prompt.embedding.sum(0) for prompt in prompts])
        meant: Tensor = self.asked(bags.to(self._table.dtype))
        return meant

    @property
    def _table(self) -> Tensor:
        return self.language.embed_tokens.weight

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        # Brought to the size of what the layers add, as the rows are small for being tied.
        return self._table[self._ids(ids)] * math.sqrt(self.prompt_dim)

    def _ids(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self._table.device)


def _waves(length: int, start: int, like: Tensor) -> Tensor:
    """Sinusoidal positions (Vaswani et al. 2017) of `length` tokens, zero at `start`."""
    width = like.shape[1]
    places = torch.arange(length, device=like.device, dtype=torch.float32) - start
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=like.device) / width)
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
