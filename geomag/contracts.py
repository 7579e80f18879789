"""The five slots. A component needs no base class: it fills a slot by keeping the promise.

Signatures are checked when a component is built; behaviour is checked by `geomag.testing`. The
spelling is mechanical: `MaskHead` (contract) is `mask_head` in a config, as an attribute of the
model and as a `Component.kind`, and `MASK_HEADS` is its registry. Beside its own arguments, a
constructor may name the facts listed under "May be built with", or an earlier slot (`llm_adapter`)
to share its weights: it then receives a `registry.Borrowed`.

Every component is deterministic in eval mode, forgets earlier calls, never writes into what it is
handed, registers all it keeps with torch, follows `.to`, and can be trained after it has answered;
every parameter that asks for a gradient gets one in every step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from .values import (
    Box,
    Conversation,
    Lesson,
    Look,
    LookMasks,
    MaskTargets,
    Pixels,
    Plan,
    PlanTarget,
    Prompt,
    Reading,
    Reply,
    SceneInfo,
    View,
    VisualTokens,
)

API_VERSION = 1
"""Counts the incompatible changes of this file; plugins name it in their entry-point group."""


@runtime_checkable
class Scene(Protocol):
    """An image of any size that is read view by view, never as a whole."""

    @property
    def info(self) -> SceneInfo: ...

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left.

        Raises:
            SceneError: the file cannot be read there.
        """
        ...


@runtime_checkable
class VisionEncoder(Protocol):
    """Turns pixels into features of several strides.

    States `embed_dims` and `strides` (finest to coarsest, one entry a level) and `bands`. Takes any
    h, w that are multiples of the largest stride; normalises its own input. Neither images of a
    batch nor an image and its blank canvas mix, in training too: normalise per position, or masked.
    """

    embed_dims: tuple[int, ...]
    strides: tuple[int, ...]
    bands: int

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """`pixels [N, bands, h, w]` in [0, 1] to levels `[N, C, h/s, w/s]`, finest first."""
        ...


@runtime_checkable
class LLMAdapter(Protocol):
    """Reads prompts, and answers them from visual tokens.

    A query is the hidden state where `[SEG]` is the *input*; a text without one leaves queries of
    shape [0, D], which still belong to the graph. What `generate` wrote, `__call__` reads back to
    the same queries. Samples of a batch do not mix. Looks may come without a token, all of them
    too, and with up to `max_visual_tokens` together. `[SEG]` in what a user wrote is text.

    May be built with: `visual_dims`, `strides`.
    """

    prompt_dim: int
    query_dim: int
    max_visual_tokens: int

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        """Embeds the conversations, detached.

        Costs at most 5 % of the FLOPs of a `generate` of 16 tokens over a full 256 x 256 overview.
        """
        ...

    def __call__(
        self,
        tokens: Sequence[Sequence[VisualTokens]],
        prompts: Sequence[Prompt],
        answers: Sequence[Reply],
    ) -> Lesson:
        """Learns to answer B prompts, each from the tokens of its looks and its reply."""
        ...

    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        """Answers one prompt from the tokens of its looks, within `max_new_tokens`."""
        ...


@runtime_checkable
class GranularityController(Protocol):
    """TMRA: decides how closely to look, from the prompt, before anything is encoded.

    Plans for any prompt and any scene, with its model's `overview_side`. Where it learns it also
    has `loss(prompts, infos, targets) -> [B]` (see `Learning`).

    May be built with: `prompt_dim`, `overview_side`.
    """

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan: ...


@runtime_checkable
class Cropper(Protocol):
    """PSC: judges looks and orders the views that the core offers; it never makes up a view.

    May be built with: `visual_dims`, `strides`, `prompt_dim`.
    """

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        """For each look a map `[h', w']` in [0, 1] over its canvas, or None for no opinion."""
        ...

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        """The candidates worth a closer look, best first, each once; [] when it has seen enough.

        Follows from the arguments alone, whatever the order of the looks. The plan has no budgets.
        `geometry.relevance_of` measures a view against what was seen.
        """
        ...


@runtime_checkable
class MaskHead(Protocol):
    """Draws masks in a look, one or several for each query.

    Neither looks nor queries mix: what a query gets does not depend on what is asked beside it, so
    the prompts of a training sample share one call. A head without `loss` draws exactly one mask a
    query, in order.

    A head may also have `loss(looks, queries, targets) -> [B]` where it matches instances itself
    (`Matching`), and `encode(pixels)`, cached with the look (`Encoding`).

    May be built with: `visual_dims`, `strides`, `query_dim`.
    """

    def __call__(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        """For each look its queries `[K, D]` to masks, at a stride that divides the canvas; K = 0
        gives M = 0."""
        ...


@runtime_checkable
class Learning(Protocol):
    """A granularity controller that learns."""

    def loss(
        self, prompts: Sequence[Prompt], infos: Sequence[SceneInfo], targets: Sequence[PlanTarget]
    ) -> Tensor:
        """One loss for each of B prompts, `[B]`."""
        ...


@runtime_checkable
class Matching(Protocol):
    """A mask head that matches its instances to the truth itself."""

    def loss(
        self, looks: Sequence[Look], queries: Sequence[Tensor], targets: Sequence[MaskTargets]
    ) -> Tensor:
        """One loss for each of B looks, `[B]`; a look without targets still has one."""
        ...


@runtime_checkable
class Encoding(Protocol):
    """A mask head with an image encoder of its own."""

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """`pixels [N, bands, h, w]` in [0, 1] to what its masks need, each `[N, ...]`."""
        ...


@runtime_checkable
class Exporting(Protocol):
    """A component that wraps a model of another library."""

    def export(self, folder: Path) -> None:
        """Writes that model into an empty folder the way its own library saves it, with all that
        was learnt merged in."""
        ...


@runtime_checkable
class Sourced(Protocol):
    """A component that reads weights from elsewhere which it never changes."""

    def sourced(self) -> Collection[str]:
        """The names in its state dict that it has again whenever it is built. Checkpoints of
        training leave them out: those of a language model tuned by LoRA hold what was learnt."""
        ...


@runtime_checkable
class Shape(Protocol):
    """One labelled object, in scene pixels, that can be drawn into any view."""

    @property
    def box(self) -> Box: ...

    @property
    def area(self) -> float:
        """Scene pixels covered."""
        ...

    def draw(self, view: View, side: int, stride: int = 1) -> Tensor:
        """Coverage in [0, 1] on the view's canvas, float `[side / stride, side / stride]`."""
        ...


@runtime_checkable
class Binding(Protocol):
    """A component for benchmarks that is told the truth; only the test loop calls this."""

    def bind(self, targets: Sequence[Shape]) -> None:
        """Takes the shapes that the next prompt is about; () forgets them."""
        ...
