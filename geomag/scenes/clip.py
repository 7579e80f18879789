"""A part of a scene as a scene of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..contracts import Scene
from ..errors import SceneError
from ..geometry import overview
from ..values import Box, Pixels, Size, View
from .georeference import Georeference, Points
from .region import Polygon, Region, outside, polygons_in

Bits = NDArray[np.bool_]
_GLANCE = 256
_NO_PIXEL = "no pixel of the scene lies in the region; give a larger one, or one elsewhere"


class ClippedScene:
    """The part of a scene that lies in a region: its pixels count from the corner of that.

    A pixel of the scene belongs to it where its centre lies in a polygon; all else is not valid, as
    if it were nodata. In a coarser view a pixel counts where the region touches it, so that nothing
    thin is lost from sight. `region` is what `region.Region` says.

    Raises:
        SceneError: the region cannot be read, is empty, or lies outside the scene.
    """

    def __init__(self, scene: Scene, region: Region) -> None:
        self._scene = scene
        self._polygons = polygons_in(region, scene)
        self._bounds = np.array([_extent(polygon) for polygon in self._polygons])  # [N, 4]
        self._corner, size = _window(scene, self._bounds)
        self.info = replace(scene.info, size=size)
        self.georeference = _moved(getattr(scene, "georeference", None), self._corner)
        self.note: str = getattr(scene, "note", "")
        left, top = self._corner
        window = Box(left, top, left + size.width, top + size.height)
        if not self._inside(View(window, overview(size, _GLANCE).size, scene.info.size)).any():
            raise SceneError(_NO_PIXEL)

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left.

        Raises:
            SceneError: the scene cannot be read there.
        """
        left, top = self._corner
        box = Box(
            left=view.box.left + left,
            top=view.box.top + top,
            right=view.box.right + left,
            bottom=view.box.bottom + top,
        )
        shown = View(box, view.size, self._scene.info.size)
        whole = self._scene.read(shown, side)
        inside = np.zeros((side, side), np.bool_)
        inside[: view.size.height, : view.size.width] = self._inside(shown)
        valid = whole.valid & torch.from_numpy(inside)
        return Pixels(whole.pixels * valid, valid)

    def _inside(self, view: View) -> Bits:
        """Which pixels of a view of the whole scene lie in the region."""
        box, size = view.box, view.size
        met = (self._bounds[:, :2] < (box.right, box.bottom)).all(1)
        met &= (self._bounds[:, 2:] > (box.left, box.top)).all(1)
        inside = np.zeros((size.height, size.width), np.bool_)
        zoom = np.array([size.width / box.width, size.height / box.height])
        for place in np.flatnonzero(met):
            rings = [(ring - (box.left, box.top)) * zoom for ring in self._polygons[place]]
            low, high = np.split(_extent(rings), 2)
            left, top = np.floor(low).clip(0, (size.width, size.height)).astype(int)
            right, bottom = np.floor(high + 1).clip(0, (size.width, size.height)).astype(int)
            part = [ring - (left, top) for ring in rings]
            inside[top:bottom, left:right] |= _drawn(
                part, Size(bottom - top, right - left), touched=view.scale > 1
            )
        return inside


def _window(scene: Scene, bounds: NDArray[np.float64]) -> tuple[tuple[int, int], Size]:
    """The left and top of the pixels whose centres may lie in the region, and how many they are."""
    size = (scene.info.size.width, scene.info.size.height)
    met = (bounds[:, :2] < size).all(1) & (bounds[:, 2:] > 0).all(1)
    if not met.any():
        raise _outside(scene, bounds)
    edges = np.ceil(np.concatenate([bounds[met, :2].min(0), bounds[met, 2:].max(0)]) - 0.5)
    left, top, right, bottom = edges.clip(0, size * 2).astype(int).tolist()
    if left == right or top == bottom:
        raise SceneError(_NO_PIXEL)
    return (left, top), Size(bottom - top, right - left)


def _outside(scene: Scene, bounds: NDArray[np.float64]) -> SceneError:
    extents = [
        np.concatenate([bounds[:, :2].min(0), bounds[:, 2:].max(0)]),
        np.array([0.0, 0, scene.info.size.width, scene.info.size.height]),
    ]
    georeference: Georeference | None = getattr(scene, "georeference", None)
    if georeference is not None:
        extents = [_on_map(georeference, extent) for extent in extents]
    return SceneError(outside(*extents))


def _on_map(georeference: Georeference, extent: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, right, bottom = extent
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return _extent([georeference.to_map(corners)])


def _moved(georeference: Georeference | None, corner: tuple[int, int]) -> Georeference | None:
    if georeference is None:
        return None
    a, b, _, d, e, _ = georeference.transform
    x, y = georeference.to_map(np.array([corner], np.float64))[0].tolist()
    return Georeference(georeference.crs, (a, b, x, d, e, y))


def _extent(rings: Polygon) -> NDArray[np.float64]:
    points = np.concatenate(rings)
    return np.concatenate([points.min(0), points.max(0)])


def _drawn(rings: Sequence[Points], size: Size, touched: bool) -> Bits:
    """The pixels whose centres lie in an odd number of rings and, where `touched` counts, those
    that an edge passes through."""
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.floor(low).clip(0, size.height).astype(int)
    last = np.floor(high + 1).clip(0, size.height).astype(int)
    # Each edge in each row of pixels that it meets.
    counts = (last - first).clip(0)
    edge = np.repeat(np.arange(len(start)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    x, y, low, high = start[edge, 0], start[edge, 1], low[edge], high[edge]
    rise = end[edge, 1] - y
    slope = (end[edge, 0] - x) / np.where(rise == 0, 1, rise)
    crosses = (low <= row + 0.5) & (row + 0.5 < high)
    columns = np.ceil(x + (row + 0.5 - y) * slope - 0.5).clip(0, size.width).astype(int)
    flips = np.zeros((size.height, size.width + 1), np.uint8)
    np.add.at(flips, (row[crosses], columns[crosses]), 1)
    inside: Bits = np.cumsum(flips, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1
    if touched:
        ends = x + (np.stack([np.maximum(row, low), np.minimum(row + 1, high)]) - y) * slope
        ends[1] = np.where(rise == 0, end[edge, 0], ends[1])
        left = np.floor(ends.min(0)).clip(0, size.width).astype(int)
        right = np.floor(ends.max(0) + 1).clip(0, size.width).astype(int)
        passes = np.zeros((size.height, size.width + 1), np.int32)
        np.add.at(passes, (row, left), 1)
        np.add.at(passes, (row, right), -1)
        inside |= np.cumsum(passes, axis=1)[:, :-1] > 0
    return inside
