"""Overviews: smaller copies beside a raster, so that a wide view does not decode all of it."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from ..errors import SceneError
from ..geometry import overview
from . import header, tiff
from .header import overviews_of
from .raster import RasterScene

SMALL = 8 * 256
"""A longer side of so many pixels is read fast enough as it is."""
_COARSEST = 256
_STEP = 1024


def prepare(
    source: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Builds overviews for a large raster that has none, once, and returns the path to open.

    They lie beside the raster, as `NAME.ovr`, or where its folder cannot be written in a cache:
    `cache`, else `geomag` in the user's own, where a link stands for the raster. The raster itself
    is never changed; overviews older than it, or of another raster, are built anew. With `progress`
    there is a bar on stderr, then a line on what was done and the time it saves.

    Raises:
        SceneError: the raster cannot be read, or there is no place to write overviews to.
    """
    path = tiff.checked(source)
    known = header.read(path, beside=False)
    if len(known.levels) > 1 or max(known.size.height, known.size.width) <= SMALL or _fits(path):
        return path
    try:
        with TemporaryDirectory(prefix=".overviews-", dir=path.parent):
            target = path
    except OSError:
        target = _link(path, _cache_folder(cache))
        if _fits(target):
            return target
    decoding = _build(path, overviews_of(target), progress)
    if progress:
        before, after = decoding, _seconds_to_see(target)
        tqdm.write(
            f"built overviews of {path.name} ({known.size.width} x {known.size.height} px) at "
            f"{overviews_of(target)}: a view of the whole took {before:.2f} s of decoding, now "
            f"{after:.3f} s in all",
            file=sys.stderr,
        )
    return target


def _fits(path: Path) -> bool:
    """Whether there are overviews beside a raster that are of it, and no older."""
    try:
        return overviews_of(path).exists() and len(header.read(path).levels) > 1
    except SceneError:
        return False


def _cache_folder(asked: str | os.PathLike[str] | None) -> Path:
    if asked is not None:
        return Path(asked).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geomag"


def _link(path: Path, cache: Path) -> Path:
    """A link to a raster in a folder of its own, that of this very state of the file."""
    real = path.resolve()
    state = real.stat()
    key = f"{real}\n{state.st_size}\n{state.st_mtime_ns}".encode()
    folder = cache / hashlib.sha256(key).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending in ("", ".msk"):
            link, beside = folder / (path.name + ending), real.with_name(real.name + ending)
            if beside.is_file() and not link.is_symlink():
                link.symlink_to(beside)
    except OSError as error:
        raise SceneError(
            f"{path}: overviews can be written neither beside it nor to the cache ({error}); give "
            "another cache folder, or set XDG_CACHE_HOME"
        ) from error
    return folder / path.name


def _build(path: Path, target: Path, progress: bool) -> float:
    """Writes the overviews of `path` to `target`, which is replaced at the end; seconds spent
    decoding the raster, which is what a view of the whole takes without them, at least."""
    try:
        with TemporaryDirectory(prefix=".overviews-", dir=target.parent) as folder:
            unfinished = Path(folder) / "overviews.tif"
            decoding = _write(path, unfinished, progress)
            # A raster from the future would otherwise be newer than its overviews.
            latest = max(time.time(), path.stat().st_mtime)
            os.utime(unfinished, (latest, latest))
            os.replace(unfinished, target)
    except SceneError:
        raise
    # GDAL's errors have no base class in common; a full disk is the likely one.
    except Exception as error:
        raise SceneError(
            f"{target}: overviews cannot be written: {error}; make room there, or build them "
            "elsewhere with gdaladdo"
        ) from error
    return decoding


def _write(path: Path, target: Path, progress: bool) -> float:
    """Half of the size in `target`, and the rest of the sizes as its own overviews."""
    import rasterio  # type: ignore[import-untyped]
    from rasterio.enums import Resampling  # type: ignore[import-untyped]

    decoding = 0.0
    with (
        tiff.confined(path),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        tiff.opened(path) as dataset,
    ):
        # The mean of two places in a palette is a third colour.
        mixes = dataset.colorinterp[0].name != "palette"
        resampling = Resampling.average if mixes else Resampling.nearest
        masked = header.has_mask(dataset)
        bar = tqdm(
            total=dataset.height * dataset.width,
            desc=f"overviews of {path.name}",
            unit="px",
            unit_scale=True,
            disable=not progress,
        )
        with bar, rasterio.open(target, "w", **_profile(dataset)) as half:
            half.colorinterp = dataset.colorinterp
            for window, twice in _windows(dataset.height, dataset.width):
                shape = tuple(stop - start for start, stop in window)
                how = {"window": twice, "resampling": resampling}
                begun = time.perf_counter()
                values = dataset.read(out_shape=(dataset.count, *shape), **how)
                decoding += time.perf_counter() - begun
                half.write(values, window=window)
                if masked:
                    mask = dataset.read_masks(1, out_shape=shape, **how)
                    half.write_mask(mask > 127, window=window)
                bar.update((twice[0][1] - twice[0][0]) * (twice[1][1] - twice[1][0]))
        with rasterio.open(target, "r+", driver="GTiff") as half:
            half.build_overviews(_factors(max(half.height, half.width)), resampling)
    return decoding


def _profile(dataset: Any) -> dict[str, Any]:
    """How the overviews are stored: like the raster where that loses nothing more than it has."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": -(-dataset.height // 2),
        "width": -(-dataset.width // 2),
        "count": dataset.count,
        "dtype": dataset.dtypes[0],
        "nodata": dataset.nodata,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "BIGTIFF": "IF_SAFER",
        "SPARSE_OK": True,
    }
    jpeg = dataset.compression is not None and dataset.compression.name == "jpeg"
    if jpeg and dataset.nodata is None and dataset.count in (1, 3):
        colours = {"photometric": "YCBCR"} if dataset.count == 3 else {}
        return profile | {"compress": "JPEG", "JPEG_QUALITY": 90} | colours
    real = dataset.dtypes[0].startswith("float")
    return profile | {"compress": "DEFLATE", "predictor": 3 if real else 2}


_Span = tuple[int, int]


def _windows(height: int, width: int) -> Iterator[tuple[tuple[_Span, _Span], tuple[_Span, _Span]]]:
    """Windows of the half size, and the same in the raster."""
    for top in range(0, height, 2 * _STEP):
        for left in range(0, width, 2 * _STEP):
            bottom, right = min(top + 2 * _STEP, height), min(left + 2 * _STEP, width)
            half = (top // 2, -(-bottom // 2)), (left // 2, -(-right // 2))
            yield half, ((top, bottom), (left, right))


def _factors(longest: int) -> list[int]:
    factors: list[int] = []
    while longest > _COARSEST:
        longest = -(-longest // 2)
        factors.append(2 ** (len(factors) + 1))
    return factors


def _seconds_to_see(path: Path) -> float:
    """How long a view of the whole takes, from opening the file on."""
    begun = time.perf_counter()
    scene = RasterScene(path, resolution=1.0)
    scene.read(overview(scene.info.size, _COARSEST), _COARSEST)
    return time.perf_counter() - begun
