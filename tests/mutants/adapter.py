"""Mutants of the language adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geomag.values import (
    SEG,
    Conversation,
    Lesson,
    Prompt,
    Reply,
    VisualTokens,
)
from geomag_tiny.llm_adapter import LLMAdapter
from tests.mutants.catalogue import mutant

KIND = "llm_adapter"
Tokens, Prompts, Replies = Sequence[Sequence[VisualTokens]], Sequence[Prompt], Sequence[Reply]


class _Reading(LLMAdapter):
    """Changes what another adapter made of a conversation."""

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        return [
            replace(prompt, embedding=self.change(prompt.embedding, prompt.text))
            for prompt in super().read(conversations)
        ]

    def change(self, embedding: Tensor, text: str) -> Tensor:
        raise NotImplementedError


class _Teaching(LLMAdapter):
    """Changes what another adapter learnt."""

    def forward(self, tokens: Tokens, prompts: Prompts, answers: Replies) -> Lesson:
        return self.change(super().forward(tokens, prompts, answers), prompts)

    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        raise NotImplementedError


@mutant(KIND)
class Louder(_Reading):
    """No mutant: an embedding of another scale is as good."""

    def change(self, embedding: Tensor, text: str) -> Tensor:
        return 2 * embedding


@mutant(
    KIND,
    "check_works_as_promised",
    "check_prompt_is_embedded",
    "check_gradient_reaches_parameters",
)
class Endless(_Reading):
    def change(self, embedding: Tensor, text: str) -> Tensor:
        return embedding / 0 if text.startswith("Describe") else embedding


@mutant(KIND, "check_prompt_is_embedded")
class DropsWhatItCannotSpell(_Reading):
    def change(self, embedding: Tensor, text: str) -> Tensor:
        return (
            embedding
            if any(letter.isascii() and letter.isalpha() for letter in text)
            else (embedding[:0])
        )


@mutant(KIND, "check_prompt_is_embedded")
class EmbedsIntoVisualWidth(_Reading):
    def change(self, embedding: Tensor, text: str) -> Tensor:
        return embedding[:, :32] if len(text) > 500 else embedding


@mutant(KIND, "check_prompt_is_detached")
class AttachesPrompts(_Reading):
    def change(self, embedding: Tensor, text: str) -> Tensor:
        return embedding * (1 + 0 * self.asked.weight.sum())


@mutant(KIND, "check_conversations_do_not_mix")
class PadsPrompts(LLMAdapter):
    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        prompts = super().read(conversations)
        padded = torch.nn.utils.rnn.pad_sequence(
            [prompt.embedding for prompt in prompts], batch_first=True
        )
        return [replace(prompt, embedding=row) for prompt, row in zip(prompts, padded, strict=True)]


@mutant(KIND, "check_history_is_read")
class ForgetsHistory(LLMAdapter):
    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        prompts = super().read([turns[-1:] for turns in conversations])
        return [
            replace(prompt, turns=turns)
            for prompt, turns in zip(prompts, conversations, strict=True)
        ]

    def _prefixes(self, tokens: Tokens, prompts: Prompts) -> list[Tensor]:
        return super()._prefixes(tokens, [replace(item, turns=item.turns[-1:]) for item in prompts])


@mutant(KIND, "check_history_is_read")
class ForgetsHistoryWhenAnswering(LLMAdapter):
    def _prefixes(self, tokens: Tokens, prompts: Prompts) -> list[Tensor]:
        return super()._prefixes(tokens, [replace(item, turns=item.turns[-1:]) for item in prompts])

    def _asked(self, prompts: Prompts) -> Tensor:
        return super()._asked(self.read([item.turns[-1:] for item in prompts]))


@mutant(KIND, "check_question_is_read", "check_history_is_read")
class IgnoresTheQuestion(LLMAdapter):
    def _prefixes(self, tokens: Tokens, prompts: Prompts) -> list[Tensor]:
        return (
            super()._prefixes(tokens, [prompts[0]] * len(prompts))
            if len(tokens) == 2
            else (super()._prefixes(tokens, prompts))
        )

    def _asked(self, prompts: Prompts) -> Tensor:
        return super()._asked([prompts[0]] * 2 if len(prompts) == 2 else prompts)


@mutant(KIND, "check_looks_are_seen")
class LooksAway(LLMAdapter):
    def _prefixes(self, tokens: Tokens, prompts: Prompts) -> list[Tensor]:
        blind = [
            [replace(item, features=torch.ones_like(item.features)) for item in sample]
            for sample in tokens
        ]
        return super()._prefixes(blind, prompts)


@mutant(KIND, "check_loss_of_each_sample", "check_samples_do_not_mix")
class OneLoss(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        return replace(lesson, loss=lesson.loss.mean(0, keepdim=True))


@mutant(KIND, "check_samples_do_not_mix")
class SharesLosses(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        return replace(lesson, loss=lesson.loss + 0.1 * lesson.loss.mean())


@mutant(KIND, "check_samples_do_not_mix")
class PadsInFront(LLMAdapter):
    """Padding that attention sees."""

    def _hidden(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        longest = max(len(one) for one in sequences)
        padded = [
            torch.cat([one.new_zeros(longest - len(one), one.shape[1]), one]) for one in sequences
        ]
        states = super()._hidden(padded)
        return [row[longest - len(one) :] for row, one in zip(states, sequences, strict=True)]


@mutant(
    KIND,
    "check_one_query_a_marker",
    *("check_samples_do_not_mix", "check_marker_in_a_prompt_is_text"),
    "check_reply_without_marker_keeps_the_graph",
)
class DropsEmptyQueries(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        return replace(lesson, queries=[item for item in lesson.queries if len(item)])


@mutant(KIND, "check_one_query_a_marker", "check_marker_in_a_prompt_is_text")
class AlwaysAsks(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        asked = [
            item if len(item) else torch.cat([item, item.new_ones(1, item.shape[1])])
            for item in lesson.queries
        ]
        return replace(lesson, queries=asked)


@mutant(KIND, "check_marker_in_a_prompt_is_text")
class CountsMarkersEverywhere(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        counts = [sum(turn.text.count(SEG) for turn in prompt.turns) for prompt in prompts]
        asked = [
            torch.cat([item.new_ones(count, item.shape[1]), item])
            for item, count in zip(lesson.queries, counts, strict=True)
        ]
        return replace(lesson, queries=asked)


@mutant(KIND, "check_reply_without_marker_keeps_the_graph")
class LetsGoOfTheGraph(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        some = [item if len(item) else item.detach() for item in lesson.queries]
        return replace(lesson, queries=some)


@mutant(KIND, "check_gradient_passes_through_queries")
class CutsTheGradient(_Teaching):
    def change(self, lesson: Lesson, prompts: Prompts) -> Lesson:
        return replace(lesson, queries=[item.detach() + item * 0 for item in lesson.queries])


@mutant(KIND, "check_any_number_of_tokens")
class NeedsTokens(LLMAdapter):
    def _prefixes(self, tokens: Tokens, prompts: Prompts) -> list[Tensor]:
        if not all(len(item.cells) for sample in tokens for item in sample):
            raise ValueError("a look has at least one token")
        return super()._prefixes(tokens, prompts)


@mutant(KIND, "check_any_number_of_tokens")
class PromisesTooMuch(LLMAdapter):
    @property
    def max_visual_tokens(self) -> int:
        return 2 * self.limit

    @max_visual_tokens.setter
    def max_visual_tokens(self, limit: int) -> None:
        self.limit = limit

    def _prefixes(self, tokens: Tokens, prompts: Prompts) -> list[Tensor]:
        if any(sum(len(item.cells) for item in sample) > self.limit for sample in tokens):
            raise ValueError("too many tokens")
        return super()._prefixes(tokens, prompts)
