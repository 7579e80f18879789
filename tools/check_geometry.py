"""Shows that the geometry is exact, on a scene and labels of your own.

  python tools/check_geometry.py IMAGE.tif LABELS.geojson
  python tools/check_geometry.py IMAGE.tif LABELS.geojson --copies original utm --report out.json

Instead of a trained model one is asked that knows the labels and draws them in every look. Its
answer, over views, assembly and export, is read back with other software and compared with the
labels on the map: for the scene as it is and for copies that lie rotated by 30 degrees, south up,
or are warped to UTM and to longitude and latitude. Where labels lie between pixels no mask is
equal to them; what GDAL makes of the same labels at native resolution is the limit beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import machine
import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray
from oracle import STRIDE, oracle
from pyproj import CRS
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from scene_copies import COPIES, Copy, Shapes, labelled, moved
from shapely.affinity import affine_transform
from tqdm import tqdm

from geomag import Predictor
from geomag.answer import Answer
from geomag.errors import DataError, GeoMagError
from geomag.scenes.overviews import prepare
from geomag.weights import replacing

PROMPT = "every label"


@dataclass(frozen=True, slots=True)
class Result:
    """What came back of one copy. `iou` and `limit` are of all labels together, `median` and
    `least` of single labels and the features that are most like them; `differing` counts the
    pixels of the .tif that GDAL would have burnt otherwise."""

    copy: str
    crs: str
    height: int
    width: int
    views: int
    labels: int
    features: int
    iou: dict[str, float]
    limit: float
    differing: int
    median: float
    least: float


# -- reading back ---------------------------------------------------------------------------------


def of_geojson(path: Path) -> Shapes:
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    return np.array([shapely.geometry.shape(item["geometry"]) for item in features], object)


def of_geopackage(path: Path, scene: Copy) -> Shapes:
    info, _, geometry, _ = pyogrio.raw.read(path)
    if CRS.from_user_input(info["crs"]) != CRS.from_user_input(scene.crs):
        raise DataError(f"{path}: its CRS is {info['crs']}, expected that of {scene.path}")
    found: Shapes = shapely.from_wkb(geometry)
    return found


def of_raster(path: Path, scene: Copy) -> tuple[NDArray[np.bool_], Shapes]:
    """What it marks, and the same as polygons."""
    with rasterio.open(path) as file:
        if (file.crs, file.transform) != (scene.crs, scene.transform):
            raise DataError(f"{path}: it lies elsewhere than {scene.path}")
        marked = file.read(1) == 1
    return marked, traced(marked, scene.transform)


def traced(marked: NDArray[np.bool_], transform: Affine) -> Shapes:
    """Marked pixels as polygons, by GDAL."""
    found = shapes(marked.astype(np.uint8), marked, transform=transform)
    return np.array([shapely.geometry.shape(shape) for shape, _ in found], object)


# -- comparing ------------------------------------------------------------------------------------


def union_iou(found: Shapes, labels: Shapes) -> float:
    """IoU of all that was found with all that is labelled."""
    one, other = (shapely.get_parts(shapely.union_all(shapes)) for shapes in (found, labels))
    first, second = shapely.STRtree(other).query(one, predicate="intersects")
    common = float(shapely.area(shapely.intersection(one[first], other[second])).sum())
    return common / float(shapely.area(one).sum() + shapely.area(other).sum() - common)


def single_ious(found: Shapes, labels: Shapes) -> NDArray[np.float64]:
    """For each label the IoU with the feature that is most like it."""
    best = np.zeros(len(labels))
    first, second = shapely.STRtree(found).query(labels, predicate="intersects")
    one, other = labels[first], found[second]
    common = shapely.area(shapely.intersection(one, other))
    np.maximum.at(best, first, common / (shapely.area(one) + shapely.area(other) - common))
    return best


def check(name: str, scene: Copy, folder: Path, side: int, overlap: int) -> Result:
    """Asks, saves, reads back and compares."""
    in_pixels = np.array(
        [affine_transform(one, (~scene.transform).to_shapely()) for one in scene.labels]
    )
    session = Predictor(oracle(in_pixels, side, overlap), dtype="float16").open(
        str(prepare(scene.path, cache=folder / "overviews", progress=False)),
        cache_bytes=0,
    )
    answer: Answer = session.ask(PROMPT)
    paths = {ending: folder / f"{name}{ending}" for ending in (".geojson", ".gpkg", ".tif")}
    for path in paths.values():
        answer.save(path)
    features = of_geopackage(paths[".gpkg"], scene)
    marked, outlines = of_raster(paths[".tif"], scene)
    burnt = rasterize(scene.labels, scene.shape, transform=scene.transform, dtype=np.uint8) > 0
    in_degrees = moved(scene.labels, scene.crs, "EPSG:4326")
    single = single_ious(features, scene.labels)
    return Result(
        copy=name,
        crs=scene.crs.to_string() if scene.crs.to_epsg() else "other",
        height=scene.shape[0],
        width=scene.shape[1],
        views=answer.cost.views,
        labels=len(scene.labels),
        features=len(features),
        iou={
            ".geojson": union_iou(of_geojson(paths[".geojson"]), in_degrees),
            ".gpkg": union_iou(features, scene.labels),
            ".tif": union_iou(outlines, scene.labels),
        },
        limit=union_iou(traced(burnt, scene.transform), scene.labels),
        differing=int((marked != burnt).sum()),
        median=float(np.median(single)),
        least=float(single.min()),
    )


def table(results: Sequence[Result]) -> str:
    head = ("copy", "CRS", "pixels", "views", "labels", "features", ".geojson", ".gpkg", ".tif")
    head += ("limit", "other pixels", "median label", "worst label")
    rows = [
        (
            *(one.copy, one.crs, f"{one.width} x {one.height}", str(one.views), str(one.labels)),
            *(str(one.features), *(f"{value:.4f}" for value in one.iou.values())),
            *(f"{one.limit:.4f}", str(one.differing), f"{one.median:.4f}", f"{one.least:.4f}"),
        )
        for one in results
    ]
    return machine.table(head, rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, help="a GeoTIFF")
    parser.add_argument("labels", type=Path, help="polygons: GeoJSON, GeoPackage or Shapefile")
    parser.add_argument("--copies", nargs="+", choices=COPIES, default=list(COPIES))
    parser.add_argument("--side", type=int, default=256, help="pixels of a look")
    parser.add_argument("--overlap", type=int, default=0, help="pixels that neighbours share")
    parser.add_argument("--keep", type=Path, help="a folder for the copies and the answers")
    parser.add_argument("--report", type=Path, help="where to write the numbers, .json")
    arguments = parser.parse_args()
    if arguments.side < STRIDE or arguments.side % STRIDE:
        parser.error(f"--side {arguments.side}: expected a multiple of {STRIDE}")
    results = []
    try:
        scene = labelled(arguments.image, arguments.labels)
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            for name in tqdm(arguments.copies, disable=None):
                copy = COPIES[name](scene, folder / f"scene-{name}.tif")
                results.append(check(name, copy, folder, arguments.side, arguments.overlap))
        print(table(results))
        if arguments.report:
            with replacing(arguments.report) as path:
                path.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    except (GeoMagError, rasterio.errors.RasterioError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
