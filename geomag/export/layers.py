"""The layers of a picture: the scene, masks, looks and relevance, at the picture's size.

Nothing here needs a scene or a mask at full size: both are read at the size that is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..contracts import Scene, Shape
from ..geometry import overview
from ..masks import SceneMask
from ..values import Box, Size
from .shown import SeenView

Image = NDArray[np.uint8]
Bits = NDArray[np.bool_]
Colour = tuple[int, int, int]

LONGEST, SHORTEST = 1600, 720
"""Longer scenes are shrunk to the first, shorter ones enlarged up to the second."""

MASKS: tuple[Colour, ...] = (
    (255, 140, 0),
    (0, 200, 255),
    (255, 64, 190),
    (120, 230, 40),
    (0, 190, 140),
    (150, 120, 255),
)
SCALES: tuple[Colour, ...] = ((255, 255, 255), (255, 221, 87), (86, 204, 242), (187, 134, 252))
"""The colours of looks: the overview, then native and what is coarser, step by step."""
TRUTH: Colour = (255, 255, 255)
BOXES: Colour = (255, 50, 50)


@dataclass(frozen=True, slots=True)
class Stage:
    """How a scene is shown: `size` of the picture, `read` the size that it is read at."""

    scene: Size
    read: Size
    size: Size

    def place(self, box: Box) -> tuple[int, int, int, int]:
        """A box of the scene in picture pixels: left, top, right, bottom; at least one wide."""
        across, down = self.size.width / self.scene.width, self.size.height / self.scene.height
        left = min(max(round(box.left * across), 0), self.size.width - 1)
        top = min(max(round(box.top * down), 0), self.size.height - 1)
        right = min(max(round(box.right * across), left + 1), self.size.width)
        bottom = min(max(round(box.bottom * down), top + 1), self.size.height)
        return left, top, right, bottom


def stage(scene: Size) -> Stage:
    read = overview(scene, LONGEST).size
    longest = max(read.height, read.width)
    if longest >= SHORTEST:
        return Stage(scene, read, read)
    # Whole multiples, so that pixels stay square.
    times = max(SHORTEST // longest, 1)
    return Stage(scene, read, Size(read.height * times, read.width * times))


def background(scene: Scene, on: Stage) -> Image:
    """The scene, in colour."""
    view = overview(scene.info.size, LONGEST)
    canvas = scene.read(view, LONGEST).pixels[:3, : on.read.height, : on.read.width]
    if len(canvas) < 3:
        canvas = canvas[:1].expand(3, -1, -1)
    colours = (canvas.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return _enlarged(np.ascontiguousarray(colours), on.size)


def mask_bits(mask: SceneMask, on: Stage) -> Bits:
    """The mask at the picture's size."""
    if on.read == on.scene:
        return _enlarged(mask.to_dense().astype(np.uint8), on.size) > 0
    levels = np.zeros((on.size.height, on.size.width), np.uint8)
    for tile in mask.tiles:
        left, top, right, bottom = on.place(tile.view.box)
        if tile.probability is None:
            levels[top:bottom, left:right] = 0
        else:
            area = (right - left, bottom - top)
            levels[top:bottom, left:right] = cv2.resize(
                tile.probability, area, interpolation=cv2.INTER_AREA
            )
    bits: Bits = levels > mask.threshold * 255
    return bits


def shape_bits(shapes: Sequence[Shape], on: Stage) -> Bits:
    """Labelled shapes at the picture's size, all together."""
    view = overview(on.scene, LONGEST)
    side = max(on.read.height, on.read.width)
    covered = np.zeros((on.read.height, on.read.width), np.uint8)
    for shape in shapes:
        drawn = shape.draw(view, side).numpy()[: on.read.height, : on.read.width]
        covered |= (drawn >= 0.5).astype(np.uint8)
    return _enlarged(covered, on.size) > 0


def fill(image: Image, bits: Bits, colour: Colour, opacity: float = 0.4) -> None:
    """Tints the pixels of a mask, and draws its outline over a dark rim."""
    tinted = image[bits] * (1 - opacity) + np.array(colour) * opacity
    image[bits] = tinted.round().astype(np.uint8)
    outline(image, bits, (20, 20, 20), 3)
    outline(image, bits, colour, 2)


def outline(image: Image, bits: Bits, colour: Colour, thickness: int) -> None:
    contours, _ = cv2.findContours(bits.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, thickness, cv2.LINE_AA)


def rectangle(
    image: Image, place: tuple[int, int, int, int], colour: Colour, thickness: int = 1
) -> None:
    """A frame just inside its place, so that neighbours are told apart."""
    left, top, right, bottom = place
    corners = (left + 1, top + 1), (right - 2, bottom - 2)
    cv2.rectangle(image, *corners, (20, 20, 20), thickness + 2)
    cv2.rectangle(image, *corners, colour, thickness)


def scale_colours(views: Sequence[SeenView]) -> dict[int, Colour]:
    """A colour for each scale, in whole scene pixels per look pixel, fine to coarse."""
    scales = sorted({round(seen.view.scale) for seen in views[1:]})
    return {scale: SCALES[1 + place % (len(SCALES) - 1)] for place, scale in enumerate(scales)}


def heat(image: Image, views: Sequence[SeenView], on: Stage) -> Image:
    """The relevance over a darkened scene, each place as the finest look there judged it."""
    judged = np.zeros(image.shape[:2], np.float32)
    known = np.zeros(image.shape[:2], bool)
    for seen in sorted(views, key=lambda seen: -seen.view.scale):
        if seen.relevance_map is None:
            continue
        left, top, right, bottom = on.place(seen.view.box)
        judged[top:bottom, left:right] = cv2.resize(
            seen.relevance_map, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
        known[top:bottom, left:right] = True
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return glowing(grey, np.where(known, judged, 0))


def glowing(grey: Image, relevance: NDArray[np.float32]) -> Image:
    """A grey image, darkened, that relevance in [0, 1] `[H, W]` lights up; 0 leaves it grey."""
    bright = np.sqrt(relevance.clip(0, 1))
    # From dark red on: what is relevant at all is to be seen against the grey.
    levels = (bright * 175 + 80 * (bright > 0)).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    weight = 0.9 * bright[..., None]
    blended = grey * 0.6 * (1 - weight) + colours[..., ::-1] * weight
    heated: Image = blended.round().clip(0, 255).astype(np.uint8)
    return heated


def _enlarged(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if image.shape[:2] == (size.height, size.width):
        return image
    larger: NDArray[np.uint8] = cv2.resize(
        image, (size.width, size.height), interpolation=cv2.INTER_NEAREST
    )
    return larger
