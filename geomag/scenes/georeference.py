"""Where the pixels of a scene lie on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SceneError

Points = NDArray[np.float64]
"""`[N, 2]`: x and y of each; of pixels, columns and rows counted from the outer corner."""


@dataclass(frozen=True)
class Georeference:
    """A coordinate reference system, as WKT, and the affine way into it.

    `transform` is `(a, b, c, d, e, f)` of `x = a column + b row + c`, `y = d column + e row + f`,
    as in rasterio: the corner of the first pixel is (c, f). Rotated and south-up ones are as good
    as any.

    Raises:
        SceneError: the transform cannot be inverted.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]

    def __post_init__(self) -> None:
        if not np.isfinite(self.transform).all() or not np.linalg.det(self._matrix):
            raise SceneError(
                f"the transform {self.transform} maps many pixels to one place; write a valid one "
                "into the file, as with `rio edit-info --transform`"
            )

    def to_map(self, pixels: Points) -> Points:
        """Points of the scene in map coordinates."""
        return pixels @ self._matrix.T + self._origin

    def to_pixels(self, places: Points) -> Points:
        """Points of the map in scene pixels.

        Map coordinates are large and pixels are small: the origin goes first, so that nothing is
        lost in the difference.
        """
        shifted = places - self._origin
        a, b, _, d, e, _ = self.transform
        x, y = shifted[:, 0], shifted[:, 1]
        determinant = a * e - b * d
        return np.stack([(e * x - b * y) / determinant, (a * y - d * x) / determinant], axis=1)

    def resolution(self, height: int, width: int) -> float:
        """Metres a pixel, in the middle of a scene of so many pixels.

        Of Mercator projections and degrees alike: the ground there, not the units of the map.
        """
        middle = np.array([[width / 2, height / 2]])
        corners = middle + np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
        area, _ = self._geod.polygon_area_perimeter(*self.to_degrees(corners).T)
        return float(np.sqrt(abs(area)))

    def area(self, pixels: Points) -> float:
        """Square metres of ground inside a ring of scene pixels, on the ellipsoid."""
        area, _ = self._geod.polygon_area_perimeter(*self.to_degrees(pixels).T)
        return abs(float(area))

    def to_degrees(self, pixels: Points) -> Points:
        """Points of the scene as WGS 84 longitude and latitude."""
        places = self.to_map(pixels)
        return np.stack(self._to_degrees.transform(places[:, 0], places[:, 1]), axis=1)

    @property
    def _matrix(self) -> NDArray[np.float64]:
        a, b, _, d, e, _ = self.transform
        return np.array([[a, b], [d, e]])

    @property
    def _origin(self) -> NDArray[np.float64]:
        return np.array([self.transform[2], self.transform[5]])

    @cached_property
    def _to_degrees(self) -> Any:
        from pyproj import Transformer

        return Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)

    @cached_property
    def _geod(self) -> Any:
        from pyproj import Geod

        return Geod(ellps="WGS84")
