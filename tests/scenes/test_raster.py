from __future__ import annotations

import multiprocessing
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geomag.contracts import Scene
from geomag.scenes import open_scene, raster
from geomag.scenes.array import ArrayScene
from geomag.scenes.raster import RasterScene
from tests.scenes.rasters import NORTH_UP, Affine, noise, real, seen, smooth, view, whole, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}


def mean(array: NDArray[Any], factor: int) -> NDArray[Any]:
    bands, height, width = array.shape
    cells = array.reshape(bands, height // factor, factor, width // factor, factor)
    return np.asarray(cells.mean((2, 4)))


@pytest.mark.parametrize(
    "layout",
    [
        {},
        TILED,
        TILED | {"compress": "deflate", "interleave": "band"},
        {"compress": "lzw", "predictor": 2, "blockysize": 7},
        {"BIGTIFF": "YES", "compress": "zstd"},
        {"ENDIANNESS": "BIG"},
    ],
)
def test_native_pixels_are_those_of_the_file(tmp_path: Path, layout: dict[str, Any]) -> None:
    array = noise(3, 90, 130)
    scene = open_scene(write(tmp_path / "a.tif", array, **layout))
    assert isinstance(scene, RasterScene)
    assert isinstance(scene, Scene)
    found, valid = whole(scene)
    assert np.abs(found - array).max() < 1e-4
    assert valid.all()
    found, _ = seen(scene.read(view(scene, (40, 70, 90, 130), (50, 60)), 64), 50, 60)
    assert np.abs(found - array[:, 40:90, 70:130]).max() < 1e-4
    # A fractional border goes to the nearest whole pixel.
    found, _ = seen(scene.read(view(scene, (9.6, 19.7, 20.4, 30.2), (10, 10)), 16), 10, 10)
    assert np.abs(found - array[:, 10:20, 20:30]).max() < 1e-4


def test_big_tiff_is_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(3, 9, 9), BIGTIFF="YES")
    assert path.read_bytes()[:4] == b"II+\0"
    assert whole(open_scene(path))[1].all()


@pytest.mark.parametrize("limit", [1 << 21, 100])
def test_shrinking_is_the_mean_over_the_area(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "_AT_ONCE", limit)
    array = noise(3, 96, 128)
    scene = RasterScene(write(tmp_path / "a.tif", array, **TILED))
    found, _ = seen(scene.read(view(scene, (0, 0, 96, 128), (24, 32)), 32), 24, 32)
    assert np.abs(found - mean(array, 4)).max() < 1e-3
    assert scene.bytes_read == array.nbytes


def test_pieces_in_any_layout_give_the_same_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = noise(3, 200, 150)
    scene = RasterScene(write(tmp_path / "a.tif", array))
    asked = view(scene, (3, 5, 190, 141), (31, 23))
    expected = scene.read(asked, 32).pixels
    monkeypatch.setattr(raster, "_AT_ONCE", 0)
    monkeypatch.setattr("geomag.scenes.raster_file._PIECE", 1000)
    monkeypatch.setattr("geomag.scenes.raster_file._SIDE", 20)
    for layout in ({}, TILED, {"blockysize": 11}, {"compress": "lzw", "blockysize": 200}):
        scene = RasterScene(write(tmp_path / "a.tif", array, **layout))
        assert torch.allclose(scene.read(asked, 32).pixels, expected, atol=1e-5)


def test_the_coarsest_overview_that_shows_the_same_is_read(tmp_path: Path) -> None:
    array = smooth(3, 528, 704)
    scene = RasterScene(write(tmp_path / "a.tif", array, (2, 4, 8), **TILED))
    assert scene.scales == (1, 2, 4, 8)
    for scale, factor in {1: 1, 2: 2, 3: 1, 4: 4, 5: 2, 8: 8, 11: 4, 16: 8}.items():
        before = scene.bytes_read
        size = 528 // scale, 704 // scale
        found, valid = seen(scene.read(view(scene, (0, 0, 528, 704), size), 800), *size)
        assert scene.bytes_read - before == array.nbytes / factor**2
        assert valid.all()
        expected = ArrayScene(array.transpose(1, 2, 0)).read(
            view(scene, (0, 0, 528, 704), size), 800
        )
        assert np.abs(found - seen(expected, *size)[0]).mean() < 1.5


def test_a_view_of_an_overview_lies_where_it_should(tmp_path: Path) -> None:
    array = np.zeros((3, 400, 400), np.uint8)
    array[:, 160:240, 80:320] = 255
    scene = RasterScene(write(tmp_path / "a.tif", array, (2, 4)))
    found, _ = seen(scene.read(view(scene, (148, 68, 252, 332), (26, 66)), 80), 26, 66)
    inside = np.zeros((26, 66), bool)
    inside[3:23, 3:63] = True
    assert (found[:, inside] == 255).all()
    assert not found[:, ~inside].any()


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32633", NORTH_UP, 0.5),
        ("EPSG:32633", Affine(0.5, 0, 500_000, 0, 0.5, 4_600_000), 0.5),  # south-up
        ("EPSG:32633", NORTH_UP @ Affine.rotation(30), 0.5),
        ("EPSG:3857", Affine(2, 0, 1_000_000, 0, -2, 8_399_738), 1.0),  # at 60 degrees north
        ("EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 60), 0.788),
        ("EPSG:2263", Affine(1, 0, 980_000, 0, -1, 200_000), 0.3048),  # in feet
    ],
)
def test_resolution_is_metres_on_the_ground(
    tmp_path: Path, crs: str, transform: Affine, metres: float
) -> None:
    scene = RasterScene(write(tmp_path / "a.tif", noise(3, 8, 9), crs=crs, transform=transform))
    assert scene.info.resolution == pytest.approx(metres, rel=4e-3)
    assert scene.georeference is not None
    assert scene.georeference.transform == tuple(transform)[:6]
    assert scene.note == ""
    given = RasterScene(tmp_path / "a.tif", resolution=7.0)
    assert given.info.resolution == 7


def test_without_a_place_there_is_no_georeference_and_a_note(tmp_path: Path) -> None:
    for more, words in (
        ({"crs": None}, "no coordinate reference system"),
        ({"transform": Affine.identity()}, "no transform"),
        ({"transform": Affine(1, 0, 1e9, 0, -1, 1e9), "crs": "EPSG:4326"}, "on earth"),
    ):
        scene = RasterScene(write(tmp_path / "a.tif", noise(3, 8, 9), **more))
        assert scene.georeference is None
        assert scene.info.resolution is None
        assert words in scene.note
        assert whole(scene)[1].all()


def _in_child(scene: Any, asked: Any, expected: torch.Tensor, queue: Any) -> None:
    queue.put(bool(torch.equal(scene.read(asked, 64).pixels, expected)))


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_other_processes_open_the_file_for_themselves(tmp_path: Path) -> None:
    scene = RasterScene(write(tmp_path / "a.tif", noise(3, 400, 400, dtype=np.uint16)))
    asked = view(scene, (300, 300, 364, 364), (64, 64))
    expected = scene.read(asked, 64).pixels
    sent = pickle.dumps(scene)
    assert len(sent) < 5000
    assert torch.equal(pickle.loads(sent).read(asked, 64).pixels, expected)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=_in_child, args=(scene, asked, expected, queue)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    assert all(queue.get(timeout=60) for _ in workers)
    assert torch.equal(scene.read(asked, 64).pixels, expected)
    for worker in workers:
        worker.join()
    scene.close()
    assert torch.equal(scene.read(asked, 64).pixels, expected)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_view_is_that_of_the_same_array(tmp_path: Path, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 120))
    array = noise(data.draw(st.sampled_from([1, 3])), height, width)
    path = write(tmp_path / "any.tif", array, **data.draw(st.sampled_from([{}, TILED])))
    scene, same = RasterScene(path), ArrayScene(array.transpose(1, 2, 0))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    size = (
        data.draw(st.sampled_from([bottom - top, -(-(bottom - top) // 4)])),
        data.draw(st.sampled_from([right - left, -(-(right - left) // 4)])),
    )
    asked = view(scene, (top, left, bottom, right), size)
    found, expected = scene.read(asked, 128), same.read(asked, 128)
    assert torch.equal(found.valid, expected.valid)
    off = (found.pixels - expected.pixels).abs()
    assert float(off.max()) <= (1e-6 if size == (bottom - top, right - left) else 0.6 / 255)


@pytest.mark.parametrize(
    ("name", "count", "metres"),
    [
        ("geotiff_edge/RGB.byte.tif", 3, 300.0),
        ("geotiff_edge/alpha.tif", 3, None),
        ("geotiff_edge/cogeo.tif", 3, None),
        ("banepa_oam/banepa_z19.tif", 3, 0.13),
        ("nrcan/massachusetts/22978945_15.tif", 3, 1.0),
        ("nrcan/spacenet_lv/SpaceNet_AOI_2_Las_Vegas-056155973080_01_P001-WV03-RGB.tif", 3, 0.27),
    ],
)
def test_real_files_are_those_of_rasterio(name: str, count: int, metres: float | None) -> None:

    path = real(name)
    scene = RasterScene(path)
    assert len(scene.bands) == count
    if metres is not None:
        assert scene.info.resolution == pytest.approx(metres, rel=0.05)
    height, width = (min(side, 256) for side in (scene.info.size.height, scene.info.size.width))
    top, left = (scene.info.size.height - height) // 2, (scene.info.size.width - width) // 2
    asked = view(scene, (top, left, top + height, left + width), (height, width))
    found, valid = seen(scene.read(asked, 256), height, width)
    with rasterio.open(path) as file:
        window = ((top, top + height), (left, left + width))
        array = file.read(scene.bands, window=window).astype(float)
        expected = file.dataset_mask(window=window) > 0
    low, high = scene.stretch
    assert (valid == expected).all()
    stretched = ((array - low) / (high - low)).clip(0, 1) * 255
    assert np.abs((found - stretched) * valid).max() < 1e-3
    asked = view(scene, (0, 0, scene.info.size.height, scene.info.size.width), (64, 64))
    assert scene.read(asked, 64).valid.any()


def test_scenes_pass_and_files_are_what_their_bytes_say(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(3, 9, 9))
    scene = open_scene(tmp_path / "a.png", resolution=0.3, bands=(2,))
    assert isinstance(scene, RasterScene)
    assert (scene.bands, scene.info.resolution) == ((2,), 0.3)
    assert open_scene(scene) is scene
