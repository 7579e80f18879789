"""Which bands, values and pixels of a raster are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from geomag.errors import SceneError
from geomag.scenes.raster import RasterScene
from tests.scenes.rasters import noise, seen, smooth, view, whole, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}


def test_nodata_in_all_bands_is_not_valid_and_does_not_darken(tmp_path: Path) -> None:
    array = np.full((3, 64, 64), 200, np.uint8)
    array[0] = 0  # nothing in one band is a colour
    array[:, :, :33] = 0
    scene = RasterScene(write(tmp_path / "a.tif", array, nodata=0))
    found, valid = seen(scene.read(view(scene, (0, 0, 64, 64), (16, 16)), 16), 16, 16)
    assert not valid[:, :8].any()
    assert valid[:, 8:].all()
    assert np.abs(found[1:, :, 8:] - 200).max() < 1e-3


def test_nodata_outside_the_type_is_no_value(tmp_path: Path) -> None:
    array = noise(1, 8, 8, dtype=np.int16, high=900)
    array[0, :4] = -9999
    scene = RasterScene(write(tmp_path / "a.tif", array, nodata=-9999))
    assert whole(scene)[1].sum() == 32
    assert scene.stretch == tuple(np.percentile(array[0, 4:], (2, 98)))
    real = (noise(1, 8, 8) / 7).astype(np.float32)
    real[0, :2] = -3.4e38
    real[0, 7] = np.nan
    scene = RasterScene(write(tmp_path / "b.tif", real, nodata=float(np.float32(-3.4e38))))
    assert whole(scene)[1].sum() == 40


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_masks_inside_and_beside_a_file_hide(
    tmp_path: Path, internal: bool, overviews: tuple[int, ...]
) -> None:
    array, mask = smooth(3, 128, 128) | 1, np.ones((128, 128), bool)
    mask[32:64, 64:] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = write(tmp_path / "a.tif", array, overviews, mask)
    assert (tmp_path / "a.tif.msk").exists() != internal
    scene = RasterScene(path)
    assert (whole(scene)[1] == mask).all()
    _, valid = seen(scene.read(view(scene, (0, 0, 128, 128), (32, 32)), 32), 32, 32)
    assert (valid == mask[::4, ::4]).all()


@pytest.mark.parametrize("bands", [2, 4])
def test_transparent_is_not_valid(tmp_path: Path, bands: int) -> None:
    array = noise(bands, 40, 40)
    array[-1] = 255
    array[-1, :10] = 0
    array[-1, 10:12] = 3
    path = write(tmp_path / "a.tif", array, alpha="YES", photometric="RGB" if bands == 4 else None)
    scene = RasterScene(path)
    found, valid = whole(scene)
    assert scene.bands == ((1, 2, 3) if bands == 4 else (1,))
    assert not valid[:10].any()
    assert valid[10:].all()
    assert np.abs(found[:, 10:] - array[:-1, 10:]).max() < 1e-4


def test_bands_are_chosen_by_colour_by_place_or_by_hand(tmp_path: Path) -> None:
    array = noise(5, 20, 20)
    path = write(tmp_path / "a.tif", array)
    assert RasterScene(path).bands == (1, 2, 3)
    with rasterio.open(path, "r+") as file:
        names = ("nir", "blue", "green", "red", "alpha")
        file.colorinterp = [getattr(ColorInterp, name, ColorInterp.undefined) for name in names]
    scene = RasterScene(path)
    assert scene.bands == (4, 3, 2)
    assert np.abs((whole(scene)[0] - array[[3, 2, 1]])[:, array[4] > 0]).max() < 1e-4
    assert RasterScene(path, bands=(1,)).bands == (1,)
    assert (
        np.abs(whole(RasterScene(path, bands=(1, 4, 2)))[0] - array[[0, 3, 1]])[
            :, array[4] > 0
        ].max()
        < 1e-4
    )
    for wrong in ((0,), (6,), (1, 2), ()):
        with pytest.raises(SceneError, match="expected one or three of 1 to 5"):
            RasterScene(path, bands=wrong)


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    indices = noise(1, 24, 24, high=3)
    colours = {0: (255, 0, 0, 255), 1: (0, 200, 0, 255), 2: (0, 0, 50, 255)}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=1, height=24, width=24, dtype="uint8",
        photometric="palette",
    ) as file:  # fmt: skip
        file.write_colormap(1, colours)
        file.write(indices)
    found, _ = whole(RasterScene(tmp_path / "a.tif"))
    expected = np.array([colours[index][:3] for index in range(3)])[indices[0]].transpose(2, 0, 1)
    assert np.abs(found - expected).max() < 1e-4


def test_one_bit_is_black_and_white_and_pages_after_the_first_are_left(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(30, 20)).convert("1") for _ in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    found, _ = whole(RasterScene(tmp_path / "a.tif"))
    assert np.abs(found[0] - np.asarray(pages[0].convert("L"))).max() < 1e-4
    write(tmp_path / "b.tif", noise(1, 9, 9, high=2), nbits=1)
    found, _ = whole(RasterScene(tmp_path / "b.tif"))
    assert np.abs(found - noise(1, 9, 9, high=2) * 255).max() < 1e-4


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_other_types_are_stretched_between_percentiles(tmp_path: Path, dtype: Any) -> None:
    array = noise(3, 60, 70, dtype=dtype, high=3000) + dtype(100)
    path = write(tmp_path / "a.tif", array, nodata=100)
    scene = RasterScene(path)
    valid = ~(array == 100).all(0)
    low, high = np.percentile(array[:, valid], (2, 98))
    assert scene.stretch == (low, high)
    found, seen_valid = whole(scene)
    expected = ((array - low) / (high - low)).clip(0, 1) * 255
    assert np.abs((found - expected)[:, valid]).max() < 1e-3
    assert (seen_valid == valid).all()
    assert np.array_equal(whole(RasterScene(path, stretch=scene.stretch))[0], found)


def test_large_scenes_have_one_stretch_with_and_without_overviews(tmp_path: Path) -> None:
    array = np.linspace(0, 60_000, 1500 * 1500).reshape(1, 1500, 1500).astype(np.uint16)
    plain = RasterScene(write(tmp_path / "a.tif", array, **TILED))
    assert plain.stretch == RasterScene(write(tmp_path / "b.tif", array, (2, 4))).stretch
    assert np.allclose(plain.stretch, np.percentile(array, (2, 98)), atol=1500)
    # Where the grid meets nothing valid a finer one is laid.
    array[:] = 0
    array[0, 80:96] = 500
    array[0, 96:112] = 700
    rare = RasterScene(write(tmp_path / "c.tif", array, nodata=0))
    assert rare.stretch == (500, 700)


def test_a_flat_scene_has_no_stretch_of_its_own(tmp_path: Path) -> None:
    flat = RasterScene(write(tmp_path / "a.tif", np.full((1, 4, 4), 65535, np.uint16)))
    assert flat.stretch == (0, 65535)
    real = RasterScene(write(tmp_path / "b.tif", np.full((1, 4, 4), 7.5, np.float32)))
    assert real.stretch == (7.5, 8.5)
    nothing = RasterScene(write(tmp_path / "c.tif", np.full((1, 4, 4), np.nan, np.float32)))
    assert not whole(nothing)[1].any()
    with pytest.raises(SceneError, match="expected"):
        RasterScene(tmp_path / "a.tif", stretch=(4, 4))
