"""Teaching a language model of transformers to answer, and letting it answer.

What both adapters share. They say what stands in a sequence (`Script`) and what is seen in it
(`Seen`); all that is known of a sequence beforehand is kept on the host, so that a step never waits
for the accelerator and can be counted on torch's meta device.

Letters: B samples, L tokens of the longest, N tokens of all answers, H width of the language model,
D query width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.errors import CheckpointError, ConfigError
from geomag.spelling import canvases, first_name
from geomag.values import Conversation, Lesson, Prompt, Reading, Reply, VisualTokens

from .conversation import Dialogue
from .markers import Markers, tables
from .reading import remembered
from .script import Script, Seen
from .tuning import trains

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

AFTERWARDS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Fields of configs whose models change their logits after the output layer."""


class Speaker(nn.Module):
    """A language model with the markers of answers, and what it says at `[SEG]` as queries.

    Raises:
        ConfigError: the model does more to its logits than its output layer does.
        CheckpointError: the tokenizer has more tokens than the model.
    """

    def __init__(self, language: PreTrainedModel, dialogue: Dialogue, query_dim: int) -> None:
        super().__init__()
        table, _ = tables(language)
        _check_fits(language, dialogue, len(table))
        width, dtype = table.shape[1], table.dtype
        self.width = width
        self.dialogue, self.answers = dialogue, dialogue.answers
        self.language = language
        self.markers = Markers(language, dialogue.first, dialogue.had_markers)
        self.said = nn.Sequential(
            nn.Linear(width, width, dtype=dtype),
            nn.GELU(),
            nn.Linear(width, query_dim, dtype=dtype),
            nn.LayerNorm(query_dim, dtype=dtype),
        )

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        """Embeddings of what was said, positions counted from the start of the last turn."""
        prompts = []
        with torch.no_grad():
            for conversation in conversations:
                ids, start = self.dialogue.words(conversation)
                rows = remembered(self._embedded(self._numbers(ids)), start)
                prompts.append(Prompt(tuple(conversation), rows.to(self.dtype)))
        return prompts

    def learn(
        self,
        scripts: Sequence[Script],
        seen: Seen,
        tokens: Sequence[Sequence[VisualTokens]],
        answers: Sequence[Reply],
    ) -> Lesson:
        """What `LLMAdapter.__call__` promises; `seen` are the visual tokens of all scripts."""
        if not answers:
            return Lesson(self.markers.inputs.weight.sum() * seen.rows.new_zeros(0), [])
        replies = [
            self.answers.reply(answer.text, answer.boxes, canvases(looks), first_name(looks))
            for looks, answer in zip(tokens, answers, strict=True)
        ]
        whole = [script.with_answer(reply) for script, reply in zip(scripts, replies, strict=True)]
        states = self._states(whole, seen)
        starts = [row * states.shape[1] + len(script.ids) for row, script in enumerate(scripts)]
        rows = states.flatten(0, 1)
        # The token before an answer predicts its first one.
        spoken = [
            start - 1 + step
            for start, reply in zip(starts, replies, strict=True)
            for step in range(len(reply) + 1)
        ]
        targets = [token for reply in replies for token in (*reply, self.answers.end)]
        logits = self._logits(rows[self._numbers(spoken)])
        losses = F.cross_entropy(logits, self._numbers(targets), reduction="none")
        each = losses.split([len(reply) + 1 for reply in replies])
        asked = [
            [start + step for step, token in enumerate(reply) if token == self.answers.seg]
            for start, reply in zip(starts, replies, strict=True)
        ]
        queries = self.said(rows[self._numbers([place for part in asked for place in part])])
        return Lesson(
            torch.stack([part.mean() for part in each]),
            queries.split([len(part) for part in asked]),
        )

    def answer(
        self, script: Script, seen: Seen, tokens: Sequence[VisualTokens], max_new_tokens: int
    ) -> Reading:
        """What `LLMAdapter.generate` promises."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.language.config)
        ids, states = list[int](), list[Tensor]()
        turn, shown = script, seen
        while True:
            state = self._states([turn], shown, cache)[0, -1]
            if ids:
                states.append(state)
            if len(ids) == max_new_tokens:  # only now has the last token been an input
                break
            ids.append(self._next(state, ids, tokens, max_new_tokens - len(ids)))
            if ids[-1] == self.answers.end:
                ids.pop()
                break
            place = script.next + len(ids) - 1
            turn = Script(ids[-1:], [[place]] * len(script.places), [], place + 1)
            shown = Seen(seen.rows[:0])
        return self._reading(ids, states, script, seen, tokens)

    @property
    def dtype(self) -> torch.dtype:
        return self.markers.inputs.weight.dtype

    @property
    def _checkpoints(self) -> bool:
        return any(
            getattr(part, "gradient_checkpointing", False) for part in self.language.modules()
        )

    @property
    def rows(self) -> int:
        """Of the model's matrices, the markers among them."""
        config: Any = self.language.config.get_text_config()
        return int(max(config.vocab_size, self.answers.steps[-1] + 1))

    def train(self, mode: bool = True) -> Speaker:
        super().train(mode)
        # Gradients are checkpointed in training mode only.
        if not (trains(self.language) or self._checkpoints):
            self.language.eval()
        return self

    def get_extra_state(self) -> Tensor:
        """Which vocabulary the embeddings are of: shapes alone would not tell."""
        return torch.tensor(list(self.dialogue.fingerprint), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """
        Raises:
            CheckpointError: the weights were trained with another tokenizer.
        """
        if bytes(state.tolist()) != self.dialogue.fingerprint:
            raise CheckpointError(
                "the weights were trained with another tokenizer than the language model of the"
                " config has; give it the `weights` that they were trained from"
            )

    def _reading(
        self,
        ids: list[int],
        states: list[Tensor],
        script: Script,
        seen: Seen,
        tokens: Sequence[VisualTokens],
    ) -> Reading:
        sides, first = canvases(tokens), first_name(tokens)
        text, boxes = self.answers.parse(ids, sides, first)
        spelled = self.answers.reply(text, boxes, sides, first)
        hidden = torch.stack(states) if states else seen.rows.new_zeros(0, self.width)
        if spelled != ids:
            # Said in other tokens than the text is read back in: the queries are those of reading.
            hidden = self._states([script.with_answer(spelled)], seen)[0, len(script.ids) :]
        asked = [place for place, token in enumerate(spelled) if token == self.answers.seg]
        return Reading(text, self.said(hidden[self._numbers(asked)]), tuple(boxes))

    def _next(
        self, state: Tensor, ids: Sequence[int], tokens: Sequence[VisualTokens], room: int
    ) -> int:
        """The likeliest token that keeps the answer well-formed."""
        logits = self._logits(state[None])[0]
        allowed = self.answers.allowed(ids, len(tokens), first_name(tokens))
        if allowed is not None:
            return int(allowed[int(logits[self._numbers(allowed)].argmax())])
        logits[self._numbers(self.answers.never(len(tokens), room))] = -math.inf
        # Rows behind the markers belong to no token.
        return int(logits[: self.answers.steps[-1] + 1].argmax())

    def _states(self, scripts: Sequence[Script], seen: Seen, cache: Cache | None = None) -> Tensor:
        """The last states of all scripts `[B, L, H]`. Padding comes last, where causal attention
        never looks, so samples cannot mix."""
        length = max(len(script.ids) for script in scripts)
        padded = [script.with_answer([0] * (length - len(script.ids))) for script in scripts]
        ids = self._numbers([script.ids for script in padded])
        places = self._numbers(list(zip(*(script.places for script in padded), strict=True)))
        shown = [
            row * length + place for row, script in enumerate(scripts) for place in script.visual
        ]
        rows = self._embedded(ids)
        rows = rows.flatten(0, 1).index_copy(0, self._numbers(shown), seen.rows.to(rows.dtype))
        rows = rows.unflatten(0, ids.shape)
        more: dict[str, Any] = {}
        if rows.is_meta:
            # Nothing can be looked up there: neither where a sequence ends, from its positions, nor
            # what is added to which rows.
            more["attention_mask"] = rows.new_ones(1, 1, length, length, dtype=torch.bool)
        elif seen.deep:
            mask = torch.zeros(ids.numel(), dtype=torch.bool)
            mask[shown] = True
            more["visual_pos_masks"] = mask.view(ids.shape).to(ids.device)
            more["deepstack_visual_embeds"] = list(seen.deep)
        states: Tensor = self.language.get_decoder()(
            inputs_embeds=rows,
            position_ids=places if len(places) > 1 else places[0],
            past_key_values=cache,
            use_cache=cache is not None,
            **more,
        ).last_hidden_state
        return states

    def _embedded(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.markers(ids, self.language.get_input_embeddings())
        return rows

    def _logits(self, states: Tensor) -> Tensor:
        """`[N, H]` to `[N, V]` float32."""
        return self.markers.logits(states, self.language.get_output_embeddings()(states)).float()

    def _numbers(self, numbers: Any) -> Tensor:
        """Whole numbers of the host, however nested, as a tensor beside the weights."""
        device = self.markers.inputs.weight.device
        return torch.tensor(numbers, dtype=torch.long, device=device)


def _check_fits(language: PreTrainedModel, dialogue: Dialogue, rows: int) -> None:
    words = dialogue.answers.steps[-1] + 1 if dialogue.had_markers else dialogue.first
    if rows < words:
        raise CheckpointError(
            f"the tokenizer has {words} tokens and the language model {rows}; expected the two of "
            "one release"
        )
    config = language.config.get_text_config()
    more = {name: getattr(config, name, None) for name in AFTERWARDS}
    found = [f"{name}={value}" for name, value in more.items() if value not in (None, 1)]
    if found:
        raise ConfigError(
            f"{config.model_type} changes its logits after the output layer ({', '.join(found)}), "
            "which cannot be done here; choose a language model that does not"
        )
