"""Labelled samples as files in the COCO layout, which `CocoInstances` reads back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..contracts import Scene, Shape
from ..errors import DataError
from ..weights import replacing
from .samples import Bitmap, LabelledSample, Polygons, native

IMAGES = "images"
ANNOTATIONS = "annotations/instances.json"


def write_coco(
    samples: Iterable[LabelledSample], categories: Sequence[Mapping[str, Any]], folder: Path
) -> int:
    """Writes an image a sample and the labels of them all under `folder`; returns how many labels.

    `categories` are those of the layout (`id`, `name`), one for every label. Outlines are written
    as precisely as they are read, run lengths where a shape is a bitmap. Where single objects of a
    class were not labelled, all of its regions in that image are `iscrowd`. Expressions and
    exchanges are not written. Each file is replaced whole, the labels after all images.

    Raises:
        DataError: two samples have the same name, or a shape is neither polygons nor a bitmap.
        OutputError: a file cannot be written.
    """
    numbers = {category["name"]: category["id"] for category in categories}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        if sample.name in images:
            raise DataError(f"two samples are named {sample.name}; expected a name for each")
        size, file, identity = sample.scene.info.size, f"{sample.name}.png", len(images) + 1
        images[sample.name] = {
            "id": identity, "file_name": file, "height": size.height, "width": size.width,
        }  # fmt: skip
        for shape, label in zip(sample.shapes, sample.labels, strict=True):
            annotation = _annotation(shape, sample.name)
            annotation |= {"id": len(annotations) + 1, "image_id": identity}
            annotation |= {"category_id": numbers[label]}
            annotations.append(annotation | {"iscrowd": int(label in sample.uncounted)})
        with replacing(folder / IMAGES / file) as temporary:
            Image.fromarray(_pixels(sample.scene)).save(temporary, format="PNG")
    content = {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [dict(category) for category in categories],
    }
    with replacing(folder / ANNOTATIONS) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return len(annotations)


def _annotation(shape: Shape, name: str) -> dict[str, Any]:
    """What is known of a shape alone."""
    if isinstance(shape, Polygons):
        # All digits: read back, the numbers are the same ones.
        segmentation: Any = [ring.astype(np.float64).ravel().tolist() for ring in shape.rings]
    elif isinstance(shape, Bitmap):
        from pycocotools import mask

        packed = mask.encode(np.asfortranarray(shape.mask, np.uint8))
        segmentation = packed | {"counts": packed["counts"].decode()}
    else:
        raise DataError(
            f"{name}: a {type(shape).__name__} cannot be written in the COCO layout; expected"
            " Polygons or Bitmap"
        )
    box = shape.box
    # As wide as the outline: one pixel more would say that it goes through pixel centres.
    bounds = [float(box.left), float(box.top), float(box.width), float(box.height)]
    return {"segmentation": segmentation, "bbox": bounds, "area": float(shape.area)}


def _pixels(scene: Scene) -> NDArray[np.uint8]:
    """`[H, W, 3]`, with alpha as a fourth band where some are not valid."""
    colours, valid = native(scene)
    return colours if valid.all() else np.dstack([colours, valid.astype(np.uint8) * 255])
