"""Instances in the COCO layout, under a root and with classes of the user's own."""

from __future__ import annotations

import difflib
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ..contracts import Shape
from ..errors import DataError
from ..scenes.image import ImageScene
from ..values import Size
from .instructions import TEST_TASKS, examine
from .samples import Bitmap, Expression, Kind, LabelledSample, Polygons
from .tracing import along_edges, goes_through_centres

Part = Literal["all", "fit", "held"]
HELD_EVERY = 10
_LOGGER = logging.getLogger(__name__)
_FEW = 3


@DATASETS.register_module()
class CocoInstances(Dataset[LabelledSample]):
    """One labelled scene for each image of a COCO file, with all its test prompts.

    `annotations`, `images` and `referring` are relative to `root`. `classes` selects and orders
    the categories (default: all of the file); every image is taken to be labelled exhaustively for
    them. `referring` names a list of `{"image_id", "expression", "ann_ids"}`. Polygons and run
    lengths are read; where a class has an `iscrowd` region in a scene, it is not counted there.
    `origin` says where the data comes from, for who does not have it yet.

    `part` leaves every `HELD_EVERY`th image out ("fit"), to choose thresholds on ("held").
    `keep_pixels` decodes every image once and keeps it, in each process that reads.

    Raises:
        DataError: something is missing or contradicts itself; all of it in one line.
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str,
        images: str = "images",
        classes: Sequence[str] | None = None,
        referring: str | None = None,
        tasks: Sequence[str] = TEST_TASKS,
        origin: str = "",
        resolution: float | None = None,
        part: Part = "all",
        keep_pixels: bool = False,
    ) -> None:
        if part not in get_args(Part):
            raise DataError(f"part is {part!r}, expected one of {', '.join(get_args(Part))}")
        self._scenes: dict[int, ImageScene] | None = {} if keep_pixels else None
        self._root = Path(root)
        self._images = self._root / images
        self._tasks, self._resolution = tuple(tasks), resolution
        wanted = [self._root / annotations, self._images]
        wanted += [self._root / referring] if referring else []
        _require(self._root, wanted, origin)
        self._expressions: dict[int, list[Expression]] = defaultdict(list)
        try:
            content = _parsed(wanted[0])
            self._classes, labels = _categories(content, classes, wanted[0])
            self._records, places = _records(content, labels, wanted[0])
            if referring:
                self._refer(_parsed(wanted[2]), places, wanted[2])
            self._indices = [
                index
                for index in range(len(self._records))
                if part == "all" or (index % HELD_EVERY == 0) == (part == "held")
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{wanted[0]}: not in the COCO layout: {type(error).__name__} {error}"
            ) from error
        self._kinds = self._summary()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> LabelledSample:
        index = self._indices[place]
        record = self._records[index]
        scene = self._scene(index)
        if scene.info.size != record.size:
            raise DataError(
                f"{self._images / record.file} has {scene.info.size.height} x"
                f" {scene.info.size.width} pixels, its labels {record.size.height} x"
                f" {record.size.width} (height x width); use the images that were labelled"
            )
        shapes = tuple(record.shape(place) for place in range(len(record.labels)))
        labels = tuple(self._classes[label] for label in record.labels)
        sample = LabelledSample(
            scene=scene,
            shapes=shapes,
            labels=labels,
            exchanges=(),
            name=record.file,
            kinds=self._kinds,
            expressions=tuple(self._expressions.get(index, ())),
            uncounted=frozenset(labels[place] for place in record.crowds),
        )
        return replace(sample, exchanges=examine(sample, self._tasks))

    def _scene(self, index: int) -> ImageScene:
        if self._scenes is not None and index in self._scenes:
            return self._scenes[index]
        scene = ImageScene(self._images / self._records[index].file, self._resolution)
        if self._scenes is not None:
            self._scenes[index] = scene
        return scene

    def _refer(self, entries: Any, places: dict[int, tuple[int, int]], path: Path) -> None:
        known = {record.identity: index for index, record in enumerate(self._records)}
        strangers = []
        for entry in entries:
            index = known.get(entry["image_id"])
            if index is None:
                strangers.append(str(entry["image_id"]))
                continue
            # An expression about a class that was not selected is left out.
            if all(number in places for number in entry["ann_ids"]):
                members = tuple(places[number][1] for number in entry["ann_ids"])
                self._expressions[index].append(Expression(entry["expression"], members))
        if strangers:
            raise DataError(
                f"{path}: {len(strangers)} expressions about images that are not in the annotations"
                f" (image_id {', '.join(strangers[:_FEW])}); give the file of the same split"
            )

    def _summary(self) -> tuple[Kind, ...]:
        sides: list[list[float]] = [[] for _ in self._classes]
        scenes = [0] * len(self._classes)
        for record in (self._records[index] for index in self._indices):
            for label in set(record.labels):
                scenes[label] += 1
            for label, area in zip(record.labels, record.areas, strict=True):
                sides[label].append(area**0.5)
        return tuple(
            Kind(name, float(np.median(found)) if found else None, max(1, count))
            for name, found, count in zip(self._classes, sides, scenes, strict=True)
        )


@dataclass(slots=True, eq=False)
class _Record:
    """One image: few arrays, so that it is cheap to hand to a worker."""

    identity: int
    file: str
    size: Size
    labels: list[int]
    areas: list[float]
    crowds: list[int]
    points: Any  # [P, 2] of all rings; while reading, a list of them
    ends: list[int]
    """Where each ring ends in `points`."""
    rings: list[int]
    """Where each shape's rings end in `ends`."""
    runs: dict[int, Any]
    """Run lengths of the shapes that have no rings."""

    def shape(self, place: int) -> Shape:
        if place in self.runs:
            from pycocotools import mask

            return Bitmap(mask.decode(self.runs[place]).astype(np.bool_))
        first = self.rings[place - 1] if place else 0
        starts = [0, *self.ends]
        return Polygons(
            [
                self.points[starts[ring] : starts[ring + 1]]
                for ring in range(first, self.rings[place])
            ],
            self.size,
        )


def _require(root: Path, paths: Sequence[Path], origin: str) -> None:
    missing = [str(path) for path in paths if not path.exists()]
    if not missing:
        return
    source = f"; it comes from {origin}" if origin else ""
    if not root.exists():
        raise DataError(
            f"{root}: no such folder (looked for {root.absolute()}){source}; put or link the data"
            " set there"
        )
    raise DataError(f"{root} lacks {', '.join(missing)}{source}")


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error


def _categories(
    content: Any, classes: Sequence[str] | None, path: Path
) -> tuple[tuple[str, ...], dict[int, int]]:
    """The class names in order, and which of them a category id stands for."""
    expected = ("images", "annotations", "categories")
    absent = [key for key in expected if not isinstance(content, dict) or key not in content]
    if absent:
        raise DataError(f"{path}: no {', '.join(absent)}; expected instances in the COCO layout")
    names = [category["name"] for category in content["categories"]]
    chosen = tuple(names if classes is None else classes)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(
            f"{path}: no category {', '.join(map(repr, unknown))}{hint}; there are"
            f" {', '.join(names)}"
        )
    labels = {
        category["id"]: chosen.index(category["name"])
        for category in content["categories"]
        if category["name"] in chosen
    }
    return chosen, labels


def _records(
    content: Any, labels: dict[int, int], path: Path
) -> tuple[list[_Record], dict[int, tuple[int, int]]]:
    """A record an image, and where each annotation went: (image, place in it)."""
    records = [
        _Record(
            image["id"], image["file_name"], Size(image["height"], image["width"]),
            [], [], [], [], [], [], {},
        )
        for image in content["images"]
    ]  # fmt: skip
    known = {record.identity: index for index, record in enumerate(records)}
    categories = {category["id"] for category in content["categories"]}
    places: dict[int, tuple[int, int]] = {}
    problems, dropped = [], 0
    for item in content["annotations"]:
        if item["image_id"] not in known or item["category_id"] not in categories:
            problems.append(f"annotation {item['id']} names an unknown image or category")
        elif not isinstance(item.get("segmentation"), list | dict):
            problems.append(f"annotation {item['id']} has no segmentation")
        elif item["category_id"] in labels:
            index = known[item["image_id"]]
            if _added(records[index], item, labels[item["category_id"]]):
                places[item["id"]] = (index, len(records[index].labels) - 1)
            else:
                dropped += 1
    if problems:
        more = f" and {len(problems) - _FEW} more" if len(problems) > _FEW else ""
        raise DataError(f"{path}: {'; '.join(problems[:_FEW])}{more}")
    if dropped:
        _LOGGER.warning("%s: %d annotations without any area are left out", path, dropped)
    for record in records:
        record.points = np.concatenate([np.zeros((0, 2), np.float32), *record.points])
    return records, places


def _added(record: _Record, item: Any, label: int) -> bool:
    segmentation = item["segmentation"]
    if isinstance(segmentation, dict):
        from pycocotools import mask

        if isinstance(segmentation["counts"], list):
            segmentation = mask.frPyObjects(segmentation, *segmentation["size"])
        area = float(mask.area(segmentation))
        if not area:
            return False
        record.runs[len(record.labels)] = segmentation
    else:
        rings = [np.array(ring, np.float32).reshape(-1, 2) for ring in segmentation]
        if goes_through_centres(rings, item.get("bbox")):
            rings = along_edges(rings)
        rings = [ring for ring in rings if len(ring) > 2]
        area = Polygons(rings, record.size).area
        if not area:
            return False
        for ring in rings:
            record.points.append(ring)
            record.ends.append(len(ring) + (record.ends[-1] if record.ends else 0))
    record.rings.append(len(record.ends))
    if item.get("iscrowd"):
        record.crowds.append(len(record.labels))
    record.labels.append(label)
    record.areas.append(area)
    return True
