"""Parts of scenes: what is seen of them, and where they lie."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from geomag import Predictor
from geomag.model import GeoMag
from geomag.scenes import open_scene
from geomag.scenes.array import ArrayScene
from geomag.scenes.clip import ClippedScene
from geomag.scenes.georeference import Georeference
from geomag.values import Box, Size, View
from tests.scenes.rasters import Affine, noise, real, view, whole, write
from tests.test_inference import CONFIG

shapely = pytest.importorskip("shapely", reason="shapely is missing: install geomag-vlm[geo]")

HEIGHT, WIDTH = 90, 120
TURNED = Affine.translation(500_000, 4_600_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
SOUTH_UP = Affine(0.5, 0, 500_000, 0, 0.5, 4_600_000)
L_SHAPE = [[10.2, 5], [70.6, 5], [70.6, 30.4], [40, 30.4], [40, 80.3], [10.2, 80.3]]
HOLE = [[15, 10], [15, 25], [30, 25], [30, 10]]


@pytest.fixture
def scene() -> ArrayScene:
    return ArrayScene(noise(HEIGHT, WIDTH, 3), name="noise")


def inside(clip: ClippedScene) -> np.ndarray:
    """Which pixels of the clip are valid, and only they have colours."""
    return whole(clip)[1]


def test_a_box_is_the_crop(scene: ArrayScene) -> None:
    clip = ClippedScene(scene, (13, 7, 93, 66))
    assert clip.info.size == Size(59, 80)
    array = noise(HEIGHT, WIDTH, 3)[7:66, 13:93]
    crop = ArrayScene(np.ascontiguousarray(array), name="noise")
    assert clip.info == crop.info
    for box, size in (
        ((0, 0, 59, 80), (59, 80)),
        ((3, 8, 43, 48), (10, 10)),
        ((8, 8, 59, 80), (13, 18)),
    ):
        for one, other in ((clip, crop),):
            seen, expected = (s.read(view(s, box, size), 90) for s in (one, other))
            assert (seen.pixels == expected.pixels).all()
            assert (seen.valid == expected.valid).all()


def test_only_the_region_is_valid(scene: ArrayScene) -> None:
    rasterio = pytest.importorskip("rasterio.features")
    polygons = [[L_SHAPE, HOLE], [[[30, 20], [119.9, 60.3], [60, 100]]]]
    clip = ClippedScene(scene, polygons)
    left, top = 10, 5
    assert clip.info.size == Size(HEIGHT - top, 120 - left)
    geometry = shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons])
    truth = ~rasterio.geometry_mask(
        [geometry], (HEIGHT - top, 120 - left), Affine.translation(left, top)
    )
    valid = inside(clip)
    assert 2000 < valid.sum() < truth.size
    assert np.array_equal(valid, truth)
    pixels, _ = whole(clip)
    colours = noise(HEIGHT, WIDTH, 3)[top:, left:].transpose(2, 0, 1)
    assert np.abs(pixels - colours * valid).max() < 1e-3


def test_polygons_that_overlap_are_united(scene: ArrayScene) -> None:
    both = ClippedScene(
        scene, [[[[0, 0], [60, 0], [60, 60], [0, 60]]], [[[30, 30], [90, 30], [90, 90], [30, 90]]]]
    )
    assert inside(both).sum() == 60 * 60 * 2 - 30 * 30


def test_nothing_thin_is_lost_in_a_coarse_view() -> None:
    scene = ArrayScene(np.full((800, 800, 3), 9, np.uint8))
    for region in ([[[[3, 400.2], [797, 400.2], [797, 402.9], [3, 402.9]]]],
                   [[[[10, 10], [12, 10], [790, 788], [788, 790]]]]):  # fmt: skip
        clip = ClippedScene(scene, region)
        size = clip.info.size
        small = Size(max(1, size.height // 16), size.width // 16)
        seen = clip.read(View(Box(0, 0, size.width, size.height), small, size), 64).valid
        native = inside(clip)
        assert native.any()
        for row, column in zip(*np.nonzero(native), strict=True):
            assert seen[
                min(row * small.height // size.height, small.height - 1),
                column * small.width // size.width,
            ]


def test_nothing_else_is_looked_at_or_marked() -> None:
    class Counting(ArrayScene):
        def read(self, view: View, side: int) -> Any:
            boxes.append(view.box)
            return super().read(view, side)

    boxes: list[Box] = []
    predictor = Predictor(GeoMag(**CONFIG))
    scene = Counting(noise(300, 300, 3))
    session = predictor.open(scene, region=[[[[0, 0], [299, 0], [0, 299]]]])
    mask = session.ask("every ship", max_views=math.inf).masks[0].to_dense()
    native = [box for box in boxes if box.width <= 8]
    # Half of the 38 x 38 tiles, and those along the diagonal.
    assert 38 * 38 / 2 <= len(native) <= 38 * 38 / 2 + 2 * 38
    valid = inside(session.scene)
    assert mask.shape == valid.shape == (299, 299)
    assert 0 < (mask & valid).sum() < valid.sum()
    for box in native:
        seen = np.s_[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
        assert not (mask[seen] & ~valid[seen]).any()
    # What coarser looks drew ends half of one of their pixels further out.
    beyond = cv2.distanceTransform((~valid).astype(np.uint8), cv2.DIST_L2, 5)
    assert beyond[mask].max() <= 16


@pytest.mark.parametrize("transform", [Affine(0.5, 0, 5e5, 0, -0.5, 4.6e6), TURNED, SOUTH_UP])
def test_a_clip_lies_where_it_lay(tmp_path: Path, transform: Affine) -> None:
    scene = open_scene(write(tmp_path / "a.tif", noise(3, HEIGHT, WIDTH), transform=transform))
    corners = np.array([[20, 10], [100, 10], [100, 70], [20, 70]], np.float64)
    polygon = scene.georeference.to_map(corners)
    bounds = (*polygon.min(0), *polygon.max(0))
    clip = ClippedScene(scene, bounds)
    assert isinstance(clip.georeference, Georeference)
    assert clip.note == scene.note
    assert clip.info.resolution == scene.info.resolution
    moved = clip.georeference.to_pixels(scene.georeference.to_map(corners))
    offset = corners - moved
    assert np.abs(offset - offset.round()).max() < 1e-6
    left, top = offset[0].round().astype(int)
    valid = inside(clip)
    rows, columns = np.nonzero(valid)
    centres = clip.georeference.to_map(np.stack([columns + 0.5, rows + 0.5], axis=1))
    assert (centres >= np.array(bounds[:2]) - 1e-6).all()
    assert (centres <= np.array(bounds[2:]) + 1e-6).all()
    colours, _ = whole(scene)
    height, width = clip.info.size.height, clip.info.size.width
    assert np.allclose(
        whole(clip)[0], colours[:, top : top + height, left : left + width] * valid, atol=1e-3
    )
    if transform is not TURNED:
        assert (left, top, height, width) == (20, 10, 60, 80)
        assert valid.all()
    else:
        assert 0.5 < valid.mean() < 1


def test_bounds_on_the_grid_take_no_pixel_more(tmp_path: Path) -> None:
    scene = open_scene(
        write(
            tmp_path / "a.tif",
            noise(3, HEIGHT, WIDTH),
            transform=Affine(0.1, 0, 85.3, 0, -0.1, 27.7),
            crs="EPSG:4326",
        )
    )
    left, bottom, right, top = 85.3 + 0.1 * 3, 27.7 - 0.1 * 33, 85.3 + 0.1 * 13, 27.7 - 0.1 * 3
    assert ClippedScene(scene, (left, bottom, right, top)).info.size == Size(30, 10)


def test_real_buildings_lie_where_rasterio_says() -> None:
    features = pytest.importorskip("rasterio.features")
    warp = pytest.importorskip("rasterio.warp")
    scene = open_scene(real("banepa_oam/banepa_z19.tif"))
    path = real("banepa_oam/buildings_osm.geojson")
    clip = ClippedScene(scene, path)
    shapes = [
        warp.transform_geom("EPSG:4326", "EPSG:3857", feature["geometry"])
        for feature in json.loads(path.read_text())["features"]
    ]
    size = clip.info.size
    truth = ~features.geometry_mask(
        shapes, (size.height, size.width), Affine(*clip.georeference.transform)
    )
    for top, left in ((0, 0), (1500, 1000), (size.height - 700, size.width - 700)):
        box = Box(left, top, left + 700, top + 700)
        valid = clip.read(View(box, Size(700, 700), size), 700).valid.numpy()
        assert np.array_equal(valid, truth[top : top + 700, left : left + 700])
