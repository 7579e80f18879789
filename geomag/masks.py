"""A mask in scene coordinates, kept as the looks it was drawn in: sparse, 8 bits a look pixel.

Nothing here needs the scene as a whole: a region is painted from the tiles that meet it, and area,
box, run lengths and outlines visit only the places where the mask is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from . import outline
from .errors import OutputError
from .outline import Piece, Polygon, Window
from .values import Box, Size, View

Levels = NDArray[np.float32]

_BLOCK = 1 << 22
"""Scene pixels painted at a time: what bounds the memory of every walk over a mask."""
_CELL = 1 << 11
"""The side of the square cells of `_BLOCK` pixels that outlines are traced by."""


def blocks(window: Window) -> Iterator[Window]:
    """A window in pieces of at most `_BLOCK` pixels, in raster order."""
    columns = max(min(window.width, _BLOCK), 1)
    rows = max(_BLOCK // columns, 1)
    for top in range(window.top, window.bottom, rows):
        for left in range(window.left, window.right, columns):
            yield window.meet(Window(left, top, left + columns, top + rows))


def window_of(box: Box) -> Window:
    """The scene pixels whose centres lie in a box."""
    edges = (math.ceil(edge - 0.5) for edge in (box.left, box.top, box.right, box.bottom))
    return Window(*edges)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A mask as one look saw it: `probability [view.size]` in 255ths, None where it is nowhere."""

    view: View
    probability: NDArray[np.uint8] | None

    def extent(self, threshold: float) -> Window:
        """The scene pixels that may lie above the threshold."""
        nowhere = Window(0, 0, 0, 0)
        if self.probability is None:
            return nowhere
        # Interpolation reaches one look pixel further, and never above the highest value there.
        above = self.probability > threshold * 255
        rows, columns = np.flatnonzero(above.any(1)), np.flatnonzero(above.any(0))
        if not len(rows):
            return nowhere
        box, size = self.view.box, self.view.size
        down, across = box.height / size.height, box.width / size.width
        reach = Window(
            math.floor(box.left + (columns[0] - 1) * across),
            math.floor(box.top + (rows[0] - 1) * down),
            math.ceil(box.left + (columns[-1] + 2) * across),
            math.ceil(box.top + (rows[-1] + 2) * down),
        )
        return reach.meet(window_of(box))

    def paint(self, canvas: Levels, window: Window) -> None:
        """Writes its levels, 0 to 255, over the canvas of a window, where they meet."""
        meet = window_of(self.view.box).meet(window)
        if not (meet.height and meet.width):
            return
        rows = slice(meet.top - window.top, meet.bottom - window.top)
        columns = slice(meet.left - window.left, meet.right - window.left)
        if self.probability is None:
            canvas[rows, columns] = 0
        else:
            canvas[rows, columns] = _resample(self.probability, self.view, meet)


@dataclass(frozen=True, slots=True, eq=False)
class SceneMask:
    """One mask over a scene of any size; the finest look wins wherever several saw it.

    `tiles` are ordered coarse to fine, and what no tile covers is outside. A pixel belongs to the
    mask where its probability lies above `threshold`. `query` counts the `[SEG]`s of the answer. An
    `instance` is one thing, in however many parts; other masks show all there is.
    """

    size: Size
    tiles: tuple[Tile, ...]
    query: int
    score: float
    threshold: float = 0.5
    instance: bool = False

    @property
    def empty(self) -> bool:
        return not any(piece.any() for _, piece in self._pieces())

    @property
    def area(self) -> int:
        """Scene pixels in the mask."""
        return sum(int(piece.sum()) for _, piece in self._pieces())

    @property
    def box(self) -> Box | None:
        """The tightest box around the mask, or None where it is empty."""
        edges: list[tuple[int, int, int, int]] = []
        for window, piece in self._pieces():
            rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
            if len(rows):
                left, top = window.left + int(columns[0]), window.top + int(rows[0])
                right, bottom = window.left + int(columns[-1]) + 1, window.top + int(rows[-1]) + 1
                edges.append((left, top, right, bottom))
        if not edges:
            return None
        lefts, tops, rights, bottoms = zip(*edges, strict=True)
        return Box(min(lefts), min(tops), max(rights), max(bottoms))

    def to_dense(self, box: Box | None = None) -> NDArray[np.bool_]:
        """The mask `[H, W]`, of the scene or of a box of it."""
        window = self._window(box)
        dense = np.zeros((window.height, window.width), dtype=bool)
        for block, levels in self._painted(blocks(window)):
            dense[_inside(block, window)] = levels > self.threshold * 255
        return dense

    def probability(self, box: Box | None = None) -> NDArray[np.float32]:
        """The probability `[H, W]` in [0, 1], of the scene or of a box of it."""
        window = self._window(box)
        dense = np.zeros((window.height, window.width), dtype=np.float32)
        for block, levels in self._painted(blocks(window)):
            dense[_inside(block, window)] = levels / 255
        return dense

    def to_rle(self) -> dict[str, object]:
        """The mask of the whole scene as COCO's compressed run lengths.

        Raises:
            OutputError: the scene has more pixels than COCO's 32-bit runs can count.
        """
        from pycocotools import mask as coco

        if self.size.area >= 1 << 32:
            raise OutputError(
                f"run lengths: a scene of {self.size.height} x {self.size.width} pixels has more "
                "than COCO's format can count (4294967295); use to_polygons() instead"
            )
        edges = np.concatenate([[0], *self._run_edges(), [self.size.area]])
        counts = np.diff(edges).tolist()
        if len(counts) > 1 and not counts[-1]:
            counts.pop()
        height, width = self.size.height, self.size.width
        compressed = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return {"size": [height, width], "counts": compressed["counts"].decode("ascii")}

    def to_polygons(self) -> list[Polygon]:
        """One polygon for each connected part: its outer ring, then its holes, `[x, y]` a point.

        Rings run along the edges of scene pixels and are not closed, so that a polygon has exactly
        the area of its pixels. Pixels that meet only at a corner are connected.
        """
        return outline.polygons(self.pieces(_CELL, margin=1))

    def to_parts(self) -> list[list[Polygon]]:
        """The same parts, each as polygons of which no ring touches itself, as maps need them."""
        return outline.parts(self.pieces(_CELL, margin=1))

    def pieces(self, side: int, margin: int = 0) -> Iterator[Piece]:
        """The mask by the cells of a grid of `side` pixels, in raster order, as far as it may
        reach. Windows, and the pixels `[H, W]` in them, go so many pixels beyond their cells."""
        extents = [tile.extent(self.threshold) for tile in self.tiles]
        extents = [extent for extent in extents if extent.height and extent.width]
        if not extents:
            return
        lefts, tops, rights, bottoms = zip(*map(astuple, extents), strict=True)
        reach = Window(min(lefts), min(tops), max(rights), max(bottoms))
        cells = {
            (row, column)
            for extent in extents
            for row in range(extent.top // side, (extent.bottom - 1) // side + 1)
            for column in range(extent.left // side, (extent.right - 1) // side + 1)
        }
        windows = (
            Window(column * side, row * side, (column + 1) * side, (row + 1) * side).meet(reach)
            for row, column in sorted(cells)
        )
        for window, levels in self._painted(window.grown(margin) for window in windows):
            yield window, levels > self.threshold * 255

    def _window(self, box: Box | None) -> Window:
        whole = Window(0, 0, self.size.width, self.size.height)
        return whole if box is None else window_of(box).meet(whole)

    def _painted(self, windows: Iterable[Window]) -> Iterator[tuple[Window, Levels]]:
        edges = self._edges()
        for block in windows:
            levels = np.zeros((block.height, block.width), dtype=np.float32)
            for place in _meeting(edges, block):
                self.tiles[place].paint(levels, block)
            yield block, levels

    def _pieces(self) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
        """The mask in pieces that do not overlap, each from one tile; all else is outside."""
        edges = self._edges()
        for place, tile in enumerate(self.tiles):
            for block in blocks(tile.extent(self.threshold)):
                levels = np.zeros((block.height, block.width), dtype=np.float32)
                tile.paint(levels, block)
                for finer in _meeting(edges[place + 1 :], block):
                    Tile(self.tiles[place + 1 + finer].view, None).paint(levels, block)
                yield block, levels > self.threshold * 255

    def _edges(self) -> NDArray[np.float64]:
        """Where the tiles lie, `[tiles, 4]`: left, top, right, bottom."""
        boxes = [tile.view.box for tile in self.tiles]
        edges = [(box.left, box.top, box.right, box.bottom) for box in boxes]
        return np.array(edges, dtype=np.float64).reshape(-1, 4)

    def _run_edges(self) -> Iterator[NDArray[np.int64]]:
        """Where, counting down the columns of the scene, the mask begins and ends."""
        box = self.box
        if box is None:
            return
        height, last = self.size.height, -1
        window = window_of(box)
        columns = max(_BLOCK // window.height, 1)
        for left in range(window.left, window.right, columns):
            strip = Box(left, box.top, min(left + columns, window.right), box.bottom)
            dense = np.pad(self.to_dense(strip).T.astype(np.int8), ((0, 0), (1, 1)))
            column, row = np.nonzero(np.diff(dense, axis=1))
            edges = (column + left) * height + row + window.top
            # Down to the scene's last row and on from the next column's first is one run.
            if len(edges):
                same = np.flatnonzero(edges[1:] == edges[:-1])
                edges = np.delete(edges, np.concatenate([same, same + 1]))
            if last >= 0 and len(edges) and edges[0] == last:
                edges = edges[1:]
            elif last >= 0:
                yield np.array([last])
            last = int(edges[-1]) if len(edges) else -1
            yield edges[:-1]
        if last >= 0:
            yield np.array([last])


def _meeting(edges: NDArray[np.float64], block: Window) -> list[int]:
    """The rows of `edges` that share ground with a block, in order."""
    meets = (edges[:, :2] < (block.right, block.bottom)) & (edges[:, 2:] > (block.left, block.top))
    places: list[int] = np.flatnonzero(meets.all(1)).tolist()
    return places


def _inside(block: Window, window: Window) -> tuple[slice, slice]:
    return (
        slice(block.top - window.top, block.bottom - window.top),
        slice(block.left - window.left, block.right - window.left),
    )


def _resample(levels: NDArray[np.uint8], view: View, window: Window) -> Levels:
    """A look's levels at the centres of the scene pixels of a window, linearly in between.

    OpenCV's warps would place the samples in 32nds of a look pixel: too coarse where one look pixel
    stands for hundreds of the scene's.
    """
    box, size = view.box, view.size
    if (size.height, size.width) == (box.height, box.width):
        top, left = window.top - int(box.top), window.left - int(box.left)
        return levels[top : top + window.height, left : left + window.width].astype(np.float32)
    upper, lower, down = _between(window.top, window.bottom, box.top, box.height, size.height)
    first, second, across = _between(window.left, window.right, box.left, box.width, size.width)
    start, stop = int(upper[0]), int(lower[-1]) + 1
    rows = levels[start:stop].astype(np.float32)
    wide = rows[:, first]
    wide += (rows[:, second] - wide) * across
    painted = wide[upper - start]
    painted += (wide[lower - start] - painted) * down[:, None]
    return painted


def _between(
    start: int, stop: int, origin: float, length: float, pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Levels]:
    """For each scene pixel the two look pixels around it, and the weight of the second."""
    centres = (np.arange(start, stop) + 0.5 - origin) * (pixels / length) - 0.5
    centres = centres.clip(0, pixels - 1)
    before = np.floor(centres).astype(np.intp)
    after = np.minimum(before + 1, pixels - 1)
    return before, after, (centres - before).astype(np.float32)
