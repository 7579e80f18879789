"""What values a raster has, from a sample of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..values import Size
from .raster_file import RasterFile
from .stretching import between_percentiles

_SAMPLED = 1 << 20
_FILES = 64
_ENOUGH = 4096
# Windows a side, and the side of each; the second, too, where the first sees little that is valid.
_GRIDS = ((16, 64), (64, 16))


def measured_stretch(files: Sequence[RasterFile]) -> tuple[float, float]:
    """Which values of files of one kind become 0 and 1: all of uint8, percentiles of the rest.

    Of all pixels of one small file, else of windows on a grid: always the same ones.

    Raises:
        SceneError: a file is damaged there.
    """
    known = files[0].header
    if known.palette is not None or known.dtype == np.uint8:
        return 0.0, float(known.full_scale)
    chosen = files[:: max(1, len(files) // _FILES)]
    return between_percentiles(
        np.concatenate([_sample(file, _SAMPLED // len(chosen)) for file in chosen])
    )


def _sample(file: RasterFile, count: int) -> NDArray[Any]:
    """The valid values, of all bands, of up to about `count` pixels."""
    size, level = file.header.size, file.native
    found: list[NDArray[Any]] = []
    for cells, side in _GRIDS:
        for rows, columns in _windows(size, count, cells, side):
            raw, valid = file.read(level, rows, columns)
            found.append((raw if valid is None else raw[:, valid]).ravel())
        if size.area <= count or sum(map(len, found)) >= _ENOUGH:
            break
    file.close()
    return np.concatenate(found)


def _windows(size: Size, count: int, cells: int, side: int) -> list[tuple[slice, slice]]:
    """The whole scene if it has no more than `count` pixels, else windows on a grid."""
    if size.area <= count:
        return [(slice(0, size.height), slice(0, size.width))]
    cells = max(1, min(cells, math.isqrt(count) // side))

    def spread(length: int) -> list[slice]:
        # Starts are multiples of the side, so that a window lies in one tile.
        starts = {int(length * (cell + 0.5) / cells) // side * side for cell in range(cells)}
        return [slice(start, min(start + side, length)) for start in sorted(starts)]

    return [(rows, columns) for rows in spread(size.height) for columns in spread(size.width)]
