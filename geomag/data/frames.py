"""A scene laid down anew: a window of it, scaled and turned, with its labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Scene, Shape
from ..geometry import overview
from ..values import Box, Exchange, Pixels, Reply, SceneInfo, Size, Turn, View
from .coverage import Floats
from .directions import UPRIGHT, Symmetry, turned
from .samples import Expression, LabelledSample, Polygons

KEPT = 0.9
"""A shape is in a window when this share of its box is; less than the rest of it is nothing."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a new scene of `size` comes from: `window` of a `source` scene, then `symmetry`."""

    source: Size
    window: Box
    size: Size
    symmetry: Symmetry = UPRIGHT

    @property
    def scale(self) -> float:
        """New pixels per source pixel."""
        width = self.size.height if self.symmetry.transpose else self.size.width
        return width / self.window.width

    def points(self, points: Floats) -> Floats:
        """Points `[n, 2]` (x, y) of the source in the new scene."""
        origin = np.array([self.window.left, self.window.top])
        shares = (points - origin) / (self.window.width, self.window.height)
        if self.symmetry.transpose:
            shares = shares[:, ::-1]
        if self.symmetry.across:
            shares = shares * (-1, 1) + (1, 0)
        if self.symmetry.down:
            shares = shares * (1, -1) + (0, 1)
        return np.asarray(shares * (self.size.width, self.size.height))

    def box(self, box: Box) -> Box:
        """A box of the source in the new scene, clipped to it."""
        corners = self.points(np.array([[box.left, box.top], [box.right, box.bottom]]))
        corners = corners.clip(0, (self.size.width, self.size.height))
        return Box(*corners.min(0).tolist(), *corners.max(0).tolist())

    def view(self, view: View) -> View:
        """The view of the source that shows what a view of the new scene shows."""
        x = (view.box.left / self.size.width, view.box.right / self.size.width)
        y = (view.box.top / self.size.height, view.box.bottom / self.size.height)
        if self.symmetry.across:
            x = (1 - x[1], 1 - x[0])
        if self.symmetry.down:
            y = (1 - y[1], 1 - y[0])
        size = view.size
        if self.symmetry.transpose:
            x, y, size = y, x, Size(size.width, size.height)
        window = self.window
        box = Box(
            window.left + x[0] * window.width,
            window.top + y[0] * window.height,
            window.left + x[1] * window.width,
            window.top + y[1] * window.height,
        )
        return View(box, size, self.source)

    def lay(self, canvas: Tensor, view: View) -> Tensor:
        """A canvas `[..., side, side]` of the source's view as that of `view` in the new scene."""
        height, width = view.size.height, view.size.width
        part = canvas[..., :width, :height].mT if self.symmetry.transpose else canvas
        part = part[..., :height, :width]
        flipped = [
            axis for axis, flip in ((-1, self.symmetry.across), (-2, self.symmetry.down)) if flip
        ]
        laid = torch.zeros_like(canvas)
        laid[..., :height, :width] = part.flip(flipped) if flipped else part
        return laid


class FramedScene:
    """What a frame shows of a scene."""

    def __init__(self, scene: Scene, frame: Frame) -> None:
        self._scene, self._frame = scene, frame
        resolution = scene.info.resolution
        self.info: SceneInfo = replace(
            scene.info,
            size=frame.size,
            resolution=None if resolution is None else resolution / frame.scale,
        )

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left."""
        seen = self._scene.read(self._frame.view(view), side)
        return Pixels(self._frame.lay(seen.pixels, view), self._frame.lay(seen.valid, view))


class FramedShape:
    """Any shape, drawn as a frame shows it."""

    def __init__(self, shape: Shape, frame: Frame) -> None:
        self._shape, self._frame = shape, frame

    @cached_property
    def box(self) -> Box:
        return self._frame.box(self._shape.box)

    @cached_property
    def area(self) -> float:
        view = overview(self._frame.size, 512)
        cell = (view.box.width / view.size.width) * (view.box.height / view.size.height)
        return float(self.draw(view, 512).sum()) * cell

    def draw(self, view: View, side: int, stride: int = 1) -> Tensor:
        # Flipped cell by cell at stride 1: a view's border need not lie on a coarser cell's.
        drawn = self._frame.lay(self._shape.draw(self._frame.view(view), side), view)
        return F.avg_pool2d(drawn[None], stride)[0] if stride > 1 else drawn


def cuts(sample: LabelledSample, window: Box) -> bool:
    """Whether a window cuts through a shape, so that one could not say if it is there."""
    for shape in sample.shapes:
        box = shape.box
        width = min(box.right, window.right) - max(box.left, window.left)
        height = min(box.bottom, window.bottom) - max(box.top, window.top)
        inside = max(width, 0) * max(height, 0) / max(box.width * box.height, 1e-9)
        if 0 < inside < KEPT:
            return True
    return False


def framed(sample: LabelledSample, frame: Frame) -> LabelledSample:
    """The sample as the frame shows it; everything it says is true of what is shown.

    A window leaves out the shapes outside it (see `cuts`), and with them the expressions and the
    exchanges, which may speak of them or of where they were; directions turn with the scene.
    """
    whole = Box(0, 0, frame.source.width, frame.source.height)
    kept = [
        index
        for index, shape in enumerate(sample.shapes)
        if frame.window == whole or _inside(shape.box, frame.window)
    ]
    same = frame.window == whole
    return replace(
        sample,
        scene=FramedScene(sample.scene, frame),
        shapes=tuple(_framed_shape(sample.shapes[index], frame) for index in kept),
        labels=tuple(sample.labels[index] for index in kept),
        kinds=tuple(
            replace(kind, side=None if kind.side is None else kind.side * frame.scale)
            for kind in sample.kinds
        ),
        expressions=tuple(
            Expression(turned(one.text, frame.symmetry), one.members) for one in sample.expressions
        )
        if same
        else (),
        exchanges=tuple(_turned(one, frame) for one in sample.exchanges) if same else (),
    )


def _inside(box: Box, window: Box) -> bool:
    y, x = (box.top + box.bottom) / 2, (box.left + box.right) / 2
    return window.left <= x <= window.right and window.top <= y <= window.bottom


def _framed_shape(shape: Shape, frame: Frame) -> Shape:
    if isinstance(shape, Polygons):
        return Polygons([frame.points(ring) for ring in shape.rings], frame.size)
    return FramedShape(shape, frame)


def _turned(exchange: Exchange, frame: Frame) -> Exchange:
    turns = tuple(
        Turn(turn.speaker, turned(turn.text, frame.symmetry)) for turn in exchange.conversation
    )
    return replace(
        exchange,
        conversation=turns,
        reply=Reply(turned(exchange.reply.text, frame.symmetry), exchange.reply.boxes),
        extent=None if exchange.extent is None else exchange.extent * frame.scale,
    )
