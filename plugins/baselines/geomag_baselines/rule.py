"""A hand-written reading of referring expressions: a number, and a place in the scene."""

from __future__ import annotations

import re

import numpy as np
from scipy import ndimage
from torch import Tensor

from geomag.data.directions import POSITIONS, cell_of
from geomag.geometry import to_scene
from geomag.values import Box, View

NOWHERE = -20.0


def placed(logits: Tensor, text: str, view: View, stride: int, threshold: float) -> Tensor:
    """`logits [1, h, w]` of a view, at a stride, without the regions an expression does not mean.

    "3 white medium airplanes at the bottom left" means the three largest regions whose middle lies
    in the bottom left part of the scene. A text without a place means them all.
    """
    place = _place(text)
    if place is None:
        return logits
    regions, _ = ndimage.label(logits[0].sigmoid().numpy() > threshold)
    sizes = np.bincount(regions.ravel())
    meant = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1):
        edges = (columns.start, rows.start, columns.stop, rows.stop)
        box = to_scene(Box(*(edge * stride for edge in edges)), view)
        if cell_of(box, view.scene) == place:
            meant.append((int(sizes[number]), number))
    kept = [number for _, number in sorted(meant, reverse=True)]
    wanted = re.search(r"\b\d+\b", text)
    if wanted:
        kept = kept[: int(wanted.group())]
    return logits.where(logits.new_tensor(np.isin(regions, kept)) > 0, NOWHERE)


def _place(text: str) -> tuple[int, int] | None:
    found = [
        (len(words), cell)
        for cell, words in POSITIONS.items()
        if re.search(rf"\bat the {words}\b", text.lower())
    ]
    return max(found)[1] if found else None
