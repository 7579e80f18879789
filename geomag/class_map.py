"""What a session makes of a list of classes: a map in which every pixel has one of them or none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__
from .answer import Answer, Cost
from .contracts import Scene
from .errors import OutputError
from .export import raster, vector
from .export.features import Feature, Features, class_features, georeference_of
from .export.stack import MaskStack, cell_window, inside
from .masks import blocks
from .outline import Window
from .tile import window_of
from .values import Box
from .weights import replacing


@dataclass(frozen=True, slots=True)
class Area:
    """What a class covers: scene pixels, and square metres where the scene's scale is known."""

    pixels: int
    m2: float | None


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A scene divided among classes, in pixels of the scene; `answers[k]` is that to class k.

    A pixel is of the class whose masks are most probable there, the earlier one where two are
    alike, and of none where no mask lies above its threshold. It is kept as the masks, and painted
    where somebody looks.
    """

    classes: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def scene(self) -> Scene:
        return self.answers[0].scene

    @property
    def model(self) -> str:
        """Whose map it is, name and version."""
        return self.answers[0].model

    @property
    def cost(self) -> Cost:
        """What all answers took together; what several looked at counts once."""
        views = {seen.view for answer in self.answers for seen in answer.looks}
        costs = [answer.cost for answer in self.answers]
        return Cost(
            views=len(views),
            new_views=sum(cost.new_views for cost in costs),
            pixels_read=sum(cost.pixels_read for cost in costs),
            share=sum(view.size.area for view in views) / self.scene.info.size.area,
            tokens=sum(cost.tokens for cost in costs),
            seconds=sum(cost.seconds for cost in costs),
        )

    def to_dense(self, box: Box | None = None) -> NDArray[np.uint8]:
        """The classes `[H, W]`, of the scene or of a box of it: 1 is the first, 0 is none."""
        window = self._whole if box is None else window_of(box).meet(self._whole)
        dense = np.zeros((window.height, window.width), np.uint8)
        for block in blocks(window):
            dense[inside(block, window)] = self._stack.at(block)[0]
        return dense

    @cached_property
    def features(self) -> Features:
        """The polygons of all classes, which share no pixel: one for each connected part of a class
        or, where the mask head tells instances apart, for each instance.

        Raises:
            OutputError: the scene has a place on the ground, and pyproj is not installed.
        """
        prompts = [answer.prompt for answer in self.answers]
        masks = [answer.masks for answer in self.answers]
        return class_features(self.scene, self.classes, prompts, masks, self.model)

    @property
    def areas(self) -> dict[str, Area]:
        """What each class covers, in their order.

        Raises:
            OutputError: as `features`.
        """
        placed = georeference_of(self.scene) is not None
        found = {}
        for name, own in self._by_class().items():
            metres = [item.area_m2 for item in own if item.area_m2 is not None]
            known = (placed or self.scene.info.resolution is not None) and len(metres) == len(own)
            found[name] = Area(sum(item.area_px for item in own), sum(metres) if known else None)
        return found

    @property
    def text(self) -> str:
        """A line for each class: how many parts it has, and what they cover."""
        return "\n".join(line for line, _ in self._lines())

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes what the ending asks for: `.tif` a raster of class numbers with colours and names,
        `.geojson` and `.gpkg` polygons, `.png` a picture with a legend, `.json` areas and polygons,
        none a folder of the last two. Files appear whole or not at all. Returns what was written.

        Beside a `.tif` stands `NAME.tif.aux.xml`, where GDAL looks for the names of the classes.

        Raises:
            OutputError: the ending is another one, the place cannot be written to, or a package is
                not installed.
        """
        path = Path(path)
        if path.suffix and path.suffix.lower() not in FORMS:
            raise OutputError(
                f"{path}: {path.suffix} is not written; expected {', '.join(FORMS)}, or no ending "
                f"for a folder with {' and '.join(TOGETHER)}"
            )
        paths = [path] if path.suffix else [path / f"classes{ending}" for ending in TOGETHER]
        for file in list(paths):
            with ExitStack() as stack:
                if file.suffix.lower() in (".tif", ".tiff"):
                    paths.append(file.with_name(f"{file.name}.aux.xml"))
                    names = stack.enter_context(replacing(paths[-1]))
                    names.write_text(raster.category_names(self.classes), encoding="utf-8")
                FORMS[file.suffix.lower()](self, stack.enter_context(replacing(file)))
        return paths

    def to_json(self) -> dict[str, Any]:
        """The map in plain values; polygons in pixels of the scene."""
        info, areas = self.scene.info, self.areas
        return {
            "geomag": __version__,
            "scene": {
                "name": info.name,
                "height": info.size.height,
                "width": info.size.width,
                "resolution": info.resolution,
            },
            "model": self.model,
            "classes": [
                {
                    "number": number,
                    "class": name,
                    "prompt": answer.prompt,
                    "text": answer.text,
                    "area_px": areas[name].pixels,
                    "area_m2": areas[name].m2,
                }
                for number, (name, answer) in enumerate(
                    zip(self.classes, self.answers, strict=True), 1
                )
            ],
            "parts": [
                {
                    "class": item.label,
                    "score": item.score,
                    "area_px": item.area_px,
                    "area_m2": item.area_m2,
                    "polygons": item.polygons,
                }
                for item in self.features.items
            ],
            "cost": asdict(self.cost),
        }

    @cached_property
    def _stack(self) -> MaskStack:
        return MaskStack([answer.masks for answer in self.answers])

    @property
    def _whole(self) -> Window:
        size = self.scene.info.size
        return Window(0, 0, size.width, size.height)

    def _by_class(self) -> dict[str, list[Feature]]:
        found: dict[str, list[Feature]] = {name: [] for name in self.classes}
        for item in self.features.items:
            found[item.label].append(item)
        return found

    def _lines(self) -> list[tuple[str, bool]]:
        """What is said of each class, and whether it is there."""
        lines, areas = [], self.areas
        for name, own in self._by_class().items():
            parts = "1 part" if len(own) == 1 else f"{len(own)} parts"
            pixels, m2 = areas[name].pixels, areas[name].m2
            cover = f"{pixels:,} pixels" if m2 is None else f"{m2:,.0f} m2"
            lines.append((f"{name}: {parts}, {cover}" if own else f"{name}: none", bool(own)))
        return lines


def _write_raster(found: ClassMap, path: Path) -> None:
    windows = (cell_window(cell).meet(found._whole) for cell in found._stack.cells)
    cells = ((window, found._stack.at(window)[0].astype(np.uint8)) for window in windows)
    size = found.scene.info.size
    raster.write_class_map(path, georeference_of(found.scene), size, found.classes, cells)


def _write_picture(found: ClassMap, path: Path) -> None:
    from PIL import Image

    from .export.class_picture import draw_classes

    image = draw_classes(found.scene, found._stack, found._lines())
    Image.fromarray(image).save(path, format="PNG")


def _write_json(found: ClassMap, path: Path) -> None:
    head = found.to_json()
    parts = [json.dumps(part, ensure_ascii=False) for part in head.pop("parts")]
    # A line each, for people look into it.
    opening = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {part}" for part in parts)
    path.write_text(f'{opening},\n "parts": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def _write_geojson(found: ClassMap, path: Path) -> None:
    vector.write_geojson(path, [found.features])


def _write_geopackage(found: ClassMap, path: Path) -> None:
    vector.write_geopackage(path, [found.features])


TOGETHER: dict[str, Callable[[ClassMap, Path], None]] = {
    ".json": _write_json,
    ".png": _write_picture,
}
"""What is written where there is no ending."""
FORMS: dict[str, Callable[[ClassMap, Path], None]] = TOGETHER | {
    ".geojson": _write_geojson,
    ".gpkg": _write_geopackage,
    ".tif": _write_raster,
    ".tiff": _write_raster,
}
"""How a map is written."""
