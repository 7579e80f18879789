"""Shapes cut by the borders of looks are whole again: one mask, one polygon, equal to the shape.

The looks draw what a perfect head that matches instances draws: each connected piece that shows in
a look is an instance there, also where pieces hang together elsewhere in the scene.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from geomag import geometry
from geomag.assembly import assemble
from geomag.masks import SceneMask
from geomag.outline import Polygon
from geomag.values import Look, LookMasks, Size, View

EIGHT = np.ones((3, 3), bool)
PER_KIND = 125

Random = np.random.Generator
Canvas = np.ndarray


def polygon(random: Random, canvas: Canvas) -> None:
    """A star with spikes, across most of the scene."""
    height, width = canvas.shape
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 12)))
    reach = random.uniform(0.1, 0.5, len(angles))
    x, y = (0.5 + reach * np.cos(angles)) * width, (0.5 + reach * np.sin(angles)) * height
    cv2.fillPoly(canvas, [np.stack([x, y], axis=1).astype(np.int32)], 1)


def blob(random: Random, canvas: Canvas) -> None:
    """Level sets of noise: bays, necks and holes of all sizes."""
    smooth = ndimage.gaussian_filter(random.normal(size=canvas.shape), random.uniform(0.8, 5))
    canvas[smooth > np.quantile(smooth, random.uniform(0.3, 0.7))] = 1


def rings(random: Random, canvas: Canvas) -> None:
    """Rings around rings, held together by a spoke."""
    height, width = canvas.shape
    centre = (int(random.integers(width)), int(random.integers(height)))
    for radius in range(2, max(height, width), int(random.integers(4, 12))):
        cv2.circle(canvas, centre, radius, 1, int(random.integers(1, 3)))
    cv2.line(canvas, centre, (int(random.integers(width)), int(random.integers(height))), 1)


def thread(random: Random, canvas: Canvas) -> None:
    """A line of one pixel that wanders through the scene."""
    height, width = canvas.shape
    corners = random.integers((0, 0), (width, height), (random.integers(2, 9), 2))
    cv2.polylines(canvas, [corners.astype(np.int32)], False, 1)


def stairs(random: Random, canvas: Canvas) -> None:
    """Pixels that meet at corners alone, up and down."""
    row, step = int(random.integers(canvas.shape[0])), 1
    for column in range(canvas.shape[1]):
        canvas[row, column] = 1
        if random.random() < 0.1 or not 0 <= row + step < canvas.shape[0]:
            step = -step
        row = min(max(row + step, 0), canvas.shape[0] - 1)


def arc(random: Random, canvas: Canvas) -> None:
    """A C: in the looks between its ends, two pieces."""
    height, width = canvas.shape
    axes = (max(width * 2 // 5, 1), max(height * 2 // 5, 1))
    turn, thick = float(random.uniform(0, 360)), int(random.integers(1, 9))
    centre = (width // 2, height // 2)
    cv2.ellipse(canvas, centre, axes, turn, 0, float(random.uniform(200, 355)), 1, thick)


def comb(random: Random, canvas: Canvas) -> None:
    """Teeth that only the back holds together, far away from most of them."""
    across, gap = canvas.T if random.random() < 0.5 else canvas, int(random.integers(2, 8))
    across[:: gap + int(random.integers(1, 4)) + 1, :] = 1
    across[:, int(random.integers(across.shape[1]))] = 1


def lattice(random: Random, canvas: Canvas) -> None:
    """Every other pixel, as on a chessboard: nothing but corners."""
    rows, columns = np.indices(canvas.shape)
    blob(random, canvas)
    canvas[(rows + columns) % 2 == 1] = 0


KINDS = (polygon, blob, rings, thread, stairs, arc, comb, lattice)


def connected(canvas: Canvas) -> np.ndarray:
    """The largest part of what was drawn; a pixel in the middle where nothing was."""
    labels, count = ndimage.label(canvas, EIGHT)
    if not count:
        labels[labels.shape[0] // 2, labels.shape[1] // 2] = 1
    largest: np.ndarray = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest


def seen(view: View, dense: np.ndarray, side: int) -> tuple[Look, LookMasks]:
    """A look, and each connected piece of `dense` in it; pixels are in that are half covered."""
    box, size = view.box, view.size
    inside = dense[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    shown = inside
    if (size.height, size.width) != inside.shape:
        small = (size.width, size.height)
        shown = cv2.resize(inside.astype(np.float32), small, interpolation=cv2.INTER_AREA) >= 0.5
    labels, count = ndimage.label(shown, EIGHT)
    logits = torch.full((count, side, side), -20.0)
    pieces = labels == np.arange(1, count + 1)[:, None, None]
    logits[:, : size.height, : size.width][torch.from_numpy(pieces)] = 20.0
    valid = torch.zeros(side, side, dtype=torch.bool)
    valid[: size.height, : size.width] = True
    drawn = LookMasks(logits, torch.zeros(count, dtype=torch.long), torch.ones(count))
    return Look(view, torch.zeros(3, side, side), valid, ()), drawn


def assembled(dense: np.ndarray, views: list[View], side: int) -> tuple[SceneMask, ...]:
    looks, masks = zip(*(seen(view, dense, side) for view in views), strict=True)
    return assemble(looks, masks, None, 0.5)


def grid(random: Random, dense: np.ndarray) -> tuple[list[View], int]:
    """Native views of any side, side by side or overlapping, and above them coarser ones or none.

    Where there are coarser ones, native views may be missing far from the shape.
    """
    size, side = Size(*dense.shape), int(random.integers(16, 65))
    overlap = 2 * int(random.integers(1, side // 4)) if random.random() < 0.5 else 0
    native = geometry.tiles(size, side, 1, overlap=overlap)
    above = [geometry.overview(size, side)]
    for scale in geometry.rungs(size, side)[:-1]:
        above += geometry.tiles(size, side, scale, overlap=overlap)
    if random.random() < 0.4:
        return native, side
    if random.random() < 0.3:
        return [*above, *native], side
    # A pixel of a coarse look that reaches beyond the finer ones would show there.
    reach = 2 * int(np.ceil(above[0].scale)) + 1
    near = cv2.dilate(dense.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    close = [view for view in native if part(near, view).any()]
    return [*above, *close], side


def part(dense: np.ndarray, view: View) -> np.ndarray:
    box = view.box
    return dense[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]


def fault(found: tuple[SceneMask, ...], shapes: list[np.ndarray]) -> str:
    """What keeps the masks from being the shapes; nothing does where they are."""
    if len(found) != len(shapes):
        return f"{len(found)} masks of {len(shapes)} shapes"
    left = [shape.tobytes() for shape in shapes]
    for mask in found:
        dense = mask.to_dense()
        if dense.tobytes() not in left:
            return "a mask that is no shape"
        left.remove(dense.tobytes())
        polygons = mask.to_polygons()
        if len(polygons) != 1:
            return f"{len(polygons)} polygons of one shape"
        if not np.array_equal(filled(polygons[0], dense.shape), dense):
            return "a polygon that is not its shape"
    return ""


def filled(polygon: Polygon, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels inside rings that run along their edges, by the even-odd rule."""
    crossed = np.zeros((shape[0] + 1, shape[1] + 1), int)
    for ring in polygon:
        start = np.array(ring).astype(int)
        stop = np.roll(start, -1, axis=0)
        np.add.at(crossed, (np.minimum(start, stop)[:, 1], start[:, 0]), 1)
        np.add.at(crossed, (np.maximum(start, stop)[:, 1], start[:, 0]), -1)
    inside: np.ndarray = crossed.cumsum(0).cumsum(1)[:-1, :-1] % 2 == 1
    return inside


def faults(check: Callable[[int], str], count: int) -> dict[int, str]:
    found = {seed: check(seed) for seed in range(count)}
    return {seed: what for seed, what in found.items() if what}


def drawn(kind: Callable[[Random, Canvas], None], random: Random) -> np.ndarray:
    canvas = np.zeros(random.integers(1, 121, 2), np.uint8)
    kind(random, canvas)
    return connected(canvas)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_over_any_views_is_one_polygon_equal_to_it(
    kind: Callable[[Random, Canvas], None],
) -> None:
    def check(seed: int) -> str:
        random = np.random.default_rng(seed)
        dense = drawn(kind, random)
        return fault(assembled(dense, *grid(random, dense)), [dense])

    assert faults(check, PER_KIND) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_apart_by_a_pixel_stay_two(kind: Callable[[Random, Canvas], None]) -> None:
    def check(seed: int) -> str:
        random = np.random.default_rng(seed)
        one = drawn(kind, random)
        rest = ~cv2.dilate(one.astype(np.uint8), EIGHT.astype(np.uint8)).astype(bool)
        if not rest.any():
            return ""
        # The rest of the scene as far as it hangs together: a shape all along the other.
        other = connected(rest.astype(np.uint8))
        both = one | other
        return fault(assembled(both, *grid(random, both)), [one, other])

    assert faults(check, PER_KIND // 5) == {}
