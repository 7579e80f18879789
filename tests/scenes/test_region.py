"""What can name a part of a scene, and what is said of what cannot."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geomag.errors import SceneError
from geomag.scenes import open_scene
from geomag.scenes.array import ArrayScene
from geomag.scenes.clip import ClippedScene
from geomag.values import Size
from tests.scenes.rasters import noise, write
from tests.scenes.test_clip import HEIGHT, L_SHAPE, WIDTH, inside

pyogrio = pytest.importorskip("pyogrio.raw", reason="pyogrio is missing: install geomag-vlm[geo]")
shapely = pytest.importorskip("shapely", reason="shapely is missing: install geomag-vlm[geo]")


@pytest.fixture
def scene() -> ArrayScene:
    return ArrayScene(noise(HEIGHT, WIDTH, 3), name="noise")


def geojson(path: Path, *geometries: Any, **more: Any) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **more}))
    return path


def polygon(*ring: list[float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def test_files_in_other_systems_fit(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", noise(3, HEIGHT, WIDTH)))
    ring = np.array(L_SHAPE)
    expected = inside(ClippedScene(scene, [[ring.tolist()]]))
    degrees = scene.georeference.to_degrees(ring)
    found = polygon(*degrees.tolist())
    shape = shapely.Polygon(degrees)
    sources: list[Any] = [
        geojson(tmp_path / "a.geojson", None, found),
        str(
            geojson(
                tmp_path / "a.json",
                {
                    "type": "GeometryCollection",
                    "geometries": [found, {"type": "Point", "coordinates": [0, 0]}],
                },
            )
        ),
        found,
        {"type": "Feature", "properties": None, "geometry": found},
        # Far away, and where UTM is not defined.
        {
            "type": "MultiPolygon",
            "coordinates": [
                found["coordinates"],
                polygon([-150, -89], [-149, -89], [-149, -88])["coordinates"],
            ],
        },
    ]
    for name in ("a.gpkg", "a.shp"):
        pyogrio.write(
            tmp_path / name, geometry=np.array([shapely.to_wkb(shape)]), field_data=[np.array([1])],
            fields=np.array(["n"]), geometry_type="Polygon", crs="EPSG:4326",
        )  # fmt: skip
        sources.append(tmp_path / name)
    for source in sources:
        clip = ClippedScene(scene, source)
        assert np.array_equal(inside(clip), expected), source


def test_a_region_around_the_scene_is_all_of_it(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", noise(3, HEIGHT, WIDTH)))
    world = polygon([-180, -90], [180, -90], [180, 90], [-180, 90])
    for region in (world, (0, 0, 1e7, 1e7)):
        clip = ClippedScene(scene, region)
        assert clip.info == scene.info
        assert inside(clip).all()
        assert np.allclose(clip.georeference.transform, scene.georeference.transform)


def test_geojson_counts_pixels_where_there_is_no_system(scene: ArrayScene, tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", polygon([10, 20], [110, 20], [110, 80], [10, 80]))
    assert ClippedScene(scene, path).info.size == Size(60, 100)


def refused(scene: Any, region: Any, *words: str) -> None:
    with pytest.raises(SceneError) as raised:
        ClippedScene(scene, region)
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_lies_outside_is_said_with_both_extents(scene: ArrayScene, tmp_path: Path) -> None:
    refused(scene, (200, 0, 300, 50), "200,0,300,50", "0,0,120,90", "outside")
    placed = open_scene(write(tmp_path / "a.tif", noise(3, HEIGHT, WIDTH)))
    extent = "500000,4599955,500060,4600000"
    refused(placed, (400_000, 0, 400_050, 50), "400000,0,400050,50", extent)
    refused(placed, (15, 41, 16, 42), extent, "degrees")
    away = polygon([0, 0], [1, 0], [1, 1])
    refused(placed, away, "0,0,1,1", "15.000", "outside")
    # The box around it meets the scene, and it does not.
    around = [[[[-10, -10], [200, -10], [200, -5], [-5, -5], [-5, 200], [-10, 200]]]]
    refused(scene, around, "no pixel")


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ((0, 0, 10), "four numbers"),
        ((0, 0, math.nan, 10), "four numbers"),
        ((10, 0, 0, 10), "is empty"),
        ((3, 3, 3.2, 3.2), "no pixel"),
        ([[[[3, 3.1], [90, 3.1], [90, 3.2]]]], "no pixel"),
        ((), "expected four bounds"),
        (7, "expected four bounds"),
        ([[[[0, 0], [1, 1]]]], "at least three"),
        ([[[[0, 0], [math.inf, 1], [3, 3]]]], "at least three"),
        ([["a"]], "not made of points"),
        ({"type": "Polygon"}, "not GeoJSON"),
        ({}, "not GeoJSON"),
        ({"type": "Point", "coordinates": [1, 2]}, "only Point"),
        ({"type": "FeatureCollection", "features": []}, "nothing"),
        ("lost.geojson", "no such file"),
    ],
)
def test_what_is_no_region_is_said(scene: ArrayScene, region: Any, words: str) -> None:
    refused(scene, region, words)


def test_files_that_hold_no_region_are_named(scene: ArrayScene, tmp_path: Path) -> None:
    placed = open_scene(write(tmp_path / "a.tif", noise(3, HEIGHT, WIDTH)))
    good = geojson(tmp_path / "good.geojson", polygon([15, 41], [16, 41], [16, 42]))
    for name, content, words in (
        ("cut.geojson", good.read_bytes()[:-30], "not JSON"),
        ("empty.geojson", b"", "not JSON"),
        ("list.geojson", b"[1, 2]", "not GeoJSON"),
        ("deep.geojson", b"[" * 100_000, "not JSON"),
        ("bytes.geojson", b"\xff\xfe\0\1", "not JSON"),
        ("nan.geojson", b'{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 9]]]}', ""),
        ("metres.geojson", json.dumps(polygon([5e5, 1], [5e5, 2], [6e5, 2])).encode(), "RFC 7946"),
        ("a.kml", b"<kml/>", ".kml is not read"),
        ("none", b"", "no ending is not read"),
        ("vrt.gpkg", b"<OGRVRTDataSource/>", "does not begin like"),
        ("cut.gpkg", b"SQLite format 3\0" + bytes(200), "damaged"),
        ("cut.shp", b"\0\0\x27\x0a" + bytes(20), "damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(placed, tmp_path / name, name, words)
    refused(placed, tmp_path, "is a folder")
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    refused(
        placed,
        geojson(tmp_path / "b.geojson", polygon([1, 1], [1, 2], [2, 2]), crs=named),
        "RFC 7946",
    )


def test_layers_have_to_be_told_apart(scene: ArrayScene, tmp_path: Path) -> None:
    placed = open_scene(write(tmp_path / "a.tif", noise(3, HEIGHT, WIDTH)))
    path = tmp_path / "two.gpkg"
    for layer in ("fields", "roads"):
        pyogrio.write(
            path, geometry=np.array([shapely.to_wkb(shapely.box(5e5, 4.59e6, 6e5, 4.6e6))]),
            field_data=[np.array([1])], fields=np.array(["n"]), geometry_type="Polygon",
            crs="EPSG:32633", layer=layer, append=path.exists(),
        )  # fmt: skip
        if layer == "fields":
            assert ClippedScene(placed, path).info == placed.info
            refused(scene, path, "no coordinate reference system")
    refused(placed, path, "2 layers", "fields, roads")
