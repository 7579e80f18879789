"""Labelled scenes: shapes that draw themselves into any view, and what is known about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contracts import Scene, Shape
from ..geometry import overview
from ..values import Box, Exchange, Size, View
from .coverage import Floats, area, clipped, covered

TRACE = 1e-3
"""Scene pixels: less of a ring than this is nothing to see, and may be left by rounding."""


@runtime_checkable
class Placeable(Protocol):
    """A shape that can become part of a larger scene."""

    def placed(self, window: Box, scene: Size) -> Shape | None:
        """The shape in a larger scene of size `scene`, whose `window` (whole pixels) shows the top
        left of its own; None where nothing of it is shown."""
        ...


class Polygons:
    """A shape given by its outline, in one or several parts that do not overlap.

    `rings` are `[n, 2]` (x, y) in scene pixels, where pixel i spans i to i + 1. What lies outside
    the scene of `size` does not count.
    """

    def __init__(self, rings: Sequence[Floats], size: Size) -> None:
        self.rings = tuple(rings)
        self.size = size

    @cached_property
    def box(self) -> Box:
        points = np.concatenate(self.rings)
        left, top = points.min(0).tolist()
        right, bottom = points.max(0).tolist()
        return _clipped(Box(left, top, right, bottom), self.size)

    @cached_property
    def area(self) -> float:
        return sum(area(ring, self.size.width, self.size.height) for ring in self.rings)

    def placed(self, window: Box, scene: Size) -> Self | None:
        """As `Placeable` says."""
        offset = np.array([window.left, window.top])
        edges = (window.left, window.top, window.right, window.bottom)
        # As precise as files are read, so that a shape is the same once written and read again.
        rings = [clipped(ring + offset, *edges).astype(np.float32) for ring in self.rings]
        shown = [ring for ring in rings if area(ring, scene.width, scene.height) > TRACE]
        return type(self)(shown, scene) if shown else None

    def draw(self, view: View, side: int, stride: int = 1) -> Tensor:
        canvas = np.zeros((side // stride, side // stride), np.float32)
        if not meet(self.box, view.box):
            return torch.from_numpy(canvas)
        zoom = (
            np.array([view.size.width / view.box.width, view.size.height / view.box.height])
            / stride
        )
        origin = np.array([view.box.left, view.box.top])
        width, height = view.size.width / stride, view.size.height / stride
        for ring in self.rings:
            points = (ring - origin) * zoom
            # Only the cells it can touch: most objects are small.
            low = np.floor(points.min(0)).clip(0)
            high = np.ceil(points.max(0))
            limit = (min(width, high[0]) - low[0], min(height, high[1]) - low[1])
            if min(limit) <= 0:
                continue
            drawn = covered(points - low, *limit)
            top, left = int(low[1]), int(low[0])
            canvas[top : top + drawn.shape[0], left : left + drawn.shape[1]] += drawn
        return torch.from_numpy(canvas.clip(0, 1))


class Bitmap:
    """A shape given by its pixels, `mask [H, W]` bool over the whole scene."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
        self.size = Size(*mask.shape)
        self._inside = mask[top:bottom, left:right].copy()
        self._box = Box(left, top, right, bottom)

    @property
    def box(self) -> Box:
        return self._box

    @cached_property
    def area(self) -> float:
        return float(self._inside.sum())

    @property
    def mask(self) -> NDArray[np.bool_]:
        """`[H, W]` over the whole scene."""
        whole = np.zeros((self.size.height, self.size.width), np.bool_)
        box = self.box
        whole[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = self._inside
        return whole

    def placed(self, window: Box, scene: Size) -> Self | None:
        """As `Placeable` says."""
        part = self.mask[: round(window.height), : round(window.width)]
        whole = np.zeros((scene.height, scene.width), np.bool_)
        top, left = round(window.top), round(window.left)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        return type(self)(whole) if part.any() else None

    def draw(self, view: View, side: int, stride: int = 1) -> Tensor:
        cells = side // stride
        if not meet(self.box, view.box):
            return torch.zeros(cells, cells)
        down = _averaging(
            view.box.top, view.box.bottom, view.size.height, cells, stride, self.box.top,
            self._inside.shape[0],
        )  # fmt: skip
        across = _averaging(
            view.box.left, view.box.right, view.size.width, cells, stride, self.box.left,
            self._inside.shape[1],
        )  # fmt: skip
        drawn = down @ self._inside.astype(np.float32) @ across.T
        return torch.from_numpy(drawn.clip(0, 1))


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of objects that a data set labels wherever it occurs.

    So where a kind is not labelled, it is not there, and asking for it must be refused. `side` is
    its typical side in scene pixels (square root of the area), `scenes` how many scenes hold it.
    """

    name: str
    side: float | None = None
    scenes: int = 1


@dataclass(frozen=True, slots=True)
class Expression:
    """A phrase that means certain shapes of a scene and no others."""

    text: str
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSample:
    """A scene with what is known about it.

    `labels[i]` names the class of `shapes[i]`. `exchanges` are the prompts to test with. From the
    facts (`kinds`, `expressions`, and `uncounted`, the classes whose shapes are not one object
    each) training composes prompts of its own; without `kinds` it trains on `exchanges`.
    """

    scene: Scene
    shapes: tuple[Shape, ...]
    labels: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    name: str
    kinds: tuple[Kind, ...] = ()
    expressions: tuple[Expression, ...] = ()
    uncounted: frozenset[str] = frozenset()


def side_of(shapes: Sequence[Shape]) -> float | None:
    """The typical side of shapes in scene pixels: the median of the square roots of their areas."""
    return float(np.median([math.sqrt(shape.area) for shape in shapes])) if shapes else None


def native(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """All pixels of a scene of three bands, `[H, W, 3]`, and which are valid, `[H, W]`."""
    size = scene.info.size
    longest = max(size.height, size.width)
    seen = scene.read(overview(size, longest), longest)
    inside = (slice(size.height), slice(size.width))
    colours = (seen.pixels[:, *inside] * 255).round().byte()
    return colours.permute(1, 2, 0).numpy(), seen.valid[inside].numpy()


def meet(one: Box, other: Box) -> bool:
    """Whether two boxes share any area."""
    return (
        max(one.left, other.left) < min(one.right, other.right)
        and max(one.top, other.top) < min(one.bottom, other.bottom)
    )  # fmt: skip


def _clipped(box: Box, size: Size) -> Box:
    return Box(
        min(max(box.left, 0), size.width),
        min(max(box.top, 0), size.height),
        min(max(box.right, 0), size.width),
        min(max(box.bottom, 0), size.height),
    )


def _averaging(
    begin: float, end: float, size: int, cells: int, stride: int, offset: float, length: int
) -> NDArray[np.float32]:
    """Weights `[cells, length]`: the share of each canvas cell under each pixel after `offset`."""
    step = (end - begin) / size * stride
    edges = np.minimum(begin + np.arange(cells + 1) * step, end) - offset
    pixels = np.arange(length)
    overlap: NDArray[Any] = np.minimum(edges[1:, None], pixels + 1) - np.maximum(
        edges[:-1, None], pixels
    )
    return (overlap.clip(0) / step).astype(np.float32)
