"""Parts of a scene that somebody named, as polygons in its pixels."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Scene
from ..errors import SceneError
from .georeference import Georeference, Points

Polygon = Sequence[Points]
"""An outer ring, then its holes, in scene pixels; the first point need not stand at the end too."""
Region = (
    tuple[float, float, float, float]
    | str
    | os.PathLike[str]
    | Mapping[str, Any]
    | Sequence[Sequence[Sequence[Sequence[float]]]]
)
"""Bounds (least x, least y, most x, most y) in the scene's coordinate reference system, in pixels
where it has none; a file of polygons; GeoJSON; or polygons in scene pixels, as `to_polygons`
of a mask gives them."""

DEGREES = "EPSG:4326"
_STARTS = {
    ".gpkg": b"SQLite format 3\0",
    ".shp": b"\0\0\x27\x0a",
    ".fgb": b"fgb\x03fgb",
}
_JSON = (".geojson", ".json")
_EXPECTED = f"expected {', '.join((*_JSON, *_STARTS))}"
_MARGIN = 0.05
_STEPS = 64


def polygons_in(region: Region, scene: Scene) -> list[Polygon]:
    """The polygons of a region in pixels of a scene; those far outside of it may be missing.

    GeoJSON is in WGS 84 longitude and latitude (RFC 7946), other files say in what they are. Of a
    scene without a coordinate reference system all are in pixels, y down.

    Raises:
        SceneError: the region cannot be read, is empty, or does not go with the scene.
    """
    georeference: Georeference | None = getattr(scene, "georeference", None)
    if isinstance(region, str | os.PathLike):
        return _from_file(Path(region), scene, georeference)
    if isinstance(region, Mapping):
        shapes = _shapes_of_json(region, "the region", georeference is not None)
        return _placed(shapes, DEGREES, "the region", scene, georeference)
    items: Sequence[Any] = region if isinstance(region, Sequence | np.ndarray) else ()
    if len(items):
        if all(isinstance(number, Real) for number in items):
            return [[_rectangle(items, georeference)]]
        return [_polygon(rings) for rings in items]
    raise SceneError(
        f"region {region!r}: expected four bounds, a file, GeoJSON or a list of polygons"
    )


def _rectangle(bounds: Sequence[Any], georeference: Georeference | None) -> Points:
    numbers = [float(number) for number in bounds]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise SceneError(f"region {_list(numbers)}: expected four numbers, xmin,ymin,xmax,ymax")
    left, low, right, high = numbers
    if not (left < right and low < high):
        raise SceneError(
            f"region {_list(numbers)}: is empty; expected xmin,ymin,xmax,ymax with xmin below xmax "
            "and ymin below ymax"
        )
    corners = np.array([[left, low], [right, low], [right, high], [left, high]])
    return corners if georeference is None else georeference.to_pixels(corners)


def _polygon(rings: Sequence[Any]) -> Polygon:
    try:
        polygon = [np.asarray(ring, np.float64) for ring in rings]
    except (TypeError, ValueError) as error:
        raise SceneError(f"region: a polygon is not made of points: {error}") from error
    for ring in polygon:
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
            raise SceneError(
                f"region: a ring of shape {list(ring.shape)}; expected at least three finite "
                "points [x, y], in a list of polygons of rings"
            )
    return polygon


def _from_file(path: Path, scene: Scene, georeference: Georeference | None) -> list[Polygon]:
    ending = path.suffix.lower()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "no such file"
        raise SceneError(f"region {path}: {kind}; {_EXPECTED}, or bounds xmin,ymin,xmax,ymax")
    if ending not in (*_JSON, *_STARTS):
        raise SceneError(f"region {path}: {ending or 'no ending'} is not read; {_EXPECTED}")
    if ending in _JSON:
        shapes, crs = _shapes_of_json(_json(path), str(path), georeference is not None), DEGREES
    else:
        shapes, found = _shapes_of_layer(path)
        if (found is None) != (georeference is None):
            lacks = f"{path} has" if found is None else "the scene has"
            raise SceneError(
                f"region {path}: {lacks} no coordinate reference system, so that it is not known "
                "where in the scene it lies"
            )
        crs = found or DEGREES
    return _placed(shapes, crs, str(path), scene, georeference)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SceneError(f"region {path}: not JSON: {error}") from error


def _shapes_of_json(found: Any, name: str, placed: bool) -> list[Any]:
    """The geometries of GeoJSON, as shapely has them; `placed` ones have to be in degrees."""
    shapely = _needed("shapely", name)
    shape = _needed("shapely.geometry", name).shape
    try:
        shapes = [shape(geometry) for geometry in _geometries(found)]
    # Over what is no geometry shapely raises nearly anything.
    except Exception as error:
        raise SceneError(f"region {name}: not GeoJSON: {error}") from error
    if placed:
        edges = np.array([shape.bounds for shape in shapes if not shape.is_empty]).reshape(-1, 4)
        named = str(found.get("crs", "")) if isinstance(found, Mapping) else ""
        foreign = named and "CRS84" not in named and "4326" not in named
        if foreign or (np.abs(edges) > (180, 90, 180, 90)).any():
            raise SceneError(
                f"region {name}: not in WGS 84 longitude and latitude, which is what GeoJSON holds "
                "(RFC 7946); write it in that, or as .gpkg"
            )
    return list(shapely.force_2d(shapes))


def _geometries(found: Any) -> Iterator[Any]:
    """The geometries inside of a GeoJSON object."""
    kind = found["type"]
    if kind == "FeatureCollection":
        for feature in found["features"]:
            yield from _geometries(feature)
    elif kind == "Feature":
        if found["geometry"] is not None:
            yield from _geometries(found["geometry"])
    else:
        yield found


def _shapes_of_layer(path: Path) -> tuple[list[Any], str | None]:
    """The geometries of the one layer of polygons that a file has, and their system."""
    with path.open("rb") as file:
        start = file.read(16)
    # GDAL goes by contents: what names other files or addresses is not to reach it.
    if not start.startswith(_STARTS[path.suffix.lower()]):
        raise SceneError(f"region {path}: does not begin like a {path.suffix} file")
    pyogrio, raw = _needed("pyogrio", str(path)), _needed("pyogrio.raw", str(path))
    shapely = _needed("shapely", str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is unusual in a file that is used anyway
            layers = [str(layer) for layer, kind in pyogrio.list_layers(path) if kind is not None]
            if len(layers) == 1:
                meta, _, geometry, _ = raw.read(path, layer=layers[0], columns=[], force_2d=True)
                return list(shapely.from_wkb(geometry)), meta["crs"]
    # GDAL's errors over a damaged file have no base class in common.
    except Exception as error:
        raise SceneError(f"region {path}: damaged or truncated: {error}") from error
    raise SceneError(
        f"region {path}: has {len(layers)} layers with geometries ({', '.join(layers) or 'none'}); "
        "expected one"
    )


def _placed(
    shapes: Sequence[Any], crs: str, name: str, scene: Scene, georeference: Georeference | None
) -> list[Polygon]:
    """The polygons among shapes of a system, in pixels of the scene."""
    shapely = _needed("shapely", name)
    areas = shapely.get_parts(shapely.make_valid(np.array(shapes, object)))
    areas = shapely.get_parts(areas)
    areas = areas[shapely.area(areas) > 0]
    if not len(areas):
        kinds = sorted({shape.geom_type for shape in shapes if shape is not None})
        held = f"only {', '.join(kinds)}" if kinds else "nothing"
        raise SceneError(f"region {name}: holds {held}; expected polygons")
    if georeference is not None:
        areas = _projected(shapely, areas, crs, name, scene, georeference)
    rings = [[ring.exterior, *ring.interiors] for ring in areas]
    return [_polygon([shapely.get_coordinates(ring) for ring in polygon]) for polygon in rings]


def _projected(
    shapely: Any, areas: NDArray[Any], crs: str, name: str, scene: Scene, grid: Georeference
) -> NDArray[Any]:
    """Polygons of a system in scene pixels. What lies far away goes first: projections do not hold
    there; and sides are cut, because straight ones of one system are curves in another."""
    pyproj = _needed("pyproj", name)
    height, width = scene.info.size.height, scene.info.size.width
    corners = grid.to_map(np.array([[0.0, 0], [width, 0], [width, height], [0, height]]))
    try:
        there = pyproj.Transformer.from_crs(crs, grid.crs, always_xy=True)
        extent = there.transform_bounds(
            *corners.min(0), *corners.max(0), direction="INVERSE", densify_pts=_STEPS
        )
        left, low, right, high = extent
        # A scene across the antimeridian ends before it begins.
        if np.isfinite(extent).all() and left < right:
            wide, tall = right - left, high - low
            near = shapely.box(
                left - _MARGIN * wide, low - _MARGIN * tall,
                right + _MARGIN * wide, high + _MARGIN * tall,
            )  # fmt: skip
            if not shapely.intersects(areas, near).any():
                held = shapely.total_bounds(areas)
                raise SceneError(f"{name}: {outside(held, extent)}")
            parts = shapely.get_parts(shapely.get_parts(shapely.intersection(areas, near)))
            areas = shapely.segmentize(parts[shapely.area(parts) > 0], max(wide, tall) / _STEPS)
        moved = shapely.transform(
            areas, lambda points: grid.to_pixels(np.stack(there.transform(*points.T), axis=1))
        )
    except pyproj.exceptions.ProjError as error:
        raise SceneError(
            f"region {name}: there is no way from its coordinates to those of the scene: {error}"
        ) from error
    return np.asarray(moved)


def outside(region: NDArray[np.float64], extent: NDArray[np.float64]) -> str:
    """What is said of a region that meets nothing of a scene; both as xmin, ymin, xmax, ymax."""
    degrees = bool((np.abs(region) <= (180, 90, 180, 90)).all()) and np.abs(extent).max() > 360
    hint = "; it looks like degrees, and those of the scene are none" if degrees else ""
    return f"the region {_list(region)} lies outside the scene, which spans {_list(extent)}{hint}"


def _list(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:.10g}" for number in numbers)


def _needed(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise SceneError(
            f"region {name}: cannot be read without {module.partition('.')[0]} ({error}); install "
            "geomag-vlm[geo], or give bounds"
        ) from error
