"""A scene in a GeoTIFF of any size."""

from __future__ import annotations

import math
import os

import numpy as np

from ..errors import SceneError
from ..values import Box, Pixels, SceneInfo, Size, View
from . import tiff
from .array import averaged, nearest_window, on_canvas
from .georeference import Georeference
from .raster_file import RasterFile, fineness
from .sampling import measured_stretch
from .shrinking import AreaMeans
from .stretching import stretched

_AT_ONCE = 1 << 21


class RasterScene:
    """A TIFF, GeoTIFF, Cloud-Optimized or BigTIFF file as a scene of three bands.

    Opening reads headers. A view is read from the coarsest overview that is fine enough, in pieces,
    so that memory does not follow the file. Shown are red, green and blue where the file names
    them, else its first three bands, else the first as grey; `bands` (one or three, counted from 1)
    chooses others. A palette becomes its colours. Not valid is what alpha makes fully transparent,
    what a mask leaves out, what is nodata in all bands shown, and what is not finite.

    uint8 counts to 255. Of other types the 2nd to 98th percentile, over the valid pixels of all
    bands together, is stretched to [0, 1]; `stretch` (low, high) sets it. It is taken from all
    pixels of a small file, else from windows on a grid at native resolution: the same file always
    has the same, with and without overviews.

    `resolution` in metres a pixel is measured where the file says where it lies. `georeference` is
    None where it does not, and `note` then says so. `bytes_read` counts the bytes of decoded pixels
    that were asked for.

    Raises:
        SceneError: not a TIFF file on this machine, or damaged, or not to be shown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        bands: tuple[int, ...] | None = None,
        resolution: float | None = None,
        stretch: tuple[float, float] | None = None,
    ) -> None:
        if stretch is not None and not stretch[0] < stretch[1]:
            raise SceneError(f"{path}: stretch {stretch} is empty; expected (low, high)")
        self._path = tiff.checked(path)
        self._file = RasterFile(self._path, bands)
        known = self._file.header
        self.bands = known.bands
        self._stretch = stretch
        self.georeference, measured, self.note = placed(known.georeference, known.size, known.note)
        if resolution is None:
            resolution = measured
        self.info = SceneInfo(known.size, 3, resolution, self._path.name)

    @property
    def stretch(self) -> tuple[float, float]:
        """Which values of the file become 0 and 1; found when first asked for."""
        if self._stretch is None:
            self._stretch = measured_stretch([self._file])
        return self._stretch

    @property
    def scales(self) -> tuple[float, ...]:
        """Scene pixels per pixel of every level the file has, finest first."""
        known = self._file.header
        return tuple(known.size.width / level.size.width for level in known.levels)

    @property
    def bytes_read(self) -> int:
        return self._file.bytes_read

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left.

        Every view pixel is the mean of the valid pixels it covers; it is valid where any of
        them is. A window with a fractional border is read to the nearest whole pixel.

        Raises:
            SceneError: the file is damaged, or so large that it needs overviews for this.
        """
        rows, columns = nearest_window(view)
        box = Box(columns.start, rows.start, columns.stop, rows.stop)
        level = self._file.level(fineness(box, view.size))
        if level is not self._file.native or box.width * box.height > _AT_ONCE:
            return pixels_of(self._file.means(box, view.size, self.stretch), side)
        raw, valid = self._file.read(level, rows, columns)
        values = np.ascontiguousarray(stretched(raw, self.stretch).transpose(1, 2, 0))
        seen, share = averaged(values, valid, (view.size.width, view.size.height))
        return on_canvas(seen.reshape(*seen.shape[:2], -1), share, side)

    def close(self) -> None:
        """Lets go of the file; the next view opens it again."""
        self._file.close()


def pixels_of(means: AreaMeans, side: int) -> Pixels:
    """Means as a view on a canvas of `side` x `side` pixels."""
    values = means.sums / np.maximum(means.share, 1e-9)
    return on_canvas(values.transpose(1, 2, 0).clip(0, 1), means.share, side)


def placed(
    georeference: Georeference | None, size: Size, note: str
) -> tuple[Georeference | None, float | None, str]:
    """A scene's georeference, metres a pixel and note, once it is known to be on earth."""
    if georeference is None:
        return None, None, note
    try:
        resolution = georeference.resolution(size.height, size.width)
    # pyproj's errors are RuntimeErrors; what a damaged file says may not even be text.
    except (ArithmeticError, RuntimeError, ValueError) as error:
        return None, None, f"not a place on earth ({error}): answers stay in pixels"
    if not (math.isfinite(resolution) and resolution > 0):
        return None, None, "its middle is not a place on earth: answers stay in pixels"
    return georeference, resolution, note
