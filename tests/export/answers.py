"""Answers made by hand, of masks on scenes that lie somewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pyproj import CRS

from geomag.answer import Answer, Cost
from geomag.class_map import ClassMap
from geomag.export.shown import Shown
from geomag.masks import SceneMask
from geomag.scenes.georeference import Georeference
from geomag.tile import Tile
from geomag.values import Box, Level, Pixels, SceneInfo, Size, View

COST = Cost(views=2, new_views=1, pixels_read=900, share=0.5, tokens=12, seconds=0.25)
UTM = CRS.from_epsg(32632).to_wkt()
WGS84 = CRS.from_epsg(4326).to_wkt()
TENTH = Georeference(UTM, (0.1, 0.0, 612345.6, 0.0, -0.1, 5345678.9))
"""Pixels of 10 cm, north up."""


class PlacedScene:
    """A scene of nothing, somewhere."""

    def __init__(
        self,
        size: Size,
        georeference: Georeference | None = None,
        resolution: float | None = None,
        name: str = "harbour.tif",
    ) -> None:
        self.info = SceneInfo(size, 3, resolution, name)
        self.georeference = georeference

    def read(self, view: View, side: int) -> Pixels:
        return Pixels(torch.zeros(3, side, side), torch.ones(side, side, dtype=torch.bool))


def native(dense: np.ndarray, instance: bool = False) -> SceneMask:
    """A mask of one look that saw the whole scene at native resolution."""
    size = Size(*dense.shape)
    view = View(Box(0, 0, size.width, size.height), size, size)
    tile = Tile(view, dense.astype(np.uint8) * 255)
    return SceneMask(size, (tile,), 0, 0.75, instance=instance)


def answer(
    *masks: np.ndarray | SceneMask,
    georeference: Georeference | None = None,
    resolution: float | None = None,
    prompt: str = "every ship",
    name: str = "harbour.tif",
) -> Answer:
    drawn = [mask if isinstance(mask, SceneMask) else native(mask) for mask in masks]
    scene = PlacedScene(drawn[0].size, georeference, resolution, name)
    shown = Shown(prompt, "Here.", Level.PIXEL, tuple(drawn), (), ())
    return Answer(shown, scene, COST, "tiny/default 0.3")


def instances(found: Answer) -> Answer:
    masks = tuple(replace(mask, instance=True) for mask in found.masks)
    return replace(found, shown=replace(found.shown, masks=masks))


def mapped(*classes: list[SceneMask], scene: Any = None, names: str = "abcdefgh") -> ClassMap:
    """The first class is called a, the second b."""
    size = next(mask.size for masks in classes for mask in masks)
    scene = scene or PlacedScene(size)
    answers = [
        replace(
            answer(np.zeros((1, 1), bool)),
            shown=Shown(f"every {name}", "", Level.PIXEL, tuple(masks), (), ()),
            scene=scene,
        )
        for name, masks in zip(names, classes, strict=False)
    ]
    return ClassMap(tuple(names[: len(classes)]), tuple(answers))


def ring_with_island() -> np.ndarray:
    """A square ring, an island in it, and a lone pair that meets at a corner."""
    dense = np.zeros((30, 40), bool)
    dense[2:20, 3:25] = True
    dense[5:15, 8:20] = False
    dense[8:11, 11:14] = True
    dense[25, 30] = dense[26, 31] = True
    return dense


def burnt(polygons: list[list[np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels whose centres lie inside, by the even-odd rule; rings `[N, 2]` in pixels."""
    inside = np.zeros(shape, bool)
    centres = np.arange(shape[1]) + 0.5
    for polygon in polygons:
        for ring in polygon:
            for (x, y), (_, below) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                upper, lower = sorted((round(float(y)), round(float(below))))
                inside[upper:lower] ^= centres > x
    return inside
