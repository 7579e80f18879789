"""A mask in scene coordinates, kept as the looks it was drawn in: sparse, 8 bits a look pixel.

Nothing here needs the scene as a whole: a region is painted from the tiles that meet it, and area,
box, run lengths and outlines visit only the places where the mask is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import geometry, outline
from .errors import OutputError
from .outline import Piece, Polygon, Window
from .tile import Cell, Levels, Tile, inside, paint, window_of
from .values import Box, Size

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


@dataclass(frozen=True, slots=True, eq=False)
class SceneMask:
    """One mask over a scene of any size; the finest look wins wherever several saw it.

    `tiles` are ordered coarse to fine, those of one rung blend where they overlap, and what no tile
    covers is outside. A pixel belongs to the
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
        return not any(piece.any() for _, piece in self.pieces(_CELL))

    @property
    def area(self) -> int:
        """Scene pixels in the mask."""
        return sum(int(np.count_nonzero(piece)) for _, piece in self.pieces(_CELL))

    @property
    def box(self) -> Box | None:
        """The tightest box around the mask, or None where it is empty."""
        edges: list[tuple[int, int, int, int]] = []
        for window, piece in self.pieces(_CELL):
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
            dense[inside(block, window)] = levels > self.threshold * 255
        return dense

    def probability(self, box: Box | None = None) -> NDArray[np.float32]:
        """The probability `[H, W]` in [0, 1], of the scene or of a box of it."""
        window = self._window(box)
        dense = np.zeros((window.height, window.width), dtype=np.float32)
        for block, levels in self._painted(blocks(window)):
            dense[inside(block, window)] = levels / 255
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
        reached = self.reach(side)
        windows = (reached[cell].grown(margin) for cell in sorted(reached))
        for window, levels in self._painted(windows):
            yield window, levels > self.threshold * 255

    def reach(self, side: int) -> dict[Cell, Window]:
        """The scene pixels that may lie in the mask, by the cells of a grid of `side` pixels."""
        reached: dict[Cell, Window] = {}
        for tile in self.tiles:
            for cell, window in tile.reach(self.threshold, side):
                reached[cell] = window.join(reached.get(cell, window))
        return reached

    def _window(self, box: Box | None) -> Window:
        whole = Window(0, 0, self.size.width, self.size.height)
        return whole if box is None else window_of(box).meet(whole)

    def _painted(self, windows: Iterable[Window]) -> Iterator[tuple[Window, Levels]]:
        boxes = [tile.view.box for tile in self.tiles]
        corners = [(box.left, box.top, box.right, box.bottom) for box in boxes]
        edges = np.array(corners, dtype=np.float64).reshape(-1, 4)
        rungs = [geometry.rung(tile.view) for tile in self.tiles]
        for block in windows:
            levels = np.zeros((block.height, block.width), dtype=np.float32)
            # Tiles come coarse to fine.
            for _, places in itertools.groupby(_meeting(edges, block), lambda place: rungs[place]):
                paint([self.tiles[place] for place in places], levels, block)
            yield block, levels

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
