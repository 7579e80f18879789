"""What travels between the parts: frozen values, no behaviour beyond arithmetic on themselves.

Letters, here and in `contracts`: N images, h w view pixels, C visual widths, s strides,
P prompt width, D query width, T tokens, K queries, M masks, I instances, V views, B samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from torch import Tensor

SEG = "[SEG]"
"""Stands in a text where the model hands a query to the mask head."""
BOX = "[BOX]"
"""Stands in a text where the model writes a box; the boxes follow in order."""


class Level(StrEnum):
    """How fine an answer a prompt asks for."""

    IMAGE = "image"
    REGION = "region"
    PIXEL = "pixel"


@dataclass(frozen=True, slots=True)
class Size:
    height: int
    width: int

    @property
    def area(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, half-open: `right` and `bottom` are the first column and row outside."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of the scene, in scene pixels, and the size to see it at.

    Read onto a square canvas, a view fills the top left `size` pixels; the rest is padding.
    It knows the scene's size, so a component can tell "at the left" from a view alone.
    """

    box: Box
    size: Size
    scene: Size

    @property
    def scale(self) -> float:
        """Scene pixels per view pixel, along the coarser axis."""
        return max(self.box.height / self.size.height, self.box.width / self.size.width)


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """What is known of a scene before a pixel is read; `resolution` in metres per scene pixel."""

    size: Size
    bands: int = 3
    resolution: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A view as read: `pixels [bands, h, w]` float in [0, 1] and `valid [h, w]` bool.

    Padding and nodata are 0 and not valid.
    """

    pixels: Tensor
    valid: Tensor


@dataclass(frozen=True, slots=True)
class Turn:
    speaker: Literal["user", "model"]
    text: str


Conversation = tuple[Turn, ...]
"""Turns of user and model in alternation; the last one is the user's."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A conversation as the language model reads it: `embedding [T, P]`, detached, T >= 1."""

    turns: Conversation
    embedding: Tensor

    @property
    def text(self) -> str:
        """What the user said last."""
        return self.turns[-1].text


@dataclass(frozen=True, slots=True)
class Plan:
    """How closely to look, decided before anything is encoded.

    `stop_below` is the resolution at which a look is fine enough: metres per look pixel where the
    scene's resolution is known, else scene pixels per look pixel; None means down to native.
    `max_views` counts the views beyond the overview, a whole number or inf; 0 is the overview
    alone. `max_tokens`, at least 1, bounds the visual tokens; None leaves that to the language
    adapter. `overlap` is how many look pixels neighbouring views of a rung share; like
    `overview_side` it is the model's, and what a controller says of it does not count.
    """

    level: Level
    overview_side: int
    stop_below: float | None = None
    max_views: float = math.inf
    max_tokens: int | None = None
    overlap: int = 0

    def without_budgets(self) -> Plan:
        """The plan a cropper sees, so that no ranking can depend on the budget."""
        return replace(self, max_views=math.inf, max_tokens=None)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A view that was read and encoded. It does not depend on any prompt.

    `pixels [bands, h, w]` in [0, 1] and `valid [h, w]` are the padded canvas; `features` are
    `[C, h/s, w/s]`, finest first; `encoded` is what the mask head's own `encode` made of it,
    without the N.
    """

    view: View
    pixels: Tensor
    valid: Tensor
    features: tuple[Tensor, ...]
    encoded: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class VisualTokens:
    """What the language model gets to see of one look.

    `cells [T, 4]` (top, left, bottom, right; integers on the look's coarsest feature grid) say
    which cells a token covers: one cell where it matters, a block where it does not.
    `features [T, C]` are the means of the coarsest level over those cells, C = `visual_dims[-1]`.
    `positions [T, 4]` are centre y, centre x, height and width as fractions of the scene's sides.
    `relevance [T]` in [0, 1] is the highest that the cropper found in those cells, detached; 1
    where it has no opinion.
    """

    look: Look
    cells: Tensor
    features: Tensor
    positions: Tensor
    relevance: Tensor


@dataclass(frozen=True, slots=True)
class LookBox:
    """A box in the frame of one look: `look` counts the looks that were handed over, `box` is in
    pixels of that look's canvas."""

    look: int
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the language model answered: in order, one row of `queries [K, D]` per `[SEG]` in `text`
    and one of `boxes` per `[BOX]`."""

    text: str
    queries: Tensor
    boxes: tuple[LookBox, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the language model should have answered, `[SEG]` and `[BOX]` where they belong."""

    text: str
    boxes: tuple[LookBox, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A language model's `loss [B]` and, for each sample, the queries `[K, D]` of its `[SEG]`s."""

    loss: Tensor
    queries: Sequence[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class LookMasks:
    """The masks of one look: `logits [M, h', w']` over its whole canvas at any stride, `query [M]`
    which query each answers, `score [M]` in [0, 1] how sure the head is that it is there."""

    logits: Tensor
    query: Tensor
    score: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class MaskTargets:
    """The truth in one look: `masks [I, h', w']`, coverage in [0, 1] over the whole canvas, one an
    instance, and `query [I]`, the query each belongs to."""

    masks: Tensor
    query: Tensor


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What a granularity controller should have planned; `stop_below` as in `Plan`."""

    level: Level
    stop_below: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt with its answer, for training and testing.

    `instances[k]` are the shapes (by their place in the sample) that the k-th `[SEG]` of `reply`
    means, `boxed[k]` the one its k-th `[BOX]` means; a `LookBox` cannot be written before the views
    are drawn, so `reply.boxes` is empty here. `relevant` are the shapes one must look at to answer,
    and `extent` is the side in scene pixels of what is asked for (square root of the area), also
    where it is absent.
    """

    conversation: Conversation
    reply: Reply
    level: Level
    instances: tuple[tuple[int, ...], ...] = ()
    boxed: tuple[int, ...] = ()
    relevant: tuple[int, ...] = ()
    extent: float | None = None
    task: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """A scene as training sees it: a fixed number of views, packed, and prompts about it.

    `pixels [V, bands, h, w]` uint8, `valid [V, h, w]` bool, `masks [V, I, h', w']` uint8 coverage
    (255 is all). Exchanges name instances by their row in `masks`, and boxes are written.
    `labels[i]` names the class of row i.
    """

    info: SceneInfo
    views: tuple[View, ...]
    pixels: Tensor
    valid: Tensor
    masks: Tensor
    exchanges: tuple[Exchange, ...]
    labels: tuple[str, ...] = ()
