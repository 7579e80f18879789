"""Scenes: images that are read view by view."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from ..contracts import Scene


def open_scene(
    source: str | os.PathLike[str] | NDArray[Any], resolution: float | None = None
) -> Scene:
    """A scene from an image file or an array; `resolution` in metres per pixel, where known.

    Raises:
        SceneError: it is neither, or it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        from .image import ImageScene

        return ImageScene(source, resolution)
    from .array import ArrayScene

    return ArrayScene(source, resolution)
