"""How an answer is spelled in tokens: text, `[SEG]`, and boxes as steps along a look's sides.

A box is written as `[BOX]`, the look it lies in, and left, top, right, bottom as steps of a
128th of that look's canvas, 0 to 128. Names of looks go round: where `first` is given, that is the
name of look 0. Any tokenizer will do that has the tokens of `MARKERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from .errors import DataError
from .values import BOX, SEG, Box, LookBox, Size, VisualTokens

LOOKS = 64
"""Looks that a box can lie in."""
STEPS = 128
"""Steps along each side of a canvas."""
MARKERS = (
    SEG,
    BOX,
    *(f"<look {number}>" for number in range(LOOKS)),
    *(f"<at {number}>" for number in range(STEPS + 1)),
)
"""The tokens of an answer that are no text."""
_MARKERS = re.compile(f"({re.escape(SEG)}|{re.escape(BOX)})")
_BOX_LENGTH = 6


class Spelling:
    """Answers to tokens and back, byte for byte where the tokenizer is.

    `ids` tells the token of each of `MARKERS`. `encode` turns text into tokens and finds no marker
    in it; `decode` is its inverse. `end` closes an answer; `unsaid` are further tokens that never
    stand in one.

    Raises:
        DataError: `ids` lacks a marker.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
        end: int,
        unsaid: Sequence[int] = (),
    ) -> None:
        missing = [token for token in MARKERS if token not in ids]
        if missing:
            raise DataError(f"the tokenizer lacks the tokens {', '.join(missing[:5])}")
        self._encode, self._text_of = encode, decode
        self.end = end
        self._unsaid = list(unsaid)
        self.seg, self.box, *others = (ids[token] for token in MARKERS)
        self.looks = others[:LOOKS]
        self.steps = others[LOOKS:]
        self._look_of = {token: number for number, token in enumerate(self.looks)}
        self._step_of = {token: number for number, token in enumerate(self.steps)}

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
        for token in self.marked(text):
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
        return [*self._unsaid, *boxless, *self.looks, *self.steps]

    def marked(self, text: str) -> list[int]:
        """Text with its markers as tokens; a `[BOX]` is left without its box."""
        ids: list[int] = []
        for piece in _MARKERS.split(text):
            if piece == SEG:
                ids.append(self.seg)
            elif piece == BOX:
                ids.append(self.box)
            elif piece:
                ids += self._encode(piece)
        return ids

    def _decode(self, ids: Sequence[int]) -> str:
        """Text with `[SEG]`; a `[BOX]` spelled out in letters has no box and is dropped."""
        text = self._text_of(list(ids))
        while BOX in text:
            text = text.replace(BOX, "")
        return text

    def _is_special(self, token: int) -> bool:
        special = (self.seg, self.box, self.end, *self._unsaid)
        return token in self._look_of or token in self._step_of or token in special

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


def canvases(tokens: Sequence[VisualTokens]) -> list[Size]:
    """The canvas of each look that a box can be written in."""
    return [Size(*item.look.pixels.shape[-2:]) for item in tokens]


def first_name(tokens: Sequence[VisualTokens]) -> int:
    """The name of look 0, which differs from scene to scene.

    Training shows few looks and prediction many: so all names are learnt, not the first few.
    """
    if not tokens:
        return 0
    size = tokens[0].look.view.scene
    return (31 * size.height + size.width) % LOOKS


def _steps(start: float, stop: float, side: int) -> tuple[int, int]:
    """Two edges as steps, at least one apart."""
    first = min(max(round(start / side * STEPS), 0), STEPS - 1)
    last = min(max(round(stop / side * STEPS), first + 1), STEPS)
    return first, last
