"""Masks as things on a map: outlines and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from ..contracts import Scene
from ..errors import OutputError
from ..masks import SceneMask
from ..outline import Polygon, Ring
from ..scenes.georeference import Georeference, Points
from .extras import needed
from .parts import Thing, things
from .shown import Shown

LONGEST_EDGE = 256
"""Scene pixels. A straight line of a scene is a curve in degrees; what is as short as this strays
from it by a thousandth of a pixel or so where pixels measure decimetres."""


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """One thing: `polygons` in scene pixels, which meet at corners at most.

    `score` in [0, 1] is how sure the model is of it. `area_m2` is that of the ground on the
    ellipsoid, None where nothing is known of the scene's place and scale. `label` is the name of
    its class in a map of classes.
    """

    polygons: Sequence[Polygon]
    prompt: str
    score: float
    area_m2: float | None
    area_px: int
    source: str
    model: str
    label: str = ""


PROPERTIES = ("prompt", "score", "area_m2", "area_px", "source", "model")
"""What a feature carries beside its polygons, in the order of columns."""
CLASS = "class"
"""The column, before the others, that a map of classes has beside them."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What was found in one scene, and where its pixels lie; `labelled` in a map of classes."""

    georeference: Georeference | None
    items: tuple[Feature, ...]
    labelled: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what features carry beside their polygons."""
        return (CLASS, *PROPERTIES) if self.labelled else PROPERTIES


def value(item: Feature, column: str) -> Any:
    """What stands in a column of a feature."""
    return item.label if column == CLASS else getattr(item, column)


def features(scene: Scene, answer: Shown, model: str = "") -> Features:
    """The masks of an answer: a feature for each instance, where masks are instances, and for each
    connected part of the others. Pixels that meet at a corner are connected.

    An instance has its own score, a connected part the mean of the probability over its pixels.

    Raises:
        OutputError: the scene has a place on the ground, and pyproj is not installed.
    """
    items = [
        feature(scene, thing, answer.prompt, model)
        for mask in answer.masks
        for thing in things([[mask]])[0]
    ]
    return Features(georeference_of(scene), tuple(items))


def class_features(
    scene: Scene,
    classes: Sequence[str],
    prompts: Sequence[str],
    masks: Sequence[Sequence[SceneMask]],
    model: str = "",
) -> Features:
    """The masks of each class as features that share no pixel: `MaskStack` says whose each is.

    Features and scores are as in `features`; what other classes leave of an instance stays one.

    Raises:
        OutputError: the scene has a place on the ground, and pyproj is not installed.
    """
    layers: list[Sequence[SceneMask]] = []
    of: list[int] = []
    for place, drawn in enumerate(masks):
        # A class is one layer; its instances are one each, so that they stay apart.
        own = [[mask] for mask in drawn] if any(mask.instance for mask in drawn) else [drawn]
        layers.extend(own)
        of.extend([place] * len(own))
    items = [
        feature(scene, thing, prompts[place], model, classes[place])
        for place, layer in zip(of, things(layers), strict=True)
        for thing in layer
    ]
    return Features(georeference_of(scene), tuple(items), labelled=True)


def feature(scene: Scene, thing: Thing, prompt: str, model: str, label: str = "") -> Feature:
    """A thing with what is known of it."""
    return Feature(
        polygons=thing.polygons,
        prompt=prompt,
        score=thing.score,
        area_m2=ground_area(thing.polygons, georeference_of(scene), scene.info.resolution),
        area_px=pixel_area(thing.polygons),
        source=scene.info.name,
        model=model,
        label=label,
    )


def georeference_of(scene: Scene) -> Georeference | None:
    """Where the pixels of a scene lie; None where it does not say."""
    found: Georeference | None = getattr(scene, "georeference", None)
    return found


def pixel_area(polygons: Sequence[Polygon]) -> int:
    """How many scene pixels lie inside."""
    return round(sum(sign * abs(doubled_area(ring)) for sign, ring in _signed(polygons)) / 2)


def ground_area(
    polygons: Sequence[Polygon], georeference: Georeference | None, resolution: float | None
) -> float | None:
    """Square metres inside: on the ellipsoid, or by metres per pixel where that is all there is."""
    if georeference is None:
        return None if resolution is None else pixel_area(polygons) * resolution**2
    errors = needed("pyproj", "the area of a feature").exceptions
    try:
        area = sum(sign * georeference.area(along(ring)) for sign, ring in _signed(polygons))
    except (errors.CRSError, errors.ProjError):
        return None
    return area if isfinite(area) else None


def degrees(ring: Ring, georeference: Georeference) -> Points:
    """A ring as WGS 84 longitude and latitude, with as many points as it takes.

    Raises:
        OutputError: there is no way from the scene's coordinates to WGS 84.
    """
    errors = needed("pyproj", "longitude and latitude").exceptions
    try:
        places = georeference.to_degrees(along(ring))
        reason = "" if np.isfinite(places).all() else "the scene lies outside its domain"
    except (errors.CRSError, errors.ProjError) as error:
        reason = str(error)
    if reason:
        raise OutputError(
            "the scene's coordinate reference system does not lead to the WGS 84 longitude and "
            f"latitude that .geojson holds ({reason}); save as .gpkg, which keeps the scene's own"
        )
    return places


def along(ring: Ring) -> Points:
    """The points of a ring, and more of them on edges longer than `LONGEST_EDGE`."""
    start = np.array(ring)
    edges = np.roll(start, -1, axis=0) - start
    pieces = np.maximum(np.ceil(np.hypot(*edges.T) / LONGEST_EDGE), 1).astype(np.int64)
    before = np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = (np.arange(pieces.sum()) - before) / np.repeat(pieces, pieces)
    points: Points = np.repeat(start, pieces, axis=0)
    points += np.repeat(edges, pieces, axis=0) * share[:, None]
    return points


def doubled_area(ring: Ring | Points) -> float:
    """Twice the area inside a ring: above 0 where it turns from the first axis to the second."""
    points = np.asarray(ring)
    # Near the origin, so that large coordinates cost no digits.
    x, y = (points - points[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _signed(polygons: Sequence[Polygon]) -> Iterator[tuple[int, Ring]]:
    """Rings with 1 for outer ones, -1 for holes."""
    for outer, *holes in polygons:
        yield 1, outer
        yield from ((-1, hole) for hole in holes)
