"""Small GeoTIFFs made on the spot, and views of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geomag.contracts import Scene
from geomag.values import Box, Pixels, Size, View

pytest.importorskip("rasterio", reason="rasterio is missing: install geomag-vlm[geo]")

import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine

ROOT = Path(__file__).resolve().parents[2]
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 4_600_000)


def noise(*shape: int, dtype: Any = np.uint8, high: int = 256) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def smooth(*shape: int) -> NDArray[np.uint8]:
    """Something like an image: neighbours are alike."""
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    waves = [np.sin(rows / (9 + band)) + np.cos(columns / (7 + band)) for band in range(3)]
    return ((np.stack(waves) + 2) * 63).astype(np.uint8)[: shape[0]]


def write(
    path: Path,
    array: NDArray[Any],
    overviews: tuple[int, ...] = (),
    mask: NDArray[np.bool_] | None = None,
    **more: Any,
) -> Path:
    """`array [bands, h, w]` as a GeoTIFF in UTM 33N with pixels of half a metre."""
    count, height, width = array.shape
    known = {"crs": "EPSG:32633", "transform": NORTH_UP, **more}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype,
        **known,
    ) as file:  # fmt: skip
        file.write(array)
        if mask is not None:
            file.write_mask(mask)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(overviews, Resampling.average)
    return path


def view(scene: Scene, box: tuple[float, float, float, float], size: tuple[int, int]) -> View:
    """A view of `box` (top, left, bottom, right) at `size` (height, width)."""
    top, left, bottom, right = box
    return View(Box(left, top, right, bottom), Size(*size), scene.info.size)


def seen(pixels: Pixels, height: int, width: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """`[bands, height, width]` in 0 to 255 and which are valid; the rest has to be padding."""
    assert not pixels.valid[height:].any()
    assert not pixels.valid[:, width:].any()
    assert float(pixels.pixels.amin()) >= 0
    assert float(pixels.pixels.amax()) <= 1
    assert not (pixels.pixels * ~pixels.valid).any()
    found = pixels.pixels[:, :height, :width].double().numpy() * 255
    return found, pixels.valid[:height, :width].numpy()


def whole(scene: Scene, side: int = 512) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """All of a scene at native resolution."""
    size = scene.info.size
    asked = view(scene, (0, 0, size.height, size.width), (size.height, size.width))
    return seen(scene.read(asked, max(side, size.height, size.width)), size.height, size.width)


def real(name: str) -> Path:
    """A file of the shared imagery; without it the test is skipped."""
    roots = [Path(root) for root in (os.environ.get("GEOMAG_DATA"),) if root]
    for root in (*roots, ROOT / "data", ROOT.parent / "shared" / "data"):
        if (root / name).exists():
            return root / name
    pytest.skip(f"no data/{name}, and GEOMAG_DATA names no folder with it")
