from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyproj import CRS, Transformer

from geomag.answer import Answer
from geomag.errors import OutputError
from geomag.export.features import Features, along, features
from geomag.masks import SceneMask
from geomag.outline import Polygon, Ring
from geomag.scenes.georeference import Georeference
from geomag.tile import Tile
from geomag.values import Box, Size, View
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

DENSE = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def of(found: Answer) -> Features:
    return features(found.scene, found.shown, found.model)


def shape(polygons: list[Polygon]) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([(outer, holes) for outer, *holes in polygons])


def by_opencv(dense: np.ndarray) -> list[Polygon]:
    """Connected parts traced by OpenCV, on a doubled mask whose pixel edges have centres beside."""
    doubled = dense.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = [int(row[3]) for row in hierarchy[0]] if len(contours) else []
    found: dict[int, Polygon] = {place: [] for place, p in enumerate(parents) if p < 0}
    for place in sorted(range(len(contours)), key=lambda place: parents[place] >= 0):
        points = (contours[place][:, 0] + 1) // 2
        points = points[(points != np.roll(points, 1, axis=0)).any(1)]
        turns = (points - np.roll(points, 1, axis=0)) != 0
        points = points[(turns != np.roll(turns, -1, axis=0)).any(1)]
        owner = place if parents[place] < 0 else parents[place]
        found[owner].append(points.astype(float).tolist())
    return list(found.values())


def canonical(polygons: list[Polygon]) -> list[object]:
    """Whatever the order of polygons and holes, and where and in which direction rings begin."""

    def least(ring: Ring) -> tuple[object, ...]:
        points = [tuple(point) for point in ring]
        return min(
            tuple(way[start:] + way[:start])
            for way in (points, points[::-1])
            for start in range(len(way))
        )

    return sorted(
        (least(outer), tuple(sorted(least(hole) for hole in holes))) for outer, *holes in polygons
    )


@given(DENSE)
@settings(max_examples=200, deadline=None)
def test_polygons_are_those_that_opencv_traces(dense: np.ndarray) -> None:
    assert canonical(native(dense).to_polygons()) == canonical(by_opencv(dense))


@pytest.mark.parametrize("side", [1, 2, 5, 64])
@given(dense=DENSE)
@settings(max_examples=60, deadline=None)
def test_nothing_depends_on_the_cells_that_outlines_are_traced_by(
    side: int, dense: np.ndarray
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomag.masks._CELL", side)
        mask = native(dense)
        assert canonical(mask.to_polygons()) == canonical(by_opencv(dense))
        assert np.array_equal(
            burnt([p for part in mask.to_parts() for p in part], dense.shape), dense
        )


@given(DENSE)
@settings(max_examples=200, deadline=None)
def test_parts_are_valid_and_hold_exactly_the_pixels(dense: np.ndarray) -> None:
    parts = native(dense).to_parts()
    assert len(parts) == cv2.connectedComponents(dense.astype(np.uint8), connectivity=8)[0] - 1
    assert all(shape(part).is_valid for part in parts)
    assert np.array_equal(burnt([p for part in parts for p in part], dense.shape), dense)
    assert sum(shape(part).area for part in parts) == dense.sum()


def test_a_feature_for_each_part_or_for_each_instance() -> None:
    dense = ring_with_island()
    found = of(answer(dense, resolution=0.5)).items
    assert sorted(len(item.polygons) for item in found) == [1, 1, 2]
    assert sorted(len(item.polygons[0]) for item in found) == [1, 1, 2]
    assert sum(item.area_px for item in found) == dense.sum()
    (whole,) = of(instances(answer(dense, resolution=0.5))).items
    assert len(whole.polygons) == 4
    assert whole.area_px == dense.sum()
    assert whole.area_m2 == dense.sum() * 0.25
    assert (whole.prompt, whole.score) == ("every ship", 0.75)
    assert (whole.source, whole.model) == ("harbour.tif", "tiny/default 0.3")


def test_a_part_is_scored_by_its_own_pixels_and_an_instance_as_a_whole() -> None:
    scene = Size(40, 1100)
    levels = np.zeros((40, 1100), np.uint8)
    levels[5:10, 100:1050], levels[20:30, 3:7], levels[30, 7] = 204, 255, 153
    view = View(Box(0, 0, 1100, 40), scene, scene)
    found = answer(SceneMask(scene, (Tile(view, levels),), 0, 0.75))
    scores = {item.area_px: item.score for item in of(found).items}
    assert scores == {5 * 950: pytest.approx(0.8), 41: pytest.approx((40 + 0.6) / 41)}
    assert [item.score for item in of(instances(found)).items] == [0.75]


def test_what_is_not_there_is_no_feature() -> None:
    nothing = np.zeros((5, 5), bool)
    assert of(answer(nothing)).items == ()
    assert of(instances(answer(nothing))).items == ()
    assert of(answer(np.ones((5, 5), bool))).items[0].area_m2 is None


def test_no_slivers_along_the_seams_of_looks() -> None:
    scene = Size(60, 60)
    whole = View(Box(0, 0, 60, 60), Size(20, 20), scene)
    fine = [
        View(Box(left, top, left + 20, top + 20), Size(20, 20), scene)
        for top in (0, 20)
        for left in (20, 40)
    ]
    full = np.full((20, 20), 255, np.uint8)
    mask = SceneMask(scene, tuple(Tile(view, full) for view in (whole, *fine)), 0, 1.0)
    (item,) = of(answer(mask)).items
    assert canonical(list(item.polygons)) == canonical([[[[0, 0], [60, 0], [60, 60], [0, 60]]]])


@pytest.mark.parametrize("epsg", [32632, 3857, 4326, 2154])
def test_areas_are_those_of_the_ground(epsg: int) -> None:
    """Against the same pixels in an equal-area projection around them, edge by edge."""
    crs, dense = CRS.from_epsg(epsg), ring_with_island()
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(5.9, 48.4)
    step = 5e-6 if crs.is_geographic else 0.4
    place = Georeference(crs.to_wkt(), (step, step / 5, x, step / 7, -step, y))
    equal = CRS.from_proj4("+proj=laea +lat_0=48.4 +lon_0=5.9 +ellps=WGS84")
    to_equal = Transformer.from_crs(crs, equal, always_xy=True)
    expected = 0.0
    for row, column in zip(*np.nonzero(dense), strict=True):
        corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        corners += np.array([column, row])
        places = np.stack(to_equal.transform(*place.to_map(corners).T), axis=1)
        expected += shapely.Polygon(places).area
    (whole,) = of(instances(answer(dense, georeference=place))).items
    assert whole.area_m2 == pytest.approx(expected, rel=1e-6)


def test_long_edges_are_followed_over_the_ellipsoid() -> None:
    """Between two parallels, whose area has a closed form; the shortest way is another one."""
    place = Georeference(WGS84, (1e-5, 0.0, 10.0, 0.0, -1e-5, 60.0))
    corners = [[0.0, 0.0], [100_000.0, 0.0], [100_000.0, 50_000.0], [0.0, 50_000.0]]
    a, e = 6378137.0, 0.0818191908426215

    def below(latitude: float) -> float:
        s = np.sin(np.radians(latitude))
        term = s / (1 - (e * s) ** 2) + np.log((1 + e * s) / (1 - e * s)) / (2 * e)
        return float(a**2 * (1 - e**2) / 2 * term)

    exact = np.radians(1.0) * (below(60.0) - below(59.5))
    assert place.area(along(corners)) == pytest.approx(exact, rel=1e-8)
    assert place.area(np.array(corners)) != pytest.approx(exact, rel=1e-5)


def test_a_mask_over_a_scene_of_60000_pixels_costs_what_is_in_it() -> None:
    scene = Size(60_000, 60_000)
    tiles = [
        Tile(View(Box(at, at, at + 512, at + 512), Size(512, 512), scene), np.full((512, 512), 255))
        for at in range(0, 59_000, 6144)
    ]
    mask = SceneMask(scene, tuple(tiles), 0, 1.0)
    tracemalloc.start()
    found = of(answer(mask, georeference=TENTH)).items
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.area_px for item in found] == [512 * 512] * len(tiles)
    assert peak < 150 << 20


def test_unprojectable_ground_has_no_area() -> None:
    local = 'LOCAL_CS["a survey",UNIT["metre",1]]'
    assert of(answer(ring_with_island(), georeference=Georeference(local, TENTH.transform))).items


def test_a_missing_package_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyproj", None)
    with pytest.raises(OutputError, match=r"pyproj.*install geomag-vlm\[geo\]"):
        of(answer(ring_with_island(), georeference=Georeference(UTM, TENTH.transform)))
