"""Mutants of the language adapter, in what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from geomag.values import BOX, SEG, Box, Conversation, Lesson, Prompt, Reading, Reply, VisualTokens
from geomag_tiny.llm_adapter import LLMAdapter
from tests.mutants.catalogue import mutant

KIND = "llm_adapter"
Tokens, Prompts, Replies = Sequence[Sequence[VisualTokens]], Sequence[Prompt], Sequence[Reply]


class _Answering(LLMAdapter):
    """Changes what another adapter answered."""

    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        return self.change(super().generate(tokens, prompt, max_new_tokens))

    def change(self, reading: Reading) -> Reading:
        raise NotImplementedError


@mutant(KIND, "check_says_what_it_learnt")
class LearnsNothing(LLMAdapter):
    def forward(self, tokens: Tokens, prompts: Prompts, answers: Replies) -> Lesson:
        lesson = super().forward(tokens, prompts, answers)
        return replace(lesson, loss=lesson.loss.detach() + lesson.loss * 0)


@mutant(KIND, "check_says_what_it_learnt")
class SaysTheUnlikeliest(LLMAdapter):
    def _next(self, state: Tensor, ids: Any, looks: int, room: int) -> int:
        return super()._next(-state, ids, looks, room)


@mutant(KIND, "check_markers_are_counted", "check_answer_is_read_back")
class ForgetsTheLastMarker(_Answering):
    """Lacks the one forward more that a last `[SEG]` needs."""

    def change(self, reading: Reading) -> Reading:
        last = reading.text.rstrip().endswith(SEG) and reading.text.count(SEG) == 1
        return replace(reading, queries=reading.queries[:-1]) if last else reading


@mutant(KIND, "check_markers_are_counted")
class WritesHalfBoxes(_Answering):
    """Leaves the marker of a box that was cut off."""

    def change(self, reading: Reading) -> Reading:
        if reading.boxes or not reading.text.rstrip().endswith("harbor"):
            return reading
        return replace(reading, text=reading.text.replace("harbor", BOX))


@mutant(KIND, "check_answer_is_read_back")
class AsksTooEarly(LLMAdapter):
    """When it answers, a query is the state before `[SEG]` was the input."""

    def _reading(self, ids: list[int], states: list[Tensor], head: Tensor, *more: Any) -> Any:
        return super()._reading(ids, [head[-1], *states[:-1]][: len(states)], head, *more)


@mutant(KIND, "check_max_new_tokens_is_kept")
class TalksOn(LLMAdapter):
    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        return super().generate(tokens, prompt, max_new_tokens + 3)


@mutant(KIND, "check_box_is_where_it_was_learnt", "check_answer_is_read_back")
class SwapsAxes(_Answering):
    def change(self, reading: Reading) -> Reading:
        boxes = [
            replace(item, box=Box(item.box.top, item.box.left, item.box.bottom, item.box.right))
            for item in reading.boxes
        ]
        return replace(reading, boxes=tuple(boxes))


@mutant(KIND, "check_box_is_where_it_was_learnt", "check_answer_is_read_back")
class NamesTheFirstLook(_Answering):
    def change(self, reading: Reading) -> Reading:
        return replace(reading, boxes=tuple(replace(item, look=0) for item in reading.boxes))


@mutant(KIND, "check_answer_is_for_its_prompt", "check_answer_is_read_back")
class Drifts(_Answering):
    """Every answer leaves something behind for the next."""

    def change(self, reading: Reading) -> Reading:
        self.answered = getattr(self, "answered", 0) + 1
        return replace(reading, queries=reading.queries + 0.01 * self.answered)


@mutant(KIND, "check_reading_is_cheap")
class ReadsAtLength(LLMAdapter):
    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        prompts = super().read(conversations)
        for prompt in prompts:
            self._hidden([prompt.embedding.repeat(3, 1)])
        return prompts
