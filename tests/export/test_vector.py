from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from pyproj import CRS, Transformer

from geomag.answer import Answer, save_all
from geomag.errors import OutputError
from geomag.scenes.georeference import Georeference
from tests.export.answers import (
    TENTH,
    UTM,
    WGS84,
    answer,
    burnt,
    instances,
    native,
    ring_with_island,
)


def signed_area(ring: list[list[float]]) -> float:
    points = np.array(ring[:-1]) - ring[0]
    x, y = points.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def polygons_of(geometry: dict[str, Any]) -> list[list[list[list[float]]]]:
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    single = geometry["type"] == "Polygon"
    return [geometry["coordinates"]] if single else geometry["coordinates"]


def saved(found: Answer, path: Path) -> dict[str, Any]:
    assert found.save(path) == [path]
    collection: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    assert "crs" not in collection
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        for polygon in polygons_of(feature["geometry"]):
            for place, ring in enumerate(polygon):
                assert len(ring) >= 4
                assert ring[0] == ring[-1]
                assert (signed_area(ring) > 0) == (place == 0)
    return collection


def back_in_pixels(collection: dict[str, Any], place: Georeference) -> list[list[np.ndarray]]:
    to_map = Transformer.from_crs("EPSG:4326", CRS.from_wkt(place.crs), always_xy=True)
    return [
        [
            place.to_pixels(np.stack(to_map.transform(*np.array(ring[:-1]).T), axis=1))
            for ring in polygon
        ]
        for feature in collection["features"]
        for polygon in polygons_of(feature["geometry"])
    ]


def transform(random: np.random.Generator, geographic: bool) -> Georeference:
    """Anywhere in zone 32, rotated, sheared, north-up or south-up, about 10 cm a pixel."""
    step = random.uniform(0.05, 0.5) * (1e-6 if geographic else 0.1)
    step *= 9 if geographic else 10
    angle, shear = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
    if random.random() < 0.5:
        angle, shear = 0.0, 0.0
    flip = random.choice([-1, 1])
    a, d = step * np.cos(angle), step * np.sin(angle)
    b, e = flip * (-d + shear * a), flip * (a + shear * d)
    if geographic:
        x, y = random.uniform(6, 12), random.uniform(-60, 60)
    else:
        x, y = random.uniform(3e5, 7e5), random.uniform(-6.5e6, 6.5e6)
    return Georeference(WGS84 if geographic else UTM, (a, b, x, d, e, y))


def test_a_thousand_transforms_lead_to_the_map_and_back() -> None:
    random = np.random.default_rng(0)
    corners = np.array([[0, 0], [60_000, 0], [60_000, 60_000], [17, 3], [29_999, 31_001]], float)
    for turn in range(1000):
        place = transform(random, geographic=turn % 2 == 1)
        assert np.abs(place.to_pixels(place.to_map(corners)) - corners).max() < 1e-6


@pytest.mark.parametrize("geographic", [False, True])
def test_geojson_leads_back_to_the_pixels(geographic: bool, tmp_path: Path) -> None:
    random, dense = np.random.default_rng(1), ring_with_island()
    for _ in range(25):
        place = transform(random, geographic)
        found = answer(dense, georeference=place)
        rings = back_in_pixels(saved(found, tmp_path / "a.geojson"), place)
        for polygon in rings:
            for ring in polygon:
                assert np.abs(ring - np.round(ring)).max() < 1e-3
        assert np.array_equal(burnt(rings, dense.shape), dense)


def test_random_masks_come_back_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for density in (0.1, 0.5, 0.7):
        dense = random.random((40, 50)) < density
        for found in (
            answer(dense, georeference=TENTH),
            instances(answer(dense, georeference=TENTH)),
        ):
            collection = saved(found, tmp_path / "a.geojson")
            assert np.array_equal(burnt(back_in_pixels(collection, TENTH), dense.shape), dense)


def test_geojson_carries_what_is_known(tmp_path: Path) -> None:
    found = answer(ring_with_island(), georeference=TENTH, prompt='every "ship", été')
    collection = saved(found, tmp_path / "new" / "A.GeoJSON")
    assert "note" not in collection
    kinds = sorted(feature["geometry"]["type"] for feature in collection["features"])
    assert kinds == ["MultiPolygon", "Polygon", "Polygon"]
    for feature in collection["features"]:
        about = feature["properties"]
        assert about["prompt"] == 'every "ship", été'
        assert (about["score"], about["source"]) == (1, "harbour.tif")
        assert about["model"] == "tiny/default 0.3"
        assert about["area_m2"] == pytest.approx(about["area_px"] * 0.01, rel=2e-3)
    (whole,) = saved(instances(found), tmp_path / "a.geojson")["features"]
    assert len(whole["geometry"]["coordinates"]) == 4
    assert whole["properties"]["score"] == 0.75


def test_without_a_place_geojson_holds_pixels_and_says_so(tmp_path: Path) -> None:
    dense = ring_with_island()
    collection = saved(answer(dense, resolution=0.5), tmp_path / "a.geojson")
    assert "scene pixels" in collection["note"]
    rings = [
        [np.array(ring[:-1]) for ring in polygon]
        for feature in collection["features"]
        for polygon in polygons_of(feature["geometry"])
    ]
    assert np.array_equal(burnt(rings, dense.shape), dense)


def test_nothing_found_is_an_empty_file_that_reads(tmp_path: Path) -> None:
    found = answer(np.zeros((9, 9), bool), georeference=TENTH)
    assert saved(found, tmp_path / "a.geojson")["features"] == []
    found.save(tmp_path / "a.gpkg")
    about = pyogrio.read_info(tmp_path / "a.gpkg")
    assert about["features"] == 0
    assert about["crs"] == "EPSG:32632"
    assert (
        list(about["ogr_types"])
        == ["OFTString", "OFTReal", "OFTReal", "OFTInteger64"] + ["OFTString"] * 2
    )


@pytest.mark.parametrize("geographic", [False, True])
def test_a_geopackage_keeps_the_scene_s_own_coordinates(geographic: bool, tmp_path: Path) -> None:
    dense, random = ring_with_island(), np.random.default_rng(3)
    place = transform(random, geographic)
    found = answer(dense, georeference=place)
    found.save(tmp_path / "a.gpkg")
    meta, _, shapes, columns = pyogrio.raw.read(tmp_path / "a.gpkg", layer="answer")
    assert CRS.from_user_input(meta["crs"]) == CRS.from_epsg(4326 if geographic else 32632)
    table = dict(zip(meta["fields"], columns, strict=True))
    assert list(table) == ["prompt", "score", "area_m2", "area_px", "source", "model"]
    assert table["area_px"].sum() == dense.sum()
    assert set(table["prompt"]) == {"every ship"}
    assert set(table["source"]) == {"harbour.tif"}
    (whole,) = json_areas(instances(found), tmp_path)
    assert table["area_m2"].sum() == pytest.approx(whole, rel=1e-9)
    rings = []
    for shape in shapely.from_wkb(shapes):
        assert shape.is_valid
        for part in shape.geoms:
            edges = [part.exterior, *part.interiors]
            rings.append([place.to_pixels(np.array(ring.coords)[:-1]) for ring in edges])
    for polygon in rings:
        for ring in polygon:
            # 5e6 m and 0.05 degrees leave a double about 1e-9 m and 1e-15 degrees.
            assert np.abs(ring - np.round(ring)).max() < 1e-6
    assert np.array_equal(burnt(rings, dense.shape), dense)


def json_areas(found: Answer, folder: Path) -> list[float]:
    collection = saved(found, folder / "areas.geojson")
    return [feature["properties"]["area_m2"] for feature in collection["features"]]


def test_a_geopackage_without_a_place_lies_in_an_undefined_plane(tmp_path: Path) -> None:
    answer(ring_with_island()).save(tmp_path / "a.gpkg")
    about = pyogrio.read_info(tmp_path / "a.gpkg")
    assert "Undefined Cartesian" in about["crs"]
    assert list(about["total_bounds"]) == [3, 2, 32, 27]
    table = pyogrio.raw.read(tmp_path / "a.gpkg")
    assert np.isnan(table[3][list(table[0]["fields"]).index("area_m2")]).all()


@pytest.mark.parametrize("ending", [".geojson", ".gpkg"])
def test_several_prompts_share_a_file(ending: str, tmp_path: Path) -> None:
    dense = ring_with_island()
    both = [
        instances(answer(dense, georeference=TENTH)),
        instances(answer(~dense, georeference=TENTH, prompt="water")),
    ]
    path = save_all(both, tmp_path / f"a{ending}")
    meta, _, _, columns = pyogrio.raw.read(path)
    assert list(columns[list(meta["fields"]).index("prompt")]) == ["every ship", "water"]


def test_scenes_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    dense = ring_with_island()
    here, nowhere = answer(dense, georeference=TENTH), answer(dense)
    far = answer(dense, georeference=Georeference(WGS84, (1e-6, 0, 9, 0, -1e-6, 48)))
    with pytest.raises(OutputError, match="two files"):
        save_all([here, nowhere], tmp_path / "a.geojson")
    with pytest.raises(OutputError, match=r"different coordinate reference systems.*\.geojson"):
        save_all([here, far], tmp_path / "a.gpkg")
    save_all([here, far], tmp_path / "both.geojson")
    local = Georeference('LOCAL_CS["a survey",UNIT["metre",1]]', TENTH.transform)
    with pytest.raises(OutputError, match=r"WGS 84.*save as \.gpkg"):
        answer(dense, georeference=local).save(tmp_path / "a.geojson")
    assert [path.name for path in tmp_path.iterdir()] == ["both.geojson"]


@pytest.mark.parametrize(
    ("ending", "module"), [(".gpkg", "pyogrio.raw"), (".gpkg", "shapely"), (".tif", "rasterio")]
)
def test_missing_packages_are_named_with_the_cure(
    ending: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    found = answer(ring_with_island())
    with pytest.raises(OutputError, match=r"install geomag-vlm\[geo\]"):
        found.save(tmp_path / f"a{ending}")
    found.save(tmp_path / "a.geojson")
    assert [path.name for path in tmp_path.iterdir()] == ["a.geojson"]


@pytest.mark.parametrize("ending", [".json", ".geojson", ".gpkg", ".tif", ".TIFF"])
def test_a_full_disk_keeps_the_old_file(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if ending == ".geojson":
        monkeypatch.setattr("geomag.export.vector.json.dumps", full)
    for name in ("write_text", "write_bytes"):
        monkeypatch.setattr(f"pathlib.Path.{name}", full)
    monkeypatch.setattr("geomag.export.raster.copyfileobj", full)
    found = answer(ring_with_island(), georeference=TENTH)
    with pytest.raises(OutputError, match=r"a\.\w+ cannot be written: .*No space left"):
        found.save(path)
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".json", ".geojson", ".gpkg", ".tif"])
def test_a_place_that_cannot_be_written_to_is_named(ending: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here before")
    with pytest.raises(OutputError, match="cannot be written"):
        answer(ring_with_island()).save(tmp_path / "file" / f"a{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_several_answers_have_a_form_or_a_message(tmp_path: Path) -> None:
    found = answer(native(ring_with_island()))
    saved_list = json.loads(save_all([found, found], tmp_path / "a.json").read_text())
    assert [one["prompt"] for one in saved_list] == ["every ship"] * 2
    assert [one["model"] for one in saved_list] == ["tiny/default 0.3"] * 2
    for name in ("a.png", "folder"):
        with pytest.raises(OutputError, match=r"expected \.json, \.geojson, \.gpkg, \.tif"):
            save_all([found], tmp_path / name)
    with pytest.raises(OutputError, match="no answer"):
        save_all([], tmp_path / "b.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
