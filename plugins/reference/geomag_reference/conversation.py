"""Conversations to token ids and back, by the tokenizer and the chat template of a language model.

What is said is text throughout: control tokens of the template, typed by a user, are spelled out in
letters. Only what the template itself writes is read with them, and only answers hold markers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from geomag.errors import CheckpointError, ConfigError
from geomag.spelling import MARKERS, Spelling
from geomag.values import SEG, Conversation, Turn

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
"""For a tokenizer that comes without a chat template."""
DAY = (
    "{%- macro strftime_now(format) -%}{{ '2024-07-26' if '-' in format else '26 Jul 2024' }}"
    "{%- endmacro -%}"
)
"""For templates that ask for the date: it stands still, or answers would change from day to day."""
LEAST = 16
"""Tokens of a conversation that have to fit beside the template's own."""
_SPACES = " \t\n\r▁"


class Dialogue:
    """At most `limit` tokens of a conversation, the template's own among them.

    The tokenizer learns the tokens of `MARKERS`, as its last ones.

    Raises:
        ConfigError: the chat template cannot be used, or leaves no room within `limit`.
        CheckpointError: the tokenizer has markers elsewhere than at its end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        known = tokenizer.get_vocab()
        self.had_markers = all(marker in known for marker in MARKERS)
        """Whether the tokenizer came with them, as that of an exported model does."""
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
        vocabulary = tokenizer.get_vocab()
        self.first = vocabulary[MARKERS[0]]
        """The id of the first marker; the others follow, and nothing after them."""
        ids = [vocabulary[marker] for marker in MARKERS]
        if ids != list(range(self.first, max(vocabulary.values()) + 1)):
            raise CheckpointError(
                f"the tokenizer has {MARKERS[0]} or other markers of answers among its own tokens; "
                "expected none of them, or all of them at its end"
            )
        self.fingerprint = _fingerprint(vocabulary)
        self._text, control = _split(tokenizer)
        template = tokenizer.get_chat_template() if tokenizer.chat_template else PLAIN
        self._template = DAY + template
        self.end = self._found_end()
        text = set(self._text.get_vocab(with_added_tokens=True).values()) - control
        unsaid = set(range(self.first)) - text - {self.end}
        self.answers = Spelling(
            dict(zip(MARKERS, ids, strict=True)),
            self.text,
            self._decoded,
            self.end,
            unsaid=sorted(unsaid),
        )
        self._check_room()

    def prompt(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """The ids before the place of the looks, at the head of what the user said first, and
        those after it, up to where the model begins to answer.

        What does not fit into `limit` is the oldest history; of a last turn too long, the middle.
        """
        turns = _begun_by_user(conversation)
        said = [self._said(turn) for turn in turns]
        while True:
            written = self._written(len(said))
            room = self.limit - sum(map(len, written)) - sum(map(len, said[:-1]))
            if len(said) == 1 or len(said[-1]) <= room:
                break
            said = said[2:]
        said[-1] = _shortened(said[-1], room)
        after: list[int] = []
        for ids, part in zip(said, written[1:], strict=True):
            after += [*ids, *part]
        return written[0], after

    def words(self, conversation: Conversation) -> tuple[list[int], int]:
        """What was said, each turn with its end but without the template, and where the last turn
        begins."""
        last = [*_shortened(self._said(conversation[-1]), self.limit - 1), self.end]
        history: list[int] = []
        for turn in conversation[:-1]:
            history += [*self._said(turn), self.end]
        history = history[max(0, len(history) - (self.limit - len(last))) :]
        return history + last, len(history)

    def text(self, text: str) -> list[int]:
        """Plain text to ids."""
        # Said each time, as copies of a tokenizer forget it.
        self._text.encode_special_tokens = True
        return list(self._text.encode(text, add_special_tokens=False).ids)

    def _said(self, turn: Turn) -> list[int]:
        return self.text(turn.text) if turn.speaker == "user" else self.answers.marked(turn.text)

    def _decoded(self, ids: list[int]) -> str:
        pieces: list[list[int]] = [[]]
        for token in ids:
            if token == self.first:
                pieces.append([])
            else:
                pieces[-1].append(token)
        return SEG.join(self._text.decode(piece, skip_special_tokens=False) for piece in pieces)

    def _written(self, turns: int, answered: bool = False) -> list[list[int]]:
        """What the template writes before, between and after so many turns."""
        from jinja2 import TemplateError

        signs = [f"@turn{number}@" for number in range(turns)]
        messages = [
            {"role": ("user", "assistant")[number % 2], "content": sign}
            for number, sign in enumerate(signs)
        ]
        try:
            rest = str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=not answered,
                    chat_template=self._template,
                    enable_thinking=False,
                )
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise ConfigError(f"the chat template of the tokenizer fails: {error}") from error
        parts = []
        for sign in signs:
            part, found, rest = rest.partition(sign)
            if not found or sign in rest:
                raise ConfigError(
                    f"the chat template of the tokenizer writes what is said in turn {sign[5:-1]} "
                    f"{'more than once' if found else 'not at all'}; expected once, in order"
                )
            parts.append(part)
        encode = self.tokenizer.encode
        return [
            encode(part, add_special_tokens=False, split_special_tokens=False)
            for part in (*parts, rest)
        ]

    def _found_end(self) -> int:
        """What closes an answer: the first control token that the template writes after one."""
        if not self.tokenizer.chat_template and self.tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has neither a chat template nor an end of text: nothing tells where "
                "an answer ends; take the release that was trained to chat"
            )
        after = self._written(2, answered=True)[-1]
        controls = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        found = [token for token in (*after, self.tokenizer.eos_token_id) if token in controls]
        if not found:
            raise ConfigError(
                "the chat template of the tokenizer writes no control token after an answer, and "
                "the tokenizer has no end of text: nothing tells where an answer ends"
            )
        return int(found[0])

    def _check_room(self) -> None:
        needed = sum(map(len, self._written(1))) + LEAST
        if self.limit < needed:
            raise ConfigError(
                f"prompt_limit={self.limit}: the chat template alone takes {needed - LEAST} tokens;"
                f" expected at least {needed}"
            )


def _begun_by_user(conversation: Conversation) -> Conversation:
    """Many templates know no other beginning."""
    if conversation[0].speaker == "user":
        return conversation
    return (Turn("user", ""), *conversation)


def _shortened(ids: Sequence[int], room: int) -> list[int]:
    """Without the middle, where there are more than `room`."""
    if len(ids) <= room:
        return list(ids)
    return [*ids[: room // 2], *ids[len(ids) - (room - room // 2) :]]


def _split(tokenizer: PreTrainedTokenizerFast) -> tuple[Tokenizer, set[int]]:
    """The same tokenizer, which finds no token that is no text, and the ids of those; runs of
    blanks are text."""
    from tokenizers import Tokenizer

    whole: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    control = set()
    for token in whole["added_tokens"]:
        # Added tokens that are not called special would be found too: "<tool_call>" in Qwen's.
        token["special"] = bool(token["content"].strip(_SPACES))
        control |= {token["id"]} if token["special"] else set()
    whole |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(whole)), control


def _fingerprint(vocabulary: dict[str, int]) -> bytes:
    """Tells one vocabulary from another; 8 bytes."""
    digest = blake2b(digest_size=8)
    for token, number in sorted(vocabulary.items()):
        digest.update(f"{token}\0{number}\0".encode(errors="surrogatepass"))
    return digest.digest()
