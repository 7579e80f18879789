"""Text to token ids and back, with the tokens of turns; how answers are spelled is `Spelling`'s."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from tokenizers import Tokenizer

from geomag.errors import DataError
from geomag.spelling import MARKERS, Spelling
from geomag.values import Conversation

TURNS = ("<user>", "<model>", "<end>")
SPECIAL = (*TURNS, *MARKERS)
SHIPPED = Path(__file__).with_name("tokenizer.json")


class Vocabulary:
    """Byte-level: any text comes back as it was.

    What a user writes is text throughout; `[SEG]` and `[BOX]` are markers in what a model says.
    """

    def __init__(self, path: str | Path = SHIPPED) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self.fingerprint = blake2b(Path(path).read_bytes(), digest_size=8).digest()
        self.size = self._tokenizer.get_vocab_size()
        known = self._tokenizer.get_vocab(with_added_tokens=True)
        missing = [token for token in SPECIAL if token not in known]
        if missing:
            raise DataError(
                f"{path} lacks the tokens {', '.join(missing[:5])}; "
                "make it with plugins/tiny/train_tokenizer.py"
            )
        self.user, self.model, self.end = (known[token] for token in TURNS)
        self.answers = Spelling(
            known, self.text, self._decoded, self.end, unsaid=(self.user, self.model)
        )

    def prompt(self, conversation: Conversation, limit: int) -> tuple[list[int], int]:
        """The ids of a conversation, at most `limit`, and where its last turn begins.

        What does not fit is the oldest history; of a last turn too long, the middle.
        """
        last = self._turn(self.user, self._asked(conversation[-1].text))
        if len(last) > limit:
            last = last[: limit // 2] + last[len(last) - (limit - limit // 2) :]
        history: list[int] = []
        for turn in conversation[:-1]:
            if turn.speaker == "user":
                history += self._turn(self.user, self._asked(turn.text))
            else:
                history += self._turn(self.model, self.answers.marked(turn.text))
        history = history[max(0, len(history) - (limit - len(last))) :]
        return history + last, len(history)

    def text(self, text: str) -> list[int]:
        """Plain text to ids."""
        # Said each time, as copies of a tokenizer forget it: or else "[SEG]" in a user's mouth
        # would be the marker.
        self._tokenizer.encode_special_tokens = True
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _asked(self, text: str) -> list[int]:
        # A word is one token wherever it stands and however it is written: "Ships", " ships".
        return self.text(f" {text.lower()}")

    def _turn(self, speaker: int, ids: Sequence[int]) -> list[int]:
        return [speaker, *ids, self.end]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))
