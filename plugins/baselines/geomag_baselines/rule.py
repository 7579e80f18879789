"""A hand-written reading of referring expressions: a number, and a place in the scene."""

from __future__ import annotations

import re

import cv2
import numpy as np
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
    marked = logits[0].detach().float().sigmoid().cpu().numpy() > threshold
    # Regions that meet only at a corner are two.
    _, regions, found, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=4)
    meant = []
    for number, (left, top, width, height, size) in enumerate(found[1:].tolist(), 1):
        edges = (left, top, left + width, top + height)
        box = to_scene(Box(*(edge * stride for edge in edges)), view)
        if cell_of(box, view.scene) == place:
            meant.append((size, number))
    kept = [number for _, number in sorted(meant, reverse=True)]
    wanted = re.search(r"\b\d+\b", text)
    if wanted:
        kept = kept[: int(wanted.group())]
    # What surrounds a region stays: its outline is drawn between the two.
    others = np.isin(regions, [0, *kept], invert=True)
    return logits.masked_fill(logits.new_tensor(others) > 0, NOWHERE)


def _place(text: str) -> tuple[int, int] | None:
    found = [
        (len(words), cell)
        for cell, words in POSITIONS.items()
        if re.search(rf"\bat the {words}\b", text.lower())
    ]
    return max(found)[1] if found else None
