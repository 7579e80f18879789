"""Scenes: images that are read view by view."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from ..contracts import Scene
from . import tiff


def open_scene(
    source: str | os.PathLike[str] | NDArray[Any] | Scene,
    resolution: float | None = None,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] | None = None,
) -> Scene:
    """A scene from a file, a folder or list (.txt) of GeoTIFFs, an array, or what is one already.

    `resolution` in metres per pixel, where the file does not know; `bands` and `stretch` as in
    `RasterScene`, for TIFF files only. What a file is, its first bytes tell, not its name.

    Raises:
        SceneError: it is none of these, or it cannot be read.
    """
    if isinstance(source, Scene):
        return source
    if not isinstance(source, str | os.PathLike):
        from .array import ArrayScene

        return ArrayScene(source, resolution)
    path = tiff.local(source)
    kind = "folder" if path.is_dir() else tiff.kind(path)
    if kind == "folder" or (kind is None and path.suffix.lower() == ".txt"):
        from .mosaic import MosaicScene

        return MosaicScene(path, bands, resolution, stretch)
    # Without rasterio Pillow shows plain TIFF files of moderate size.
    if kind == "VRT" or (kind == "TIFF" and find_spec("rasterio")):
        from .raster import RasterScene

        return RasterScene(path, bands, resolution, stretch)
    from .image import ImageScene

    return ImageScene(source, resolution)
