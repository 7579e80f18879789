"""Many GeoTIFFs on one grid as one scene."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import SceneError
from ..values import Box, Pixels, SceneInfo, Size, View
from . import tiff
from .array import nearest_window
from .georeference import Georeference
from .header import Header
from .raster import pixels_of, placed
from .raster_file import RasterFile, check_cost
from .sampling import measured_stretch
from .shrinking import AreaMeans

_MOST_OPEN = 16
_MOST_NAMED = 10
_OFF_GRID = 0.05


class MosaicScene:
    """A folder of GeoTIFFs, or a text file that lists some, one a line, as one scene.

    The tiles share a coordinate reference system, a pixel size and a grid; the scene is the box
    around them, and not valid where no tile has a valid pixel. Where tiles overlap, the later one
    wins (a folder goes by name). A view reads the tiles it meets, and few stay open. Bands, stretch
    and resolution are as in `RasterScene`, the stretch from a sample of all tiles together.

    Raises:
        SceneError: there is no tile, or some do not fit; names all of those.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        bands: tuple[int, ...] | None = None,
        resolution: float | None = None,
        stretch: tuple[float, float] | None = None,
    ) -> None:
        self._path = tiff.local(source)
        self._tiles = _tiles(self._path, bands)
        grid = _grid(self._tiles[0].header)
        boxes = np.array([_box(grid, tile.header) for tile in self._tiles])
        left, top = boxes[:, :2].min(0).tolist()
        right, bottom = boxes[:, 2:].max(0).tolist()
        self._boxes = boxes - [left, top, left, top]
        a, b, _, d, e, _ = grid.transform
        x, y = grid.to_map(np.array([[left, top]]))[0].tolist()
        size = Size(int(bottom - top), int(right - left))
        united = Georeference(grid.crs, (a, b, x, d, e, y))
        self.georeference, measured, self.note = placed(united, size, "")
        if resolution is None:
            resolution = measured
        self.info = SceneInfo(size, 3, resolution, self._path.name)
        self.bands = self._tiles[0].header.bands
        self._stretch = stretch
        self._open: list[RasterFile] = []

    @property
    def stretch(self) -> tuple[float, float]:
        """Which values of the tiles become 0 and 1; found when first asked for."""
        if self._stretch is None:
            self._stretch = measured_stretch(self._tiles)
        return self._stretch

    @property
    def bytes_read(self) -> int:
        return sum(tile.bytes_read for tile in self._tiles)

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left.

        As `RasterScene.read`; a view pixel that tiles share is filled by the later ones first.

        Raises:
            SceneError: a tile is damaged, or so large that it needs overviews for this.
        """
        rows, columns = nearest_window(view)
        box = Box(columns.start, rows.start, columns.stop, rows.stop)
        met = (self._boxes[:, :2] < (box.right, box.bottom)).all(1)
        met &= (self._boxes[:, 2:] > (box.left, box.top)).all(1)
        tiles = [self._part(index, box, view.size) for index in np.flatnonzero(met)[::-1]]
        check_cost(self._path, sum(tile.cost(*part) for tile, part, _ in tiles))
        whole = AreaMeans(box, view.size)
        for tile, part, corner in tiles:
            self._keep_open(tile)
            whole.lay_under(tile.means(*part, self.stretch), *corner)
        return pixels_of(whole, side)

    def close(self) -> None:
        """Lets go of the files; the next view opens them again."""
        for tile in self._open:
            tile.close()
        self._open = []

    def _part(
        self, index: int, box: Box, size: Size
    ) -> tuple[RasterFile, tuple[Box, Size], tuple[int, int]]:
        """A tile, the part of the view that it meets, in its own pixels, and the first cell."""
        left, top, right, bottom = self._boxes[index].tolist()
        down, across = box.height / size.height, box.width / size.width
        first = max(math.floor((top - box.top) / down), 0)
        last = min(math.ceil((bottom - box.top) / down), size.height)
        start = max(math.floor((left - box.left) / across), 0)
        stop = min(math.ceil((right - box.left) / across), size.width)
        part = Box(
            left=box.left + start * across - left,
            top=box.top + first * down - top,
            right=box.left + stop * across - left,
            bottom=box.top + last * down - top,
        )
        return self._tiles[index], (part, Size(last - first, stop - start)), (first, start)

    def _keep_open(self, tile: RasterFile) -> None:
        self._open = [other for other in self._open if other is not tile] + [tile]
        while len(self._open) > _MOST_OPEN:
            self._open.pop(0).close()


def _tiles(source: Path, bands: tuple[int, ...] | None) -> list[RasterFile]:
    """The tiles of a folder or list, all of one kind and on one grid."""
    tiles: list[RasterFile] = []
    problems: list[str] = []
    paths = _paths(source)
    for path in paths:
        try:
            tile = RasterFile(tiff.checked(path), bands)
        except SceneError as error:
            problems.append(str(error))
            continue
        reason = _misfit(tile.header, tiles[0].header if tiles else tile.header)
        if reason:
            problems.append(f"{path.name}: {reason}")
        else:
            tiles.append(tile)
    if problems:
        more = len(problems) - _MOST_NAMED
        named = problems[:_MOST_NAMED] + [f"and {more} more"] * (more > 0)
        raise SceneError(
            f"{source}: {len(problems)} of {len(paths)} tiles do not fit together: "
            f"{'; '.join(named)}; warp them to one grid, as with `rio warp --like`, or open "
            "files that are no tiles one by one"
        )
    return tiles


def _paths(source: Path) -> list[Path]:
    try:
        if source.is_dir():
            found = [path for path in source.iterdir() if path.suffix.lower() in (".tif", ".tiff")]
            listed = sorted(path for path in found if path.is_file())
        else:
            lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
            listed = [source.parent / line for line in lines if line and line[0] != "#"]
    except (OSError, ValueError) as error:
        raise SceneError(f"{source}: cannot be read: {error}") from error
    if not listed:
        kind = "folder" if source.is_dir() else "list"
        raise SceneError(
            f"{source}: a {kind} without GeoTIFFs (.tif, .tiff) is no scene; give an image file"
        )
    return listed


def _misfit(known: Header, first: Header) -> str:
    """Why a tile does not go with the first one, nothing where it does."""
    if known.georeference is None:
        return f"{known.note}; where it belongs is not known"
    grid = _grid(first)
    if not _same_crs(known.georeference.crs, grid.crs):
        return "another coordinate reference system"
    extent = max(known.size.height, known.size.width)
    steps = np.array(known.georeference.transform)[[0, 1, 3, 4]]
    expected = np.array(grid.transform)[[0, 1, 3, 4]]
    if np.abs(steps - expected).max() * extent > _OFF_GRID * np.abs(expected).max():
        return f"pixels of {_plain(steps)}, not {_plain(expected)}"
    corner = grid.to_pixels(known.georeference.to_map(np.zeros((1, 2))))[0]
    off = float(np.abs(corner - corner.round()).max())
    if off > _OFF_GRID:
        return f"{off:.2f} pixels off the grid of the first"
    if (known.dtype, len(known.bands)) != (first.dtype, len(first.bands)):
        return f"{len(known.bands)} bands of {known.dtype}, not {len(first.bands)} of {first.dtype}"
    return ""


def _plain(steps: Iterable[float]) -> str:
    return " ".join(f"{step:.9g}" for step in steps)


def _same_crs(one: str, other: str) -> bool:
    if one == other:
        return True
    from pyproj import CRS

    return bool(CRS.from_wkt(one) == CRS.from_wkt(other))


def _grid(known: Header) -> Georeference:
    assert known.georeference is not None
    return known.georeference


def _box(grid: Georeference, known: Header) -> tuple[float, float, float, float]:
    """Where a tile lies, in pixels of the grid: left, top, right, bottom."""
    left, top = grid.to_pixels(_grid(known).to_map(np.zeros((1, 2))))[0].round().tolist()
    return left, top, left + known.size.width, top + known.size.height
