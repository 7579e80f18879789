"""Masks and maps of classes as cloud-optimised GeoTIFFs, written block by block.

Memory follows the file, compressed, and not the scene.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..masks import SceneMask
from ..outline import Window
from ..scenes.georeference import Georeference
from ..values import Size
from .colours import class_colours
from .extras import needed
from .layers import Colour

NODATA = 255
"""Stands in the header for those who warp or mosaic the file; no pixel of it has the value, for a
mask does not know where its scene has no data, and what nobody looked at is outside."""
MOST_CLASSES = NODATA - 1
NONE = "none"
"""What class 0 is called."""
BLOCK = 512
_CELL = 4 * BLOCK
_CACHE_MB = 64
_FORM = "a .tif file"

Levels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """The masks of one prompt, which are shown together."""

    prompt: str
    masks: Sequence[SceneMask]


def write_masks(
    path: Path, georeference: Georeference | None, size: Size, bands: Sequence[Band]
) -> None:
    """A band for each prompt, described by it: 1 inside, 0 outside.

    One band comes with colours; the format has none for several.

    Raises:
        OutputError: the file cannot be written, or rasterio is not installed.
    """
    with _written(path, georeference, size, len(bands)) as file:
        for number, band in enumerate(bands, 1):
            file.set_band_description(number, band.prompt)
            for place, mask in enumerate(band.masks):
                for window, piece in mask.pieces(_CELL):
                    where = _slices(window)
                    if place:
                        piece = piece | (file.read(number, window=where) > 0)
                    file.write(piece.astype(np.uint8), number, window=where)
        if len(bands) == 1:
            _colour(file, class_colours(1))


def write_class_map(
    path: Path,
    georeference: Georeference | None,
    size: Size,
    classes: Sequence[str],
    blocks: Iterable[tuple[Window, Levels]],
) -> None:
    """One band of class numbers, the first class is 1 and 0 is none of them.

    The names stand in the tags of the band, `CLASS_1` and so on. What no block covers is 0.

    Raises:
        OutputError: there are more than 254 classes, the file cannot be written, or rasterio is not
            installed.
    """
    if len(classes) > MOST_CLASSES:
        raise OutputError(
            f"{len(classes)} classes do not fit a .tif of 8 bits; give at most {MOST_CLASSES}"
        )
    with _written(path, georeference, size, 1) as file:
        for window, numbers in blocks:
            file.write(numbers, 1, window=_slices(window))
        file.set_band_description(1, "class")
        file.update_tags(1, **{f"CLASS_{number}": name for number, name in _numbered(classes)})
        _colour(file, class_colours(len(classes)))


def category_names(classes: Sequence[str]) -> str:
    """What stands in the file `NAME.tif.aux.xml` beside a map of classes, where GDAL, and so QGIS,
    looks for the names of its values: TIFF has no place for them."""
    names = "".join(f"      <Category>{escape(name)}</Category>\n" for name in (NONE, *classes))
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{names}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )


@contextmanager
def _written(
    path: Path, georeference: Georeference | None, size: Size, bands: int
) -> Iterator[Any]:
    """A file of zeros to write into, which becomes a cloud-optimised one at `path`."""
    rasterio, shutil = needed("rasterio", _FORM), needed("rasterio.shutil", _FORM)
    profile = {
        "driver": "GTiff",
        "height": size.height,
        "width": size.width,
        "count": bands,
        "dtype": "uint8",
        **_place(georeference),
        **dict(tiled=True, blockxsize=BLOCK, blockysize=BLOCK, interleave="band"),
        **dict(compress="deflate", zlevel=1, bigtiff="if_safer"),
    }
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE_MB),
        _quiet(rasterio),
        # In memory, because GDAL keeps quiet about a disk that is full when it closes a file.
        rasterio.MemoryFile(ext=".tif") as draft,
        rasterio.MemoryFile(ext=".tif") as finished,
    ):
        try:
            with rasterio.open(draft.name, "w+", **profile) as file:
                yield file
            # Only now: blocks that nobody wrote would otherwise be filled with it.
            with rasterio.open(draft.name, "r+") as file:
                file.nodata = NODATA
            # Nearest: in the overviews too, small things are there to be seen, if not all of them.
            form = dict(compress="deflate", blocksize=BLOCK, overview_resampling="nearest")
            shutil.copy(draft.name, finished.name, driver="COG", bigtiff="if_safer", **form)
        except rasterio.errors.RasterioError as error:
            raise OutputError(f"the .tif file cannot be written: {error}") from error
        with path.open("wb") as target:
            copyfileobj(finished, target)


@contextmanager
def _quiet(rasterio: Any) -> Iterator[None]:
    """Without a warning that a scene has no place on the ground: it is said by the file itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def _place(georeference: Georeference | None) -> Mapping[str, Any]:
    if georeference is None:
        return {}
    affine = needed("rasterio", _FORM).Affine
    return {"crs": georeference.crs, "transform": affine(*georeference.transform)}


def _colour(file: Any, colours: Sequence[Colour]) -> None:
    """Colours for 1 and up; all else is black, and clear where a reader knows how."""
    clear = {0: (0, 0, 0, 0), NODATA: (0, 0, 0, 0)}
    file.write_colormap(1, clear | {n: (*colour, 255) for n, colour in _numbered(colours)})


def _numbered(things: Sequence[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(things, 1)


def _slices(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.top, window.bottom), (window.left, window.right)
