"""Text to token ids and back, with the tokens that are no text: turns, `[SEG]`, boxes.

A box is written as `[BOX]`, the look it lies in, and left, top, right, bottom as steps of a
128th of that look's canvas, 0 to 128. Names of looks go round: where `first` is given, that is the
name of look 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from tokenizers import Tokenizer

from geomag.errors import DataError
from geomag.values import BOX, SEG, Box, Conversation, LookBox, Size

LOOKS = 64
"""Looks that a box can lie in."""
STEPS = 128
"""Steps along each side of a canvas."""
SPECIAL = (
    "<user>",
    "<model>",
    "<end>",
    SEG,
    BOX,
    *(f"<look {number}>" for number in range(LOOKS)),
    *(f"<at {number}>" for number in range(STEPS + 1)),
)
SHIPPED = Path(__file__).with_name("tokenizer.json")
_MARKERS = re.compile(f"({re.escape(SEG)}|{re.escape(BOX)})")
_BOX_LENGTH = 6


class Vocabulary:
    """Byte-level: any text comes back as it was.

    What a user writes is text throughout; `[SEG]` and `[BOX]` are markers in what a model says.
    """

    def __init__(self, path: str | Path = SHIPPED) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        # Or else "[SEG]" in a user's mouth would be the marker.
        self._tokenizer.encode_special_tokens = True
        self.fingerprint = blake2b(Path(path).read_bytes(), digest_size=8).digest()
        self.size = self._tokenizer.get_vocab_size()
        known = self._tokenizer.get_vocab(with_added_tokens=True)
        missing = [token for token in SPECIAL if token not in known]
        if missing:
            raise DataError(
                f"{path} lacks the tokens {', '.join(missing[:5])}; "
                "make it with plugins/tiny/train_tokenizer.py"
            )
        ids = [known[token] for token in SPECIAL]
        self.user, self.model, self.end, self.seg, self.box = ids[:5]
        self.looks = ids[5 : 5 + LOOKS]
        self.steps = ids[5 + LOOKS :]
        self._look_of = {token: number for number, token in enumerate(self.looks)}
        self._step_of = {token: number for number, token in enumerate(self.steps)}

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
                history += self._turn(self.model, self._marked(turn.text))
        history = history[max(0, len(history) - (limit - len(last))) :]
        return history + last, len(history)

    def named(self, look: int, first: int = 0) -> int:
        """The token that names a look."""
        return self.looks[(first + look) % LOOKS]

    def reply(
        self, text: str, boxes: Sequence[LookBox], canvases: Sequence[Size], first: int = 0
    ) -> list[int]:
        """The ids of an answer, without its end; `canvases[i]` is the canvas of look i.

        Raises:
            DataError: `[BOX]`es and boxes differ in number, or a box lies in a look there is not.
        """
        markers = text.count(BOX)
        if markers != len(boxes):
            raise DataError(f"the reply {text!r} has {markers} {BOX} for {len(boxes)} boxes")
        known = min(LOOKS, len(canvases))
        wrong = [item.look for item in boxes if not 0 <= item.look < known]
        if wrong:
            raise DataError(f"the reply {text!r} has boxes in looks {wrong}, there are {known}")
        ids: list[int] = []
        remaining = iter(boxes)
        for token in self._marked(text):
            ids.append(token)
            if token == self.box:
                item = next(remaining)
                ids += self._written(item, canvases[item.look], first)
        return ids

    def parse(
        self, ids: Sequence[int], canvases: Sequence[Size], first: int = 0
    ) -> tuple[str, list[LookBox]]:
        """What an answer says, up to its end. What is no box is dropped with its marker."""
        pieces: list[str | LookBox] = []
        plain: list[int] = []
        place = 0
        while place < len(ids) and ids[place] != self.end:
            token = ids[place]
            if token == self.box:
                box = self._read(ids[place : place + _BOX_LENGTH], canvases, first)
                if box is not None:
                    pieces += [self._decode(plain), box]
                    plain = []
                    place += _BOX_LENGTH - 1
            elif token == self.seg or not self._is_special(token):
                plain.append(token)
            place += 1
        pieces.append(self._decode(plain))
        boxes = [piece for piece in pieces if isinstance(piece, LookBox)]
        return "".join(BOX if isinstance(piece, LookBox) else piece for piece in pieces), boxes

    def allowed(self, ids: Sequence[int], looks: int, first: int = 0) -> Sequence[int] | None:
        """Which tokens may follow `ids` in an answer about some looks.

        None stands for text: anything but `never()`.
        """
        written = ids[-_BOX_LENGTH + 1 :]
        if self.box not in written:
            return None
        written = written[len(written) - list(reversed(written)).index(self.box) :]
        if not written:
            return [self.named(look, first) for look in range(min(LOOKS, looks))]
        if len(written) <= 2:
            return self.steps[:-1]
        return self.steps[self._step_of[written[len(written) - 2]] + 1 :]

    def never(self, looks: int, room: int) -> list[int]:
        """Tokens that cannot stand where text is expected."""
        boxless = [] if looks and room >= _BOX_LENGTH else [self.box]
        return [self.user, self.model, *boxless, *self.looks, *self.steps]

    def text(self, text: str) -> list[int]:
        """Plain text to ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _asked(self, text: str) -> list[int]:
        # A word is one token wherever it stands and however it is written: "Ships", " ships".
        return self.text(f" {text.lower()}")

    def _turn(self, speaker: int, ids: Sequence[int]) -> list[int]:
        return [speaker, *ids, self.end]

    def _marked(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in _MARKERS.split(text):
            if piece == SEG:
                ids.append(self.seg)
            elif piece == BOX:
                ids.append(self.box)
            elif piece:
                ids += self.text(piece)
        return ids

    def _decode(self, ids: Sequence[int]) -> str:
        """Text with `[SEG]`; a `[BOX]` spelled out in letters has no box and is dropped."""
        text = str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
        while BOX in text:
            text = text.replace(BOX, "")
        return text

    def _is_special(self, token: int) -> bool:
        return (
            token in self._look_of
            or token in self._step_of
            or token in (self.user, self.model, self.end, self.seg, self.box)
        )

    def _written(self, item: LookBox, canvas: Size, first: int) -> list[int]:
        left, right = _steps(item.box.left, item.box.right, canvas.width)
        top, bottom = _steps(item.box.top, item.box.bottom, canvas.height)
        return [
            self.named(item.look, first),
            *(self.steps[step] for step in (left, top, right, bottom)),
        ]

    def _read(self, ids: Sequence[int], canvases: Sequence[Size], first: int) -> LookBox | None:
        if len(ids) < _BOX_LENGTH:
            return None
        if ids[1] not in self._look_of:
            return None
        look = (self._look_of[ids[1]] - first) % LOOKS
        found = [self._step_of.get(token) for token in ids[2:]]
        steps = [step for step in found if step is not None]
        if look >= len(canvases) or len(steps) < len(found):
            return None
        left, top, right, bottom = steps
        if left >= right or top >= bottom:
            return None
        across, down = canvases[look].width / STEPS, canvases[look].height / STEPS
        return LookBox(look, Box(left * across, top * down, right * across, bottom * down))


def _steps(start: float, stop: float, side: int) -> tuple[int, int]:
    """Two edges as steps, at least one apart."""
    first = min(max(round(start / side * STEPS), 0), STEPS - 1)
    last = min(max(round(stop / side * STEPS), first + 1), STEPS)
    return first, last
