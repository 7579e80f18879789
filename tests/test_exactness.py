"""From the pixels of a GeoTIFF to outlines on the map and back, nothing moves."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomag import Predictor
from geomag.model import GeoMag
from geomag.scenes.overviews import prepare
from geomag.values import Look, LookMasks
from tests.scenes.rasters import real, write
from tests.stand_ins import Closest, Moody, Parrot, Shades

pytest.importorskip("pyogrio", reason="pyogrio is missing: install geomag-vlm[geo]")

import pyogrio.raw
import rasterio
import rasterio.windows
import shapely
from pyproj import Transformer
from rasterio.features import shapes
from rasterio.transform import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject

ROOT = Path(__file__).resolve().parents[1]
CRS = "EPSG:3857"
HEIGHT, WIDTH = 420, 500
PLACE = Affine(0.15, 0, 9_519_391.07, 0, -0.15, 3_203_475.86)
BANEPA = "banepa_oam/banepa_z19.tif"


def painted() -> np.ndarray:
    """Buildings of all forms, some with courts, one a pixel wide, two that meet at a corner."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    random = np.random.default_rng(3)
    for _ in range(25):
        middle = random.uniform((0, 0), (WIDTH, HEIGHT)).tolist()
        corners = cv2.boxPoints((middle, random.uniform(6, 110, 2).tolist(), random.uniform(0, 90)))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], int(random.choice([0, 255, 255])))
    canvas[200, 40:460] = 255
    canvas[300:310, 60:70] = canvas[310:320, 70:80] = 255
    return canvas


class Bright(nn.Module):
    """Marks what is bright in a look: what it draws is what was read."""

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        return [
            LookMasks(
                (look.pixels.mean(0, keepdim=True) - 0.5) * 40, torch.tensor([0]), torch.ones(1)
            )
            for look in looks
        ]


def placed(folder: Path, how: str) -> Path:
    """The painted buildings in a GeoTIFF that lies as it is asked for."""
    pixels, transform, crs = painted(), PLACE, CRS
    if how == "rotated":
        transform = Affine.rotation(30, pivot=PLACE * (WIDTH / 2, HEIGHT / 2)) * PLACE
    elif how == "south-up":
        pixels, transform = pixels[::-1], PLACE * Affine(1, 0, 0, 0, -1, HEIGHT)
    elif how != "original":
        crs = how
        edges = rasterio.transform.array_bounds(HEIGHT, WIDTH, PLACE)
        transform, width, height = calculate_default_transform(CRS, crs, WIDTH, HEIGHT, *edges)
        warped = np.zeros((height, width), np.uint8)
        known = {"src_transform": PLACE, "src_crs": CRS, "dst_transform": transform, "dst_crs": crs}
        reproject(pixels, warped, resampling=Resampling.nearest, **known)
        pixels = warped
    path = folder / "scene.tif"
    tiling = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    return write(path, np.stack([pixels] * 3), crs=crs, transform=transform, **tiling)


def traced(path: Path) -> shapely.Geometry:
    """What is marked in a file, as a shape on its map, by GDAL."""
    with rasterio.open(path) as file:
        band = file.read(1)
        found = shapes(band, (band > 0) & (band < 2) | (band > 127), transform=file.transform)
        return shapely.union_all([shapely.geometry.shape(shape) for shape, _ in found])


def strays(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """The share of two shapes that only one of them has."""
    return float(one.symmetric_difference(other).area / other.area)


@pytest.mark.parametrize("overlap", [0, 12])
@pytest.mark.parametrize("how", ["original", "rotated", "south-up", "EPSG:32645", "EPSG:4326"])
def test_what_is_seen_is_what_is_saved(how: str, overlap: int, tmp_path: Path) -> None:
    path = placed(tmp_path, how)
    model = GeoMag(
        vision_encoder={"type": Shades},
        llm_adapter={"type": Parrot},
        granularity_controller={"type": Closest},
        cropper={"type": Moody},
        mask_head=Bright(),
        overview_side=48,
        overlap=overlap,
    )
    answer = Predictor(model).open(str(prepare(path))).ask("every building", max_views=math.inf)
    geojson, geopackage, tif = (tmp_path / f"answer{e}" for e in (".geojson", ".gpkg", ".tif"))
    for file in (geojson, geopackage, tif):
        answer.save(file)

    with rasterio.open(path) as scene, rasterio.open(tif) as mask:
        assert np.array_equal(mask.read(1), scene.read(1) // 255)
        assert (mask.crs, mask.transform) == (scene.crs, scene.transform)
    truth = traced(path)
    info, _, geometry, _ = pyogrio.raw.read(geopackage)
    assert rasterio.CRS.from_user_input(info["crs"]) == rasterio.open(path).crs
    assert strays(shapely.union_all(shapely.from_wkb(geometry)), truth) < 1e-9
    assert strays(traced(tif), truth) < 1e-9
    features = json.loads(geojson.read_text())["features"]
    found = shapely.union_all([shapely.geometry.shape(item["geometry"]) for item in features])
    back = Transformer.from_crs("EPSG:4326", rasterio.open(path).crs, always_xy=True)
    # Ten decimals of a degree are a hundredth of a millimetre.
    assert strays(shapely.transform(found, back.transform, interleaved=False), truth) < 1e-4


def checked(folder: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    """What the tool reports."""
    report = folder / "report.json"
    tool = ROOT / "tools" / "check_geometry.py"
    ran = subprocess.run(
        [sys.executable, str(tool), *map(str, arguments), "--report", str(report)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    results: list[dict[str, Any]] = json.loads(report.read_text())
    return results


def assert_exact(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["differing"] == 0, result
        for iou in result["iou"].values():
            assert iou >= 0.98, result
            assert iou == pytest.approx(result["limit"], abs=1e-4), result


@pytest.mark.parametrize("overlap", ["0", "16"])
def test_an_oracle_s_polygons_come_back_from_every_copy(overlap: str, tmp_path: Path) -> None:
    image = placed(tmp_path, "original")
    # Off the grid of pixels, apart, one with a court, one over the scene's edge.
    polygons = [
        shapely.affinity.rotate(shapely.box(*edges), angle)
        for edges, angle in (
            ((20.3, 15.7, 140.2, 92.4), 12),
            ((200.6, 30.1, 330.9, 110.8), 33),
            ((390.2, 60.4, 560.7, 170.3), 0),
            ((40.9, 250.5, 170.1, 380.2), 45),
            ((300.4, 240.6, 420.8, 390.9), 71),
        )
    ]
    polygons[1] -= shapely.box(245, 55, 285, 85)
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    features = []
    for polygon in polygons:
        on_map = shapely.affinity.affine_transform(polygon, PLACE.to_shapely())
        placed_there = shapely.transform(on_map, to_degrees.transform, interleaved=False)
        geometry = shapely.geometry.mapping(placed_there)
        features.append({"type": "Feature", "properties": {}, "geometry": geometry})
    labels = tmp_path / "labels.geojson"
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    results = checked(tmp_path, image, labels, "--side", "64", "--overlap", overlap)
    assert [result["copy"] for result in results] == [
        *("original", "rotated", "south-up", "utm", "degrees")
    ]
    assert_exact(results)
    for result in results:
        assert result["features"] == result["labels"] == 5
        assert result["least"] >= 0.98


def test_real_labels_come_back_from_a_part_of_a_real_scene(tmp_path: Path) -> None:
    image = real(BANEPA)
    with rasterio.open(image) as scene:
        window = ((3000, 4000), (5000, 6000))
        values, transform = (
            scene.read(window=window),
            scene.window_transform(rasterio.windows.Window.from_slices(*window)),
        )
        part = write(tmp_path / "part.tif", values, crs=scene.crs, transform=transform)
    labels = image.with_name("buildings_osm.geojson")
    results = checked(tmp_path, part, labels, "--copies", "original", "degrees", "--side", "128")
    assert_exact(results)


@pytest.mark.slow
def test_real_labels_come_back_from_every_copy_of_a_real_scene(tmp_path: Path) -> None:
    image = real(BANEPA)
    results = checked(tmp_path, image, image.with_name("buildings_osm.geojson"))
    assert len(results) == 5
    assert results[0]["labels"] > 1000
    assert_exact(results)
