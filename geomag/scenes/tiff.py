"""TIFF files, opened so that nothing but the file, its own overviews and its own mask is read.

GDAL would follow a raster that is a list of other rasters, look for a dozen files beside it, and
ask the network where one of them says so. Here the format is fixed before GDAL sees the file, and
`NAME.ovr` and `NAME.msk` are opened by us, under the same rule.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import SceneError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KNOWN = {
    b"<VRT": "a GDAL virtual raster (VRT), which names other files",
    b"<": "XML",
    b"{": "JSON",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK": "a ZIP archive",
    b"%PDF": "a PDF document",
}
_FOREIGN = re.compile(r"[A-Za-z][\w+.-]+:/|/+vsi")
_CONFINED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "PROJ_NETWORK": "OFF",
    # The default is a share of the machine's memory, which a file of any size then fills.
    "GDAL_CACHEMAX": 64 << 20,
}


def is_tiff(path: Path) -> bool:
    """Whether a file begins like a TIFF or BigTIFF."""
    return _start(path).startswith(_MAGIC)


def kind(path: Path) -> str | None:
    """What a file begins like: TIFF, VRT, an image, or None of these."""
    start = _start(path)
    # Pillow also takes some that no other reader does; it is not to be asked about those.
    if start[:2] in (b"II", b"MM") and set(start[2:4]) & set(b"*+"):
        return "TIFF"
    if start.lstrip().startswith(b"<VRT"):
        return "VRT"
    images = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
    return "image" if start.startswith(images) else None


def local(source: str | os.PathLike[str]) -> Path:
    """The absolute path of a file or folder on this machine.

    Raises:
        SceneError: it is an address, or a file inside another one.
    """
    # Not resolved: overviews lie beside a symlink.
    path = Path(os.path.abspath(source))
    if _FOREIGN.match(os.fspath(source)) or _FOREIGN.match(os.fspath(path)):
        raise SceneError(
            f"{source}: only files on this machine are opened; download or unpack it first"
        )
    return path


def checked(source: str | os.PathLike[str]) -> Path:
    """The absolute path of a TIFF file.

    Raises:
        SceneError: it is not one, or not on this machine.
    """
    path = local(source)
    if path.is_dir():
        raise SceneError(f"{path}: a folder is no raster; expected a TIFF file")
    start = _start(path)
    if start.startswith(_MAGIC):
        return path
    if not start:
        raise SceneError(f"{path}: the file is empty")
    kind = next((kind for known, kind in _KNOWN.items() if start.lstrip().startswith(known)), None)
    found = f"it looks like {kind}; that is not read here" if kind else "it does not begin like one"
    raise SceneError(f"{path}: not a TIFF file: {found}; give the TIFF files themselves")


@contextmanager
def confined(path: Path) -> Iterator[None]:
    """GDAL kept to the files it is given; whatever it raises over `path` becomes a SceneError."""
    try:
        import rasterio  # type: ignore[import-untyped]
    except ImportError as error:
        raise SceneError(
            f"{path}: rasters are read with rasterio, which is missing; install geomag-vlm[geo]"
        ) from error
    try:
        with rasterio.Env(**_CONFINED), warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            yield
    except SceneError:
        raise
    # Over a damaged file rasterio raises its own errors, GDAL's, and those of decoding text.
    except Exception as error:
        cause = error.__cause__ or error
        raise SceneError(f"{path}: the raster is damaged or truncated: {cause}") from error


def opened(path: Path, index: int | None = None) -> Any:
    """A rasterio dataset of a file, or of its overview number `index`; inside `confined`."""
    import rasterio

    more = {} if index is None else {"overview_level": index}
    return rasterio.open(os.fspath(path), driver="GTiff", sharing=False, **more)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except FileNotFoundError as error:
        raise SceneError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise SceneError(f"{path}: cannot be opened: {error}") from error
