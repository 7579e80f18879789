"""Features in files: `.geojson`, which everything reads, and `.gpkg`, in the scene's own CRS."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..outline import Ring
from ..scenes.georeference import Georeference, Points
from .extras import needed
from .features import Feature, Features, degrees, doubled_area, value

LAYER = "answer"
DECIMALS = 10
"""Of degrees: a hundredth of a millimetre, so that pixel edges stay where they are."""
NOTE = (
    "The scene has no coordinate reference system: coordinates are scene pixels, x to the right "
    "and y down from its upper left corner, not longitude and latitude."
)
UNDEFINED_CARTESIAN = -1
"""How GeoPackage says that coordinates lie in a plane that is nowhere on the earth."""


def write_geojson(path: Path, answers: Sequence[Features]) -> None:
    """GeoJSON after RFC 7946: WGS 84 longitude and latitude, outer rings counterclockwise.

    Of scenes without a CRS it holds pixel coordinates, and a `note` that says so.

    Raises:
        OutputError: only some of the scenes have a CRS, or one does not lead to WGS 84.
    """
    if len({found.georeference is None for found in answers}) > 1:
        raise OutputError(
            "some of these scenes have a coordinate reference system and others none; save them "
            "in two files"
        )
    note = any(found.georeference is None for found in answers)
    head = {"type": "FeatureCollection", **({"note": NOTE} if note else {}), "features": []}
    opening, closing = json.dumps(head).split("[]")
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{opening}[")
        # One by one, a line each: the file may be large, and people look into it.
        separator = "\n"
        for found in answers:
            for item in found.items:
                feature = _geojson(item, found)
                file.write(separator + json.dumps(feature, ensure_ascii=False, allow_nan=False))
                separator = ",\n"
        file.write(f"\n]{closing}\n")


def write_geopackage(path: Path, answers: Sequence[Features]) -> None:
    """A GeoPackage with one layer, `answer`, in the CRS of the scene; all of one kind of features.

    Of scenes without a CRS it holds pixel coordinates, y down, in GeoPackage's undefined plane.

    Raises:
        OutputError: the scenes have different ones, or pyogrio or shapely is not installed.
    """
    systems = {None if found.georeference is None else found.georeference.crs for found in answers}
    if len(systems) != 1:
        raise OutputError(
            "these scenes have different coordinate reference systems, and a .gpkg layer holds "
            "one; save each answer by itself, or all as .geojson"
        )
    (crs,) = systems
    # Imported before anything is computed: what is missing shows at once.
    raw, shapely = needed("pyogrio.raw", "a .gpkg file"), needed("shapely", "a .gpkg file")
    items = [item for found in answers for item in found.items]
    shapes = [_shape(item, found.georeference) for found in answers for item in found.items]
    geometry = np.empty(len(shapes), object)
    geometry[:] = [shapely.to_wkb(shapely.MultiPolygon(shape)) for shape in shapes]
    options = {} if crs is not None else {"SRID": str(UNDEFINED_CARTESIAN)}
    columns = answers[0].columns
    # In memory, because SQLite would leave journals beside a file that fails.
    package = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            raw.write(
                package,
                geometry=geometry,
                field_data=_data(items, columns),
                fields=np.array(columns),
                layer=LAYER,
                driver="GPKG",
                geometry_type="MultiPolygon",
                crs=crs,
                # Readers of a few years ago, as in Debian 12, warn of what is newer.
                dataset_options={"VERSION": "1.2"},
                layer_options=options,
            )
    except (RuntimeError, ValueError) as error:  # what all errors of pyogrio derive from
        raise OutputError(f"the .gpkg file cannot be written: {error}") from error
    path.write_bytes(package.getbuffer())


def _geojson(item: Feature, found: Features) -> dict[str, Any]:
    polygons = [
        [_closed(ring, found.georeference, hole=place > 0) for place, ring in enumerate(polygon)]
        for polygon in item.polygons
    ]
    if len(polygons) == 1:
        geometry = {"type": "Polygon", "coordinates": polygons[0]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    properties = {column: value(item, column) for column in found.columns}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: Ring, georeference: Georeference | None, hole: bool) -> list[list[float]]:
    """Counterclockwise, holes clockwise; the last point is the first again."""
    points = np.array(ring) if georeference is None else degrees(ring, georeference)
    if (doubled_area(points) < 0) != hole:
        points = points[::-1]
    closed: list[list[float]] = np.round([*points, points[0]], DECIMALS).tolist()
    return closed


def _shape(item: Feature, georeference: Georeference | None) -> list[tuple[Points, list[Points]]]:
    """Outer rings with their holes, in coordinates of the map."""
    shape = []
    for polygon in item.polygons:
        rings = [np.array(ring) for ring in polygon]
        if georeference is not None:
            rings = [georeference.to_map(ring) for ring in rings]
        shape.append((rings[0], rings[1:]))
    return shape


def _data(items: Sequence[Feature], columns: Sequence[str]) -> list[Any]:
    kinds = {"score": float, "area_m2": float, "area_px": np.int64}
    return [
        np.array([value(item, column) for item in items], kinds.get(column, object))
        for column in columns
    ]
