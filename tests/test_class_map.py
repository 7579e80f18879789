from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from PIL import Image

from geomag.class_map import Area, ClassMap
from geomag.errors import OutputError
from geomag.values import Size
from tests.export.answers import TENTH, PlacedScene, mapped, native
from tests.test_inference import errs


def test_areas_are_metres_where_the_scale_is_known() -> None:
    dense = np.zeros((30, 40), bool)
    dense[:10, :10] = True
    nowhere, scaled = (
        mapped([native(dense)], [native(~dense)]),
        PlacedScene(Size(30, 40), None, 0.5),
    )
    assert nowhere.areas["a"] == Area(100, None)
    assert mapped([native(dense)], scene=scaled).areas == {"a": Area(100, 25.0)}
    nothing = native(np.zeros((30, 40), bool))
    assert mapped([nothing], scene=scaled).areas == {"a": Area(0, 0)}
    placed = mapped([native(dense)], scene=PlacedScene(Size(30, 40), TENTH))
    assert placed.areas["a"].m2 == pytest.approx(1.0, rel=2e-3)


@pytest.fixture
def found() -> ClassMap:
    dense = np.zeros((60, 90), bool)
    dense[5:20, 10:40] = dense[40:50, 60:70] = True
    beside = np.zeros((60, 90), bool)
    beside[10:30, 30:80] = True
    masks = [native(dense)], [native(beside)], [native(np.zeros((60, 90), bool))]
    found = mapped(*masks, scene=PlacedScene(Size(60, 90), TENTH))
    return replace(found, classes=("ship", "harbour & été", "tank"))


def test_a_raster_has_numbers_and_beside_it_names(found: ClassMap, tmp_path: Path) -> None:
    written = found.save(tmp_path / "new" / "map.tif")
    assert written == [tmp_path / "new" / "map.tif", tmp_path / "new" / "map.tif.aux.xml"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "map.tif",
        "map.tif.aux.xml",
    ]
    with rasterio.open(written[0]) as file:
        assert np.array_equal(file.read(1), found.to_dense())
        assert set(np.unique(found.to_dense())) == {0, 1, 2}
        assert file.tags(1)["CLASS_2"] == "harbour & été"
        assert file.crs.to_epsg() == 32632
    assert "<Category>harbour &amp; été</Category>" in written[1].read_text(encoding="utf-8")


def test_polygons_carry_class_score_area_source_and_model(found: ClassMap, tmp_path: Path) -> None:
    found.save(tmp_path / "a.geojson")
    saved = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))["features"]
    assert [feature["properties"]["class"] for feature in saved] == [
        "ship",
        "ship",
        "harbour & été",
    ]
    assert saved[0]["properties"] == {
        "class": "ship",
        "prompt": "every a",
        "score": 1.0,
        "area_m2": pytest.approx(4.5, rel=2e-3),
        "area_px": 450,
        "source": "harbour.tif",
        "model": "tiny/default 0.3",
    }
    found.save(tmp_path / "a.gpkg")
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "a.gpkg")
    table = dict(zip(meta["fields"], columns, strict=True))
    assert list(table) == ["class", "prompt", "score", "area_m2", "area_px", "source", "model"]
    assert table["area_px"].tolist() == [450, 100, 1000 - 100]


def test_no_class_anywhere_is_a_file_that_reads(tmp_path: Path) -> None:
    nothing = mapped([native(np.zeros((9, 9), bool))], [], scene=PlacedScene(Size(9, 9), TENTH))
    for ending in (".tif", ".geojson", ".gpkg", ".png", ".json"):
        nothing.save(tmp_path / f"a{ending}")
    assert pyogrio.read_info(tmp_path / "a.gpkg")["features"] == 0
    assert pyogrio.read_info(tmp_path / "a.gpkg")["fields"][0] == "class"
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []
    assert json.loads((tmp_path / "a.json").read_text())["parts"] == []
    assert nothing.text == "a: none\nb: none"


def test_json_holds_areas_and_polygons(found: ClassMap, tmp_path: Path) -> None:
    found.save(tmp_path / "a.json")
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [(one["number"], one["class"], one["area_px"]) for one in saved["classes"]] == [
        (1, "ship", 550),
        (2, "harbour & été", 900),
        (3, "tank", 0),
    ]
    assert saved["classes"][2]["area_m2"] == 0
    assert sum(part["area_px"] for part in saved["parts"]) == 550 + 900
    outer = saved["parts"][1]["polygons"][0][0]
    assert sorted(outer) == [[60, 40], [60, 50], [70, 40], [70, 50]]


def test_the_picture_shows_classes_in_the_colours_of_the_legend(
    found: ClassMap, tmp_path: Path
) -> None:
    found.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        picture = np.array(file).astype(int)
    # 60 x 90 pixels are shown eight times as large, in a margin of 16; outlines are drawn over.
    assert picture.shape[0] == 2 * 16 + 60 * 8
    middle = picture[16 + 15 * 8, 16 + 20 * 8]
    assert middle.tolist() == [102, 56, 0]  # 0.4 of the first colour, over black
    assert picture[16 + 20 * 8, 16 + 70 * 8].tolist() == [0, 80, 102]
    assert picture[16 + 55 * 8, 16 + 5 * 8].tolist() == [0, 0, 0]


def test_other_endings_are_refused_and_failures_leave_nothing(
    found: ClassMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errs(
        OutputError,
        r"\.shp is not written; expected \.json",
        lambda: found.save(tmp_path / "a.shp"),
    )
    assert sorted(path.name for path in found.save(tmp_path / "folder")) == [
        "classes.json",
        "classes.png",
    ]
    (tmp_path / "map.tif").write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geomag.export.raster.copyfileobj", full)
    errs(OutputError, "No space left", lambda: found.save(tmp_path / "map.tif"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "map.tif"]
    assert (tmp_path / "map.tif").read_text() == "before"
