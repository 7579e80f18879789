"""A labelled scene, and copies of it that lie otherwise on the map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import rasterio
import rasterio.shutil
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from shapely.affinity import affine_transform

from geomag.errors import DataError

Shapes = NDArray[np.object_]
ANGLE = 30.0
STORED = {"driver": "GTiff", "tiled": True, "compress": "deflate", "zlevel": 1}
ROWS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A scene, and where the labels lie in the coordinates of its map."""

    path: Path
    labels: Shapes

    @property
    def crs(self) -> Any:
        with rasterio.open(self.path) as file:
            return file.crs

    @property
    def transform(self) -> Affine:
        with rasterio.open(self.path) as file:
            return file.transform

    @property
    def shape(self) -> tuple[int, int]:
        with rasterio.open(self.path) as file:
            return int(file.height), int(file.width)


def labelled(image: Path, labels: Path) -> Copy:
    """The scene as it is, with the polygons of a vector file, as far as the scene shows them.

    Raises:
        DataError: the files do not go together.
    """
    with rasterio.open(image) as file:
        crs, transform = file.crs, file.transform
        corners = np.array([(0, 0), (file.width, 0), (file.width, file.height), (0, file.height)])
    if crs is None:
        raise DataError(f"{image}: it does not say where it lies; give a GeoTIFF with a CRS")
    info, _, geometry, _ = pyogrio.raw.read(labels)
    found = shapely.from_wkb(geometry)
    found = found[np.isin(shapely.get_type_id(found), (3, 6))]
    if info["crs"] is None or not len(found):
        raise DataError(f"{labels}: expected polygons, and a coordinate reference system")
    ground = shapely.Polygon(np.stack(transform * corners.T, axis=1))
    found = shapely.make_valid(moved(found, info["crs"], crs))
    found = np.array([_areas(one) for one in shapely.intersection(found, ground)], object)
    found = found[shapely.area(found) > 0]
    if not len(found):
        raise DataError(f"{labels}: none of its polygons lies in {image}")
    return Copy(image, found)


def _areas(geometry: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a shape, without the points and lines that cutting leaves."""
    parts = shapely.get_parts(geometry)
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def rotated(scene: Copy, path: Path) -> Copy:
    """The same pixels, placed askew; the labels go with them."""
    height, width = scene.shape
    turn = Affine.rotation(ANGLE, pivot=scene.transform * (width / 2, height / 2))
    _stored(scene, path, turn * scene.transform, slice(None))
    return Copy(path, np.array([affine_transform(one, turn.to_shapely()) for one in scene.labels]))


def south_up(scene: Copy, path: Path) -> Copy:
    """The rows from south to north, and a transform that says so."""
    flipped = scene.transform * Affine(1, 0, 0, 0, -1, scene.shape[0])
    _stored(scene, path, flipped, slice(None, None, -1))
    return Copy(path, scene.labels)


def utm(scene: Copy, path: Path) -> Copy:
    """Warped to the zone it lies in."""
    height, width = scene.shape
    middle = scene.transform * (width / 2, height / 2)
    to_degrees = Transformer.from_crs(scene.crs, "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform(*middle)
    zone = int((longitude + 180) // 6) % 60 + 1
    return _warped(scene, path, f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}")


def degrees(scene: Copy, path: Path) -> Copy:
    """Warped to longitude and latitude."""
    return _warped(scene, path, "EPSG:4326")


COPIES: dict[str, Callable[[Copy, Path], Copy]] = {
    "original": lambda scene, _: scene,
    "rotated": rotated,
    "south-up": south_up,
    "utm": utm,
    "degrees": degrees,
}


def _stored(scene: Copy, path: Path, transform: Affine, order: slice) -> None:
    """The pixels of a scene, their rows in an order, at another place."""
    with rasterio.open(scene.path) as source:
        known = {"crs": source.crs, "transform": transform, "nodata": source.nodata}
        known |= {"count": source.count, "dtype": source.dtypes[0]}
        size = {"height": source.height, "width": source.width}
        with rasterio.open(path, "w", **STORED, **known, **size) as file:
            file.colorinterp = source.colorinterp
            for top in range(0, source.height, ROWS):
                rows = range(source.height)[order][top : top + ROWS]
                first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
                read = source.read(window=((first, last + 1), (0, source.width)))
                file.write(read[:, order], window=((top, top + len(rows)), (0, source.width)))


def _warped(scene: Copy, path: Path, crs: str) -> Copy:
    with rasterio.open(scene.path) as source:
        # What the warped grid has at its corners is not in the scene.
        bare = source.nodata is None and "alpha" not in [c.name for c in source.colorinterp]
        how = {"resampling": Resampling.bilinear, "add_alpha": bare}
        with WarpedVRT(source, crs=crs, **how) as warped:
            rasterio.shutil.copy(warped, path, **STORED)
    return Copy(path, moved(scene.labels, scene.crs, crs))


def moved(geometry: Shapes, crs: Any, to: Any) -> Shapes:
    """Shapes in the coordinates of another reference system."""
    way = Transformer.from_crs(CRS.from_user_input(crs), CRS.from_user_input(to), always_xy=True)
    found: Shapes = shapely.transform(geometry, way.transform, interleaved=False)
    return found
