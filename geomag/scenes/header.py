"""What a TIFF file says of itself and of the overviews and mask beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SceneError
from ..values import Size
from .georeference import Georeference
from .tiff import confined, is_tiff, opened

LARGEST_BLOCK = 512 << 20
_MOST_LEVELS = 32


@dataclass(frozen=True)
class Level:
    """Pixels of one fineness: of a file, or of its overview number `index`."""

    path: Path
    index: int | None
    size: Size
    block: Size


@dataclass(frozen=True)
class Header:
    """What is known of a raster before a pixel is read.

    `bands` are the one or three that are shown, counted from 1, `nodata` their values for nothing.
    Alpha is a band, `masked` an internal mask, `mask` the file of an external one. `palette`
    `[N, 4]` holds the colours of a single band of indices. `levels` are finest first.
    """

    size: Size
    dtype: np.dtype[Any]
    bands: tuple[int, ...]
    full_scale: int
    nodata: tuple[float | None, ...]
    alpha: int | None
    masked: bool
    mask: Path | None
    palette: NDArray[np.uint8] | None
    levels: tuple[Level, ...]
    georeference: Georeference | None
    note: str


def read(path: Path, bands: tuple[int, ...] | None = None, beside: bool = True) -> Header:
    """What a TIFF file says of itself; its pixels are not read.

    Overviews are looked for inside it, then `beside` it.

    Raises:
        SceneError: the file is damaged, or holds what cannot be shown.
    """
    with confined(path), opened(path) as dataset:
        if dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE"):
            raise SceneError(
                f"{path}: names another file as its overviews; remove that, as with "
                "`gdal_edit.py -unsetmd`"
            )
        dtype = _dtype(path, dataset)
        kinds = [kind.name for kind in dataset.colorinterp]
        alpha = kinds.index("alpha") + 1 if "alpha" in kinds else None
        chosen = _bands(path, kinds, alpha, bands)
        masked = has_mask(dataset)
        levels, mask, notes = _levels(path, dataset, masked, beside)
        georeference, unplaced = _georeference(dataset)
        palette = _palette(dataset) if kinds[chosen[0] - 1] == "palette" else None
        bits = dataset.tags(chosen[0], ns="IMAGE_STRUCTURE").get("NBITS", "8")
        return Header(
            size=Size(dataset.height, dataset.width),
            dtype=dtype,
            bands=chosen,
            full_scale=255 if palette is not None else (1 << min(int(bits), 8)) - 1,
            nodata=tuple(dataset.nodatavals[band - 1] for band in chosen),
            alpha=alpha if alpha not in chosen else None,
            masked=masked,
            mask=mask,
            palette=palette,
            levels=levels,
            georeference=georeference,
            note="; ".join(filter(None, (unplaced, *notes))),
        )


def _dtype(path: Path, dataset: Any) -> np.dtype[Any]:
    kinds = set(dataset.dtypes)
    if len(kinds) > 1 or not np.issubdtype(next(iter(kinds)), np.number) or "complex" in str(kinds):
        raise SceneError(
            f"{path}: its values are {', '.join(sorted(kinds))}; expected whole or real numbers, "
            "all bands alike: convert it, as with `rio convert --dtype`"
        )
    dtype: np.dtype[Any] = np.dtype(next(iter(kinds)))
    return dtype


def _bands(
    path: Path, kinds: list[str], alpha: int | None, asked: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The bands to show: red, green and blue, else the first three, else the first as grey."""
    if asked is not None:
        if len(asked) not in (1, 3) or not all(1 <= band <= len(kinds) for band in asked):
            raise SceneError(
                f"{path}: bands {list(asked)} cannot be shown; expected one or three of 1 to "
                f"{len(kinds)}"
            )
        return tuple(asked)
    if {"red", "green", "blue"} <= set(kinds):
        return tuple(kinds.index(colour) + 1 for colour in ("red", "green", "blue"))
    shown = [band for band in range(1, len(kinds) + 1) if band != alpha]
    if not shown:
        raise SceneError(f"{path}: has an alpha band and nothing else; give bands=(1,) to see it")
    return tuple(shown[:3]) if len(shown) >= 3 else (shown[0],)


def has_mask(dataset: Any) -> bool:
    """Whether a mask is stored in the file, rather than alpha or nodata."""
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    return "per_dataset" in flags and not flags & {"alpha", "nodata"}


def _palette(dataset: Any) -> NDArray[np.uint8]:
    colours = dataset.colormap(1)
    return np.array([colours[index] for index in sorted(colours)], np.uint8)


def _georeference(dataset: Any) -> tuple[Georeference | None, str]:
    if dataset.crs is None or not dataset.crs.to_wkt():
        return None, "no coordinate reference system: answers stay in pixels"
    if dataset.transform.is_identity:
        return None, "no transform (ground control points are not used): answers stay in pixels"
    try:
        return Georeference(dataset.crs.to_wkt(), tuple(dataset.transform)[:6]), ""
    except SceneError as error:
        return None, str(error)


def _levels(
    path: Path, dataset: Any, masked: bool, beside: bool
) -> tuple[tuple[Level, ...], Path | None, list[str]]:
    """The levels, the file of an external mask, and what is to be said of the files beside."""
    notes: list[str] = []
    levels = [_level(path, None, dataset)]
    inside = len(dataset.overviews(1))
    candidates: list[tuple[Path, int | None]] = [(path, index) for index in range(inside)]
    if beside and not inside:
        candidates = _overviews_beside(path, dataset, notes)
    for file, index in candidates[:_MOST_LEVELS]:
        with confined(file), opened(file, index) as overview:
            level = _level(file, index, overview)
            finer = level.size.area < levels[-1].size.area
            # Without the mask an overview would show what there is none of.
            if finer and similar(levels[0].size, level.size) and has_mask(overview) == masked:
                levels.append(level)
    return tuple(levels), None if masked else _mask_beside(path, dataset), notes


def _level(path: Path, index: int | None, dataset: Any) -> Level:
    block = Size(*dataset.block_shapes[0])
    together = 1 if dataset.profile.get("interleave") == "band" else dataset.count
    whole = block.area * together * np.dtype(dataset.dtypes[0]).itemsize
    if whole > LARGEST_BLOCK:
        raise SceneError(
            f"{path}: keeps its pixels in pieces of {whole / 1e9:.1f} GB, each to be decoded as a "
            "whole; rewrite it in tiles, as with `rio convert --co TILED=YES`"
        )
    return Level(path, index, Size(dataset.height, dataset.width), block)


def similar(size: Size, smaller: Size) -> bool:
    """Whether one size can be that of an overview of the other."""
    off = abs(smaller.height - size.height * smaller.width / size.width)
    return off <= max(1.0, size.height / size.width)


def overviews_of(path: Path) -> Path:
    """Where a raster's overviews lie when they are not inside it."""
    return path.with_name(path.name + ".ovr")


def _overviews_beside(path: Path, dataset: Any, notes: list[str]) -> list[tuple[Path, int | None]]:
    """The levels of `NAME.ovr`; none, and a note, where it is older than the raster."""
    file = overviews_of(path)
    if not file.is_file():
        return []
    cure = "delete it, or build it anew with geomag.scenes.overviews.prepare"
    if not is_tiff(file):
        raise SceneError(f"{file}: these overviews are no TIFF file; {cure}")
    with confined(file), opened(file) as first:
        sizes = Size(dataset.height, dataset.width), Size(first.height, first.width)
        if not similar(*sizes) or first.count != dataset.count or first.dtypes != dataset.dtypes:
            raise SceneError(f"{file}: these overviews are of another raster; {cure}")
        if file.stat().st_mtime < path.stat().st_mtime:
            notes.append(f"{file.name} is older than the raster and not used; {cure}")
            return []
        return [(file, None), *((file, index) for index in range(len(first.overviews(1))))]


def _mask_beside(path: Path, dataset: Any) -> Path | None:
    file = path.with_name(path.name + ".msk")
    if not file.is_file():
        return None
    if is_tiff(file):
        with confined(file), opened(file) as mask:
            if mask.shape == dataset.shape and mask.dtypes[0] == "uint8":
                return file
    raise SceneError(f"{file}: not a mask of {path.name}; move it away")
