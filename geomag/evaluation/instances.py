"""Which single objects a mask finds, and whether small ones are found without a closer look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..contracts import Shape
from ..data.samples import LabelledSample
from ..limits import Limits
from ..model import Findings, GeoMag
from ..values import Box, Look, Size, View
from .masks import Figure, ratio

SMALL = 32
"""An object is small whose side, the square root of its area in scene pixels, is below this."""
AGREES = 0.5
"""The least IoU of an object with a part of a mask that counts as that object."""


@dataclass(frozen=True, slots=True)
class SmallObject:
    """A small object, and whether it was recalled with all tiles and from the overview alone.

    `side` is in scene pixels; `image` is what intervals resample.
    """

    image: str
    label: str
    side: float
    everything: bool
    overview: bool


def small_objects(model: GeoMag, sample: LabelledSample, threshold: float) -> list[SmallObject]:
    """The small objects of a sample whose classes its exchanges ask for ("every ship"), each prompt
    answered twice. Regions in which single objects were not labelled are left out."""
    looks: dict[View, Look] = {}
    found: list[SmallObject] = []
    for exchange in sample.exchanges:
        if exchange.task != "class":
            continue
        members = [
            place
            for group in exchange.instances
            for place in group
            if math.sqrt(sample.shapes[place].area) < SMALL
            and sample.labels[place] not in sample.uncounted
        ]
        if not members:
            continue
        shapes = [sample.shapes[place] for place in members]
        everything, overview = (
            recalled(
                marked(
                    model.answer(
                        sample.scene, exchange.conversation, looks, Limits(views), threshold
                    ),
                    sample.scene.info.size,
                ),
                shapes,
            )
            for views in (math.inf, 0)
        )
        found += [
            SmallObject(
                sample.name, sample.labels[place], math.sqrt(sample.shapes[place].area), *hits
            )
            for place, *hits in zip(members, everything, overview, strict=True)
        ]
    return found


def recall(objects: Sequence[SmallObject]) -> dict[str, Figure]:
    """Recall with `everything` and from the `overview` alone, the one `ratio` the other, and their
    `difference`. Intervals resample images; that of the ratio leaves out the draws in which the
    overview alone recalls nothing."""
    images = [one.image for one in objects]
    ones = [1.0] * len(objects)
    everything = [float(one.everything) for one in objects]
    overview = [float(one.overview) for one in objects]
    gained = [more - less for more, less in zip(everything, overview, strict=True)]
    return {
        "everything": ratio(everything, ones, images),
        "overview": ratio(overview, ones, images),
        "ratio": ratio(everything, overview, images),
        "difference": ratio(gained, ones, images),
    }


def marked(findings: Findings, size: Size) -> NDArray[np.bool_]:
    """All that an answer marks, `[H, W]` over the scene."""
    union = np.zeros((size.height, size.width), dtype=bool)
    for mask in findings.masks:
        union |= mask.to_dense()
    return union


def recalled(mask: NDArray[np.bool_], shapes: Sequence[Shape]) -> list[bool]:
    """For each shape whether one connected part of a mask `[H, W]` over the scene agrees with it.

    Pixels that meet only at a corner are not connected. A pixel belongs to a shape that covers at
    least half of it; a shape that has no pixel is not recalled.
    """
    _, parts, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = found[:, cv2.CC_STAT_AREA].astype(np.intp)
    areas[0] = 0  # what is not marked is no part
    size = Size(*mask.shape)
    return [_agreement(parts, areas, shape, size) >= AGREES for shape in shapes]


def _agreement(
    parts: NDArray[np.int32], areas: NDArray[np.intp], shape: Shape, size: Size
) -> float:
    """The highest IoU of a shape with one of the parts, which are numbered from 1 in `[H, W]`."""
    box = shape.box
    left, top = max(math.floor(box.left), 0), max(math.floor(box.top), 0)
    right, bottom = min(math.ceil(box.right), size.width), min(math.ceil(box.bottom), size.height)
    height, width = bottom - top, right - left
    if height <= 0 or width <= 0:
        return 0.0
    view = View(Box(left, top, right, bottom), Size(height, width), size)
    inside = shape.draw(view, max(height, width))[:height, :width].numpy() >= 0.5
    shared = np.bincount(parts[top:bottom, left:right][inside], minlength=len(areas))
    shared[0] = 0
    together = areas + int(inside.sum()) - shared
    return float((shared / np.maximum(together, 1)).max())
