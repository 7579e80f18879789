"""One picture of a map of classes: the scene, tinted, and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ..contracts import Scene
from ..tile import Cell
from ..values import Size
from . import layers
from .colours import class_colours
from .layers import Colour, Image
from .picture import FADED, INK, MARGIN, PAPER
from .stack import CELL, MaskStack, Numbers, cell_window

ROW, COLUMN, SQUARE = 26, 400, 16
"""Of the legend, in pixels."""
_LONGEST = 44


def draw_classes(scene: Scene, stack: MaskStack, legend: Sequence[tuple[str, bool]]) -> Image:
    """The classes of a stack over their scene, `[H, W, 3]` RGB, and a line of text for each beside
    it; a class that is not there is named without its colour."""
    on = layers.stage(scene.info.size)
    image = layers.background(scene, on)
    numbers = cv2.resize(
        sampled(stack, scene.info.size, on.read),
        (on.size.width, on.size.height),
        interpolation=cv2.INTER_NEAREST,
    )
    colours = class_colours(len(legend))
    for number, colour in enumerate(colours, 1):
        bits = numbers == number
        if bits.any():
            layers.fill(image, bits, colour)
    panel = _legend(legend, colours, len(image))
    height = max(len(image), len(panel))
    return np.hstack(
        [_on_paper(image, height, MARGIN), _on_paper(panel, height, MARGIN, margin_right=MARGIN)]
    )


def sampled(stack: MaskStack, scene: Size, size: Size) -> Numbers:
    """The layers of a scene at so many pixels, each as it is at the centre."""
    rows = ((np.arange(size.height) + 0.5) * scene.height / size.height).astype(np.int64)
    columns = ((np.arange(size.width) + 0.5) * scene.width / size.width).astype(np.int64)
    numbers = np.zeros((size.height, size.width), np.int32)
    for cell in stack.cells:
        down, across = _in_cell(rows, cell, 0), _in_cell(columns, cell, 1)
        if down.stop > down.start and across.stop > across.start:
            window = cell_window(cell)
            seen, _ = stack.at(window)
            picked = np.ix_(rows[down] - window.top, columns[across] - window.left)
            numbers[down, across] = seen[picked]
    return numbers


def _in_cell(places: np.ndarray[tuple[int], np.dtype[np.int64]], cell: Cell, axis: int) -> slice:
    start, stop = np.searchsorted(places, [cell[axis] * CELL, (cell[axis] + 1) * CELL])
    return slice(int(start), int(stop))


def _legend(legend: Sequence[tuple[str, bool]], colours: Sequence[Colour], height: int) -> Image:
    """Lines of text, each with its colour, in as many columns as it takes."""
    rows = max(height // ROW, 1)
    rows = -(-len(legend) // -(-len(legend) // rows))
    size = (COLUMN * -(-len(legend) // rows), ROW * rows)
    picture = Pillow.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for place, ((line, there), colour) in enumerate(zip(legend, colours, strict=True)):
        left, top = place // rows * COLUMN, place % rows * ROW
        square = (left, top + 3, left + SQUARE, top + 3 + SQUARE)
        if there:
            pen.rectangle(square, fill=colour)
        else:
            pen.rectangle(square, outline=FADED)
        short = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
        pen.text((left + 28, top), short, INK if there else FADED, font)
    return np.array(picture)


def _on_paper(image: Image, height: int, margin: int, margin_right: int = 0) -> Image:
    """The image at the top of paper of a height, with a margin around it."""
    paper = np.full(
        (height + 2 * margin, image.shape[1] + margin + margin_right, 3), PAPER, np.uint8
    )
    paper[margin : margin + len(image), margin : margin + image.shape[1]] = image
    return paper
