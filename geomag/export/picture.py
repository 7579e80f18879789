"""One picture of an answer: what was asked, where the model looked, what it found."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ..contracts import Scene, Shape
from ..model import Findings
from . import layers
from .layers import Colour, Image, Stage
from .shown import SeenView, Shown, shown

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MARGIN = 16
PAPER, INK, FADED = (24, 26, 30), (240, 240, 240), (160, 165, 172)
PANEL = 420
"""The least width of the panel beside the scene, in pixels."""


def draw(scene: Scene, answer: Shown | Findings, truth: Sequence[Shape] | None = None) -> Image:
    """The answer over its scene, `[H, W, 3]` RGB: masks tinted, looks framed and numbered in the
    order they were seen, relevance as heat beside it, question and answer below. The outlines of
    labelled shapes, where given, are white.
    """
    if isinstance(answer, Findings):
        answer = shown(answer)
    on = layers.stage(scene.info.size)
    plain = layers.background(scene, on)
    main = _main(plain, answer, truth, on)
    side = _side(plain, answer, on, labelled=truth is not None)
    height = max(main.shape[0], side.shape[0])
    wide = np.hstack(
        [padded(main, height, main.shape[1] + MARGIN), padded(side, height, side.shape[1])]
    )
    return framed(np.vstack([wide, caption(answer, wide.shape[1])]))


def _main(plain: Image, answer: Shown, truth: Sequence[Shape] | None, on: Stage) -> Image:
    image = plain.copy()
    for place, mask in enumerate(answer.masks):
        bits = layers.mask_bits(mask, on)
        layers.fill(image, bits, layers.MASKS[place % len(layers.MASKS)])
    if truth:
        layers.outline(image, layers.shape_bits(truth, on), layers.TRUTH, 1)
    for box in answer.boxes:
        layers.rectangle(image, on.place(box), layers.BOXES, 2)
    return with_looks(image, answer.views, on)


def with_looks(image: Image, views: Sequence[SeenView], on: Stage) -> Image:
    """The image with a frame for each look, in the colour of its scale, and in its corner, where
    there is room, whether it came first, second, ..."""
    colours = layers.scale_colours(views)
    for seen in views[1:]:
        layers.rectangle(image, on.place(seen.view.box), colours[round(seen.view.scale)])
    picture = Pillow.fromarray(image)
    pen, font = ImageDraw.Draw(picture), _font(13)
    for number, seen in enumerate(views):
        left, top, right, bottom = on.place(seen.view.box)
        if number and min(right - left, bottom - top) >= 24:
            text = str(number)
            end = left + 6 + pen.textlength(text, font=font)
            pen.rectangle((left + 2, top + 2, end, top + 18), fill=(20, 20, 20))
            pen.text((left + 4, top + 2), text, colours[round(seen.view.scale)], font)
    return np.array(picture)


def _side(plain: Image, answer: Shown, on: Stage, labelled: bool) -> Image:
    """The relevance, and what the colours mean."""
    heat = layers.heat(plain, answer.views, on)
    width = max(PANEL, on.size.width * 2 // 5)
    height = max(1, round(on.size.height * width / on.size.width))
    # A tall scene must not make the panel taller than the scene itself.
    if height > max(on.size.height, PANEL):
        height = max(on.size.height, PANEL)
        narrow = max(1, round(on.size.width * height / on.size.height))
    else:
        narrow = width
    heat = cv2.resize(heat, (narrow, height), interpolation=cv2.INTER_AREA)
    judged = any(seen.relevance_map is not None for seen in answer.views)
    title = "Relevance" if judged else "Relevance: no opinion"
    lines = [(title, INK, None)]
    legend = list(_legend(answer, labelled))
    return np.vstack(
        [
            padded(text_lines(lines, width), 34, width),
            padded(heat, height, width),
            text_lines(legend, width),
        ]
    )


def _legend(answer: Shown, labelled: bool) -> Iterator[tuple[str, Colour, Colour | None]]:
    overview = answer.views[0].view
    yield f"Overview, {_fineness(overview.scale)}", FADED, None
    for scale, colour in layers.scale_colours(answer.views).items():
        count = sum(round(seen.view.scale) == scale for seen in answer.views[1:])
        looks = "look" if count == 1 else "looks"
        yield f"{count} {looks}, {_fineness(scale)}", INK, colour
    for place, mask in enumerate(answer.masks[: len(layers.MASKS)]):
        what = "empty" if mask.empty else f"{mask.area} pixels"
        yield f"Mask {place + 1}: {what}, score {mask.score:.2f}", INK, layers.MASKS[place]
    if len(answer.masks) > len(layers.MASKS):
        yield f"and {len(answer.masks) - len(layers.MASKS)} more masks", FADED, None
    if answer.boxes:
        yield (
            f"{len(answer.boxes)} {'box' if len(answer.boxes) == 1 else 'boxes'}",
            INK,
            layers.BOXES,
        )
    if labelled:
        yield "Labelled", INK, layers.TRUTH


def _fineness(scale: float) -> str:
    return "full resolution" if scale == 1 else f"{scale:.3g} scene pixels a pixel"


def text_lines(lines: Sequence[tuple[str, Colour, Colour | None]], width: int) -> Image:
    """Lines of text, with a square of colour before those that explain one."""
    font, step = _font(16), 24
    picture = Pillow.new("RGB", (width, step * len(lines) + 10), PAPER)
    pen = ImageDraw.Draw(picture)
    for row, (line, ink, colour) in enumerate(lines):
        top = 8 + row * step
        if colour is not None:
            pen.rectangle((0, top + 3, 14, top + 15), fill=colour)
        pen.text((24 if colour is not None else 0, top), line, ink, font)
    return np.array(picture)


def caption(answer: Shown, width: int, last: str = "") -> Image:
    """Question and answer as people read them, and a last line where there is one."""
    font = _font(22)
    lines = [(line, FADED) for line in _wrapped(answer.prompt, font, width)]
    lines += [(line, INK) for line in _wrapped(answer.text or "(no text)", font, width)]
    lines += [(line, FADED) for line in _wrapped(last, font, width)]
    step = 32
    picture = Pillow.new("RGB", (width, step * len(lines) + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    for row, (line, ink) in enumerate(lines):
        pen.text((0, MARGIN + row * step), line, ink, font)
    return np.array(picture)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    letters = max(int(width / font.getlength("n")), 8)
    return textwrap.wrap(text, letters, max_lines=8, placeholder=" ...")


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def padded(image: Image, height: int, width: int) -> Image:
    """The image at the top left of paper of a size."""
    paper = np.full((height, width, 3), PAPER, np.uint8)
    paper[: min(height, image.shape[0]), : min(width, image.shape[1])] = image[:height, :width]
    return paper


def framed(image: Image) -> Image:
    edges = ((MARGIN, MARGIN), (MARGIN, MARGIN))
    return np.stack(
        [np.pad(image[..., band], edges, constant_values=PAPER[band]) for band in range(3)], -1
    )
