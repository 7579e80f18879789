"""A scene in an image file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import SceneError
from ..values import Pixels, SceneInfo, Size, View
from .array import ArrayScene

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_EXPECTED = "expected PNG, JPEG, WebP or TIFF"


class ImageScene:
    """A PNG, JPEG, WebP or TIFF file (judged by its first bytes) as a scene of three bands.

    Opening reads the header; the first view decodes the file, once. Palettes and CMYK become RGB,
    alpha and 16 bits are taken as `ArrayScene` takes them. Of several pages the first is the scene.
    An EXIF orientation is not applied: labels and answers count the pixels as they are stored.

    Raises:
        SceneError: there is no such file, or it cannot be read, or it has more pixels than Pillow
            takes for an attack (`PIL.Image.MAX_IMAGE_PIXELS`, twice).
    """

    def __init__(self, path: str | os.PathLike[str], resolution: float | None = None) -> None:
        self._path = Path(path)
        self._array: ArrayScene | None = None
        self._resolution = resolution
        with _opened(self._path) as image:
            size = Size(image.height, image.width)
        self.info = SceneInfo(size, bands=3, resolution=resolution, name=self._path.name)

    def read(self, view: View, side: int) -> Pixels:
        """The view on a canvas of `side` x `side` pixels, anchored at the top left.

        Raises:
            SceneError: the file is damaged.
        """
        if self._array is None:
            self._array = ArrayScene(_decoded(self._path), self._resolution, self._path.name)
        return self._array.read(view, side)

    def __getstate__(self) -> dict[str, Any]:
        # Another process decodes for itself: pixels are slower to send than to decode.
        return self.__dict__ | {"_array": None}


def _opened(path: Path) -> Image.Image:
    if path.is_dir():
        raise SceneError(f"{path}: a folder is no scene; {_EXPECTED}")
    try:
        with path.open("rb") as file:
            start = file.read(16)
        with warnings.catch_warnings():
            # Between one and two times its limit Pillow only warns; the scene is then used.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise SceneError(f"{path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise SceneError(
            f"{path}: too many pixels to decode at once ({error}); cut it into smaller files"
        ) from error
    except UnidentifiedImageError as error:
        raise SceneError(f"{path}: {_unknown(start)}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise SceneError(f"{path}: cannot be opened: {error}") from error


def _unknown(start: bytes) -> str:
    """Why a file that begins like this was not identified."""
    if not start:
        return "the file is empty"
    known = start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")) or (
        start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    )
    if known:
        return "the image is damaged, or stores its pixels in a way that is not supported"
    return f"not an image of a known format; {_EXPECTED}"


def _decoded(path: Path) -> NDArray[Any]:
    """The pixels as an array that `ArrayScene` takes."""
    try:
        with _opened(path) as image:
            image.load()
            # Pillow reads 16-bit colour as 8; only the header tells. OpenCV reads all of it, but
            # would take a truncated file for a whole one.
            if image.format == "PNG" and _depth(path) == 16 and image.mode in ("RGB", "RGBA"):
                return _deep(path)
            return _pixels(image)
    except SceneError:
        raise
    # Decoders raise nearly anything over a damaged file, struct.error and IndexError included.
    except Exception as error:
        raise SceneError(f"{path}: the image is damaged or truncated: {error}") from error


def _pixels(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        # Byte order follows the file; ArrayScene wants the machine's.
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return _stretchable(np.asarray(image))
    transparent = image.mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info
    if image.mode not in ("L", "RGB", "RGBA") or transparent:
        image = image.convert("RGBA" if transparent else "L" if image.mode == "1" else "RGB")
    return np.asarray(image)


def _stretchable(values: NDArray[Any]) -> NDArray[Any]:
    """32-bit values as 16-bit ones, which are then stretched; whole ones that fit stay."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint16)
    low, high = float(values[finite].min()), float(values[finite].max())
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= 65535:
        return values.astype(np.uint16)
    scaled = (np.where(finite, values, low) - low) / max(high - low, 1e-12) * 65535
    return scaled.round().astype(np.uint16)


def _depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _deep(path: Path) -> NDArray[Any]:
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    colours = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if colours is None:
        raise SceneError(f"{path}: the image is damaged or truncated")
    swapped = cv2.COLOR_BGRA2RGBA if colours.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(colours, swapped))
