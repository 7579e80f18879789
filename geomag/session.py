"""Questions about one scene, which share what was seen of it."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, overload

import torch

from .answer import Answer, Cost
from .class_map import ClassMap
from .class_prompts import class_prompts
from .contracts import Scene
from .errors import PromptError
from .export.shown import shown
from .limits import Forecast, Limits, forecast
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
    def ask(
        self,
        prompt: str,
        history: History = (),
        max_views: float | None = None,
        *,
        max_tokens: int | None = None,
        resolution: float | None = None,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        prompt: list[str] | tuple[str, ...],
        history: History = (),
        max_views: float | None = None,
        *,
        max_tokens: int | None = None,
        resolution: float | None = None,
    ) -> list[Answer]: ...

    def ask(
        self,
        prompt: str | list[str] | tuple[str, ...],
        history: History = (),
        max_views: float | None = None,
        *,
        max_tokens: int | None = None,
        resolution: float | None = None,
    ) -> Answer | list[Answer]:
        """Answers a prompt, or each of a list of prompts by itself.

        `history` holds earlier questions with the texts of their answers. What is None below is
        left to the model. `max_views` bounds the views beyond the overview: 0 is the overview
        alone, `math.inf` everything at full resolution. `max_tokens`, at least 1, bounds what the
        language model sees of them. At `resolution`, in metres per pixel (of a scene that has no
        ground resolution, in scene pixels per pixel), a look is fine enough: with it, `math.inf` is
        all that the model finds worth a look down to there.

        Raises:
            PromptError: a prompt is empty or no text, or an argument is of the wrong kind.
            SceneError: the scene cannot be read.
        """
        limits = checked_limits(max_views, max_tokens, resolution)
        if isinstance(prompt, str):
            return self._answer(conversation_of(prompt, history), limits)
        if not isinstance(prompt, list | tuple):
            raise PromptError(f"prompt {prompt!r}: expected a text, or a list of texts")
        conversations = [conversation_of(one, history) for one in prompt]
        return [self._answer(conversation, limits) for conversation in conversations]

    def segment(
        self,
        classes: Sequence[str] | Mapping[str, str],
        max_views: float | None = None,
        *,
        max_tokens: int | None = None,
        resolution: float | None = None,
    ) -> ClassMap:
        """Divides the scene among classes: every pixel is of one of them, or of none.

        Each class is asked for by itself, "every ship" or what a mapping of names to prompts says;
        the earlier one wins where two are alike. The limits are those of `ask`, for each class.

        Raises:
            PromptError: a class cannot be asked for, names all of those; or as in `ask`.
            SceneError: the scene cannot be read.
        """
        prompts = class_prompts(classes)
        answers = self.ask(
            list(prompts.values()),
            max_views=max_views,
            max_tokens=max_tokens,
            resolution=resolution,
        )
        return ClassMap(tuple(prompts), tuple(answers))

    def forecast(
        self,
        prompt: str,
        history: History = (),
        max_views: float | None = None,
        *,
        max_tokens: int | None = None,
        resolution: float | None = None,
    ) -> Forecast:
        """What `ask` would come to at most; not a pixel is read.

        Raises:
            PromptError: as in `ask`.
        """
        limits = checked_limits(max_views, max_tokens, resolution)
        model, info = self._model, self.scene.info
        with torch.inference_mode():
            read = model.llm_adapter.read([conversation_of(prompt, history)])[0]
            plan = limits.applied(model.granularity_controller.plan(read, info))
        plan = replace(plan, overlap=model.overlap)
        return forecast(plan, info, model.llm_adapter.max_visual_tokens)

    def _answer(self, conversation: Conversation, limits: Limits) -> Answer:
        began = time.perf_counter()
        scene = _Counted(self.scene)
        findings = self._model.answer(scene, conversation, self._looks, limits, self._threshold)
        looks = findings.observation.looks
        cost = Cost(
            views=len(looks),
            new_views=findings.observation.new_views,
            pixels_read=scene.pixels_read,
            share=sum(look.view.size.area for look in looks) / scene.info.size.area,
            tokens=findings.tokens,
            seconds=time.perf_counter() - began,
        )
        return Answer(shown(findings), self.scene, cost, self._name, self._model.presence)


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
    encoded = look.encoded or ()
    return sum(tensor.nbytes for tensor in (look.pixels, look.valid, *look.features, *encoded))


def conversation_of(prompt: object, history: History = ()) -> Conversation:
    """A prompt and what was said before as turns.

    Raises:
        PromptError: the prompt is empty or no text, or the history is none.
    """
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


def checked_limits(max_views: Any = None, max_tokens: Any = None, resolution: Any = None) -> Limits:
    """What `Session.ask` takes as limits, where it can be used.

    Raises:
        PromptError: some of it cannot; names all of that.
    """
    rules: tuple[tuple[str, Any, Callable[[Any], bool], str], ...] = (
        (
            "max_views",
            max_views,
            lambda number: number == math.inf or (number >= 0 and number % 1 == 0),
            "a whole number from 0 up, or math.inf",
        ),
        (
            "max_tokens",
            max_tokens,
            lambda number: number >= 1 and number % 1 == 0,
            "a whole number from 1 up",
        ),
        (
            "resolution",
            resolution,
            lambda number: 0 < number < math.inf,
            "a number above 0, in metres per pixel",
        ),
    )
    problems = [
        f"{name} {value!r}: expected {expected}"
        for name, value, fits, expected in rules
        if value is not None
        and not (isinstance(value, Real) and not isinstance(value, bool) and fits(value))
    ]
    if problems:
        raise PromptError("; ".join(problems))
    return Limits(max_views, None if max_tokens is None else int(max_tokens), resolution)
