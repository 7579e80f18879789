"""Questions about one scene, which share what was seen of it."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping, Sequence
from typing import overload

from .answer import Answer, Cost
from .contracts import Scene
from .errors import PromptError
from .export.shown import shown
from .model import GeoMag
from .values import BOX, SEG, Conversation, Look, Pixels, SceneInfo, Turn, View

CACHE_BYTES = 256 << 20

History = Sequence[tuple[str, str]]
"""Earlier questions with the texts of their answers, oldest first."""


class Session:
    """Questions about one scene; what was seen for one is not read again for the next."""

    def __init__(
        self,
        model: GeoMag,
        scene: Scene,
        threshold: float = 0.5,
        cache_bytes: int = CACHE_BYTES,
        name: str = "",
    ) -> None:
        self.scene = scene
        self._model = model
        self._name = name
        self._threshold = threshold
        self._looks = LookStore(cache_bytes)

    @overload
    def ask(self, prompt: str, history: History = (), max_views: float | None = None) -> Answer: ...

    @overload
    def ask(
        self,
        prompt: list[str] | tuple[str, ...],
        history: History = (),
        max_views: float | None = None,
    ) -> list[Answer]: ...

    def ask(
        self,
        prompt: str | list[str] | tuple[str, ...],
        history: History = (),
        max_views: float | None = None,
    ) -> Answer | list[Answer]:
        """Answers a prompt, or each of a list of prompts by itself.

        `history` holds earlier questions with the texts of their answers. `max_views` bounds the
        views beyond the overview: None leaves it to the model, 0 is the overview alone, `math.inf`
        everything at full resolution.

        Raises:
            PromptError: a prompt is empty or no text, or an argument is of the wrong kind.
            SceneError: the scene cannot be read.
        """
        _check_views(max_views)
        if isinstance(prompt, str):
            return self._answer(_conversation(prompt, history), max_views)
        if not isinstance(prompt, list | tuple):
            raise PromptError(f"prompt {prompt!r}: expected a text, or a list of texts")
        conversations = [_conversation(one, history) for one in prompt]
        return [self._answer(conversation, max_views) for conversation in conversations]

    def _answer(self, conversation: Conversation, max_views: float | None) -> Answer:
        began = time.perf_counter()
        scene = _Counted(self.scene)
        findings = self._model.answer(scene, conversation, self._looks, max_views, self._threshold)
        looks = findings.observation.looks
        cost = Cost(
            views=len(looks),
            new_views=findings.observation.new_views,
            pixels_read=scene.pixels_read,
            share=sum(look.view.size.area for look in looks) / scene.info.size.area,
            tokens=findings.tokens,
            seconds=time.perf_counter() - began,
        )
        return Answer(shown(findings), self.scene, cost, self._name)


class LookStore(MutableMapping[View, Look]):
    """Looks by view; beyond `cache_bytes` those go that were not asked for longest."""

    def __init__(self, cache_bytes: int) -> None:
        self._looks: OrderedDict[View, Look] = OrderedDict()
        self._bytes = 0
        self._most = cache_bytes

    def __getitem__(self, view: View) -> Look:
        look = self._looks[view]
        self._looks.move_to_end(view)
        return look

    def __setitem__(self, view: View, look: Look) -> None:
        if view in self._looks:
            del self[view]
        self._looks[view] = look
        self._bytes += _bytes(look)
        while self._bytes > self._most:
            del self[next(iter(self._looks))]

    def __delitem__(self, view: View) -> None:
        self._bytes -= _bytes(self._looks.pop(view))

    def __contains__(self, view: object) -> bool:
        return view in self._looks

    def __iter__(self) -> Iterator[View]:
        return iter(self._looks)

    def __len__(self) -> int:
        return len(self._looks)


class _Counted:
    """A scene that counts the pixels read from it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.pixels_read = 0

    @property
    def info(self) -> SceneInfo:
        return self._scene.info

    def read(self, view: View, side: int) -> Pixels:
        self.pixels_read += view.size.area
        return self._scene.read(view, side)


def _bytes(look: Look) -> int:
    encoded = () if look.encoded is None else (look.encoded,)
    return sum(tensor.nbytes for tensor in (look.pixels, look.valid, *look.features, *encoded))


def _conversation(prompt: object, history: History) -> Conversation:
    if not isinstance(prompt, str):
        raise PromptError(f"prompt {prompt!r}: expected a text")
    if not prompt.strip():
        raise PromptError("the prompt is empty; ask something, such as 'every airplane'")
    markers = [marker for marker in (SEG, BOX) if marker in prompt]
    if markers:
        raise PromptError(f"the prompt contains {markers[0]}, which only the model may write")
    turns: list[Turn] = []
    for place, pair in enumerate(_pairs(history)):
        if not all(isinstance(text, str) and text.strip() for text in pair):
            raise PromptError(f"history[{place}] is {pair!r}: expected a question and its answer")
        turns += [Turn("user", pair[0]), Turn("model", pair[1])]
    return (*turns, Turn("user", prompt))


def _pairs(history: object) -> list[tuple[str, str]]:
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise PromptError(f"history {history!r}: expected pairs of a question and its answer")
    for place, pair in enumerate(history):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise PromptError(f"history[{place}] is {pair!r}: expected a question and its answer")
    return list(history)


def _check_views(max_views: object) -> None:
    if max_views is None:
        return
    if isinstance(max_views, int | float) and not isinstance(max_views, bool):
        whole = math.isfinite(max_views) and max_views % 1 == 0
        fits = max_views == math.inf or (max_views >= 0 and whole)
    else:
        fits = False
    if not fits:
        raise PromptError(
            f"max_views {max_views!r}: expected a whole number from 0 up, or math.inf"
        )
