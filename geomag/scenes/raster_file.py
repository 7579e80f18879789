"""The pixels of a TIFF file as they are stored, level by level and piece by piece."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SceneError
from ..values import Box, Size
from . import header, tiff
from .header import Level
from .shrinking import AreaMeans
from .stretching import stretched

MOST_DECODED = 16 << 30
"""Bytes of pixels that one view may cost; a raster that asks for more needs overviews."""
_PIECE = 1 << 20
_SIDE = 1024


@dataclass(frozen=True)
class Piece:
    """A window to read at once. Nothing is stored of one that is `absent`: it is one value."""

    rows: slice
    columns: slice
    absent: bool

    @property
    def area(self) -> int:
        rows, columns = self.rows, self.columns
        return len(range(rows.start, rows.stop)) * len(range(columns.start, columns.stop))


class RasterFile:
    """Keeps a file's levels open, each from its first piece on, in this process only."""

    def __init__(self, path: Path, bands: tuple[int, ...] | None) -> None:
        self.path = path
        self.header = header.read(path, bands)
        self.bytes_read = 0
        self._open: dict[tuple[Path, int | None], Any] = {}
        self._process = os.getpid()

    @property
    def native(self) -> Level:
        return self.header.levels[0]

    def level(self, scale: float) -> Level:
        """The coarsest level to see `scale` scene pixels a pixel from.

        It is twice as fine, or its pixels are whole parts of those that are seen: else these would
        mix neighbours, more in some places of the scene than in others.
        """
        size = self.header.size
        for level in reversed(self.header.levels[1:]):
            ratio = max(size.width / level.size.width, size.height / level.size.height)
            even = not (size.width % level.size.width or size.height % level.size.height)
            if scale >= 1.99 * ratio or (even and scale >= ratio and scale % ratio < 1e-6):
                return level
        return self.native

    def means(self, box: Box, size: Size, stretch: tuple[float, float]) -> AreaMeans:
        """The means, stretched, under each of `size` cells of `box`, which may reach outside.

        Raises:
            SceneError: the file is damaged, or so large that it needs overviews for this.
        """
        level = self.level(fineness(box, size))
        down = level.size.height / self.header.size.height
        across = level.size.width / self.header.size.width
        scaled = Box(box.left * across, box.top * down, box.right * across, box.bottom * down)
        means = AreaMeans(scaled, size)
        with tiff.confined(self.path):
            for piece in self._pieces(level, scaled):
                if not piece.absent:
                    raw, valid = self.read(level, piece.rows, piece.columns)
                    values = stretched(raw, stretch)
                    means.add(piece.rows.start, piece.columns.start, values, valid)
                # What a sparse file leaves out is transparent, or nodata, or 0.
                elif self.header.alpha is None and None in self.header.nodata:
                    nothing = np.zeros((1, 1, 1), self.header.dtype)
                    means.add_flat(piece.rows, piece.columns, stretched(nothing, stretch))
        return means

    def cost(self, box: Box, size: Size) -> int:
        """Bytes of pixels to decode for `means`, at most."""
        level = self.level(fineness(box, size))
        height = min(box.bottom, self.header.size.height) - max(box.top, 0)
        width = min(box.right, self.header.size.width) - max(box.left, 0)
        inside = max(height, 0) * max(width, 0)
        return self.bytes_of(inside * level.size.area / self.header.size.area)

    def bytes_of(self, area: float) -> int:
        """How many bytes so many pixels are, alpha included."""
        bands = len(self.header.bands) + (self.header.alpha is not None)
        return math.ceil(area * bands * int(self.header.dtype.itemsize))

    def _pieces(self, level: Level, box: Box) -> list[Piece]:
        """Windows that cover `box`, in pixels of the level and cut to it, along its blocks.

        Raises:
            SceneError: together they have more pixels than a view may cost.
        """
        top, left = max(math.floor(box.top + 1e-6), 0), max(math.floor(box.left + 1e-6), 0)
        bottom = min(math.ceil(box.bottom - 1e-6), level.size.height)
        right = min(math.ceil(box.right - 1e-6), level.size.width)
        if top >= bottom or left >= right:
            return []
        down, across = _step(level, right - left)
        found = [
            self._piece(level, slice(max(row, top), min(row + down, bottom)), columns)
            for row in range(top - top % down, bottom, down)
            for columns in _cuts(left, right, across)
        ]
        asked = self.bytes_of(sum(piece.area for piece in found if not piece.absent))
        check_cost(self.path, asked)
        return found

    def read(
        self, level: Level, rows: slice, columns: slice
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Values `[1 or 3, h, w]` of a window, and which pixels are valid, None for all.

        Raises:
            SceneError: the file is damaged there.
        """
        known = self.header
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with tiff.confined(level.path):
            dataset = self._dataset(level.path, level.index)
            bands = known.bands if known.alpha is None else (*known.bands, known.alpha)
            values = dataset.read(bands, window=window)
            valid = _stored(values[: len(known.bands)], known.nodata)
            if known.alpha is not None:
                values, valid = values[:-1], _both(valid, values[-1] > 0)
            if known.masked:
                valid = _both(valid, dataset.read_masks(known.bands[0], window=window) > 0)
            if known.mask is not None:
                valid = _both(valid, self._mask(known.mask, level, rows, columns))
        self.bytes_read += self.bytes_of(values.shape[1] * values.shape[2])
        if known.palette is not None:
            colours = known.palette[np.clip(values[0], 0, len(known.palette) - 1)]
            values = colours[..., :3].transpose(2, 0, 1)
            valid = _both(valid, colours[..., 3] > 0)
        return values, None if valid is None or valid.all() else valid

    def close(self) -> None:
        """Lets go of the file; the next piece opens it again."""
        # Handles that came with a fork are the other process's to close.
        if self._process == os.getpid():
            for dataset in self._open.values():
                dataset.close()
        self._open, self._process = {}, os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def _dataset(self, path: Path, index: int | None = None) -> Any:
        # Two processes that share a handle move each other's place in the file.
        if self._process != os.getpid():
            self._open, self._process = {}, os.getpid()
        if (path, index) not in self._open:
            self._open[path, index] = tiff.opened(path, index)
        return self._open[path, index]

    def _mask(self, mask: Path, level: Level, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """An external mask, which has native pixels only, as the level sees it."""
        down = self.header.size.height / level.size.height
        across = self.header.size.width / level.size.width
        window = (
            (rows.start * down, rows.stop * down),
            (columns.start * across, columns.stop * across),
        )
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        seen: NDArray[np.bool_] = self._dataset(mask).read(1, window=window, out_shape=shape) > 0
        return seen

    def _piece(self, level: Level, rows: slice, columns: slice) -> Piece:
        """Blocks that a sparse file leaves out are found by their offsets, without decoding."""
        block = level.block
        tiled = block.width < level.size.width
        absent = tiled and level is self.native and not self.header.masked
        if absent:
            dataset = self._dataset(level.path)
            absent = not any(
                dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
                for row in range(rows.start // block.height, -(-rows.stop // block.height))
                for column in range(columns.start // block.width, -(-columns.stop // block.width))
                for band in self.header.bands
            )
        return Piece(rows, columns, absent)


def fineness(box: Box, size: Size) -> float:
    """Scene pixels per view pixel, along the finer axis."""
    return min(box.height / size.height, box.width / size.width)


def check_cost(path: Path, count: int) -> None:
    """Raises a SceneError over more bytes than one view may decode."""
    if count > MOST_DECODED:
        raise SceneError(
            f"{path}: seeing this much of it at once means decoding {count / 1e9:.0f} GB, since "
            "it has no overviews; build them with geomag.scenes.overviews.prepare or gdaladdo"
        )


def _step(level: Level, width: int) -> tuple[int, int]:
    """How high and wide a piece is: whole blocks where they are small enough."""
    block: Size = level.block
    if block.width >= level.size.width:
        rows = max(1, _PIECE // width)
        return rows - rows % block.height if rows > block.height else rows, level.size.width
    return (
        block.height * max(1, _SIDE // block.height) if block.height <= _SIDE else _SIDE,
        block.width * max(1, _SIDE // block.width) if block.width <= _SIDE else _SIDE,
    )


def _cuts(start: int, stop: int, step: int) -> list[slice]:
    first = start - start % step
    return [slice(max(at, start), min(at + step, stop)) for at in range(first, stop, step)]


def _both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if one is None else one & other


def _stored(values: NDArray[Any], nodata: tuple[float | None, ...]) -> NDArray[np.bool_] | None:
    """Where values are finite in all bands, and not nodata in all bands; None for everywhere."""
    valid: NDArray[np.bool_] | None = None
    real = np.issubdtype(values.dtype, np.floating)
    if real:
        valid = np.isfinite(values).all(0)
    if None not in nodata:
        empty = np.ones(values.shape[1:], np.bool_)
        for band, nothing in zip(values, nodata, strict=True):
            # Written in more digits than the type has, nodata would equal no value of it.
            empty &= band == (np.asarray(nothing, values.dtype) if real else nothing)
        valid = _both(valid, ~empty)
    return valid
