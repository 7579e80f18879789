"""Masks to polygons, along the edges of pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = list[list[float]]
"""Points `[x, y]` in scene pixels; the last is not the first again."""


def outline(dense: NDArray[np.bool_], left: int, top: int) -> list[list[Ring]]:
    """The connected parts of a mask `[H, W]` with its corner at (left, top): outer, then holes."""
    # OpenCV walks through pixel centres. On a doubled mask every pixel edge has centres on both
    # sides of it, half a pixel away, and rounding them to the edge gives rings along the edges.
    doubled = dense.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = [int(row[3]) for row in hierarchy[0]] if len(contours) else []
    polygons: dict[int, list[Ring]] = {place: [] for place, p in enumerate(parents) if p < 0}
    for place in sorted(range(len(contours)), key=lambda place: parents[place] >= 0):
        ring = _corners((contours[place][:, 0] + 1) // 2) + np.array([left, top])
        owner = place if parents[place] < 0 else parents[place]
        polygons[owner].append(ring.astype(float).tolist())
    return list(polygons.values())


def _corners(points: NDArray[Any]) -> NDArray[Any]:
    """The ring without the points where it does not turn."""
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    turns = (points - np.roll(points, 1, axis=0)) != 0
    corners: NDArray[Any] = points[(turns != np.roll(turns, -1, axis=0)).any(1)]
    return corners
