"""One picture of the looks behind an answer: where, how closely, and how relevant it was there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ..contracts import Scene
from ..errors import OutputError
from ..values import SceneInfo, Size
from . import layers
from .layers import Colour, Image
from .picture import FADED, INK, MARGIN, PAPER, caption, framed, padded, text_lines, with_looks
from .shown import Shown

LONGEST = 1000
"""The longer side of the two panels, in pixels."""
_WIDE = 1.5
_BAR = (240, 14)


def check_picture(path: Path) -> None:
    """Lets pass what a picture can be written to.

    Raises:
        OutputError: it has another ending.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(
            f"{path}: looks are drawn as a picture; expected a name that ends in .png"
        )


def draw_looks(scene: Scene, answer: Shown, cost: str) -> Image:
    """The scene with a frame for each look, coloured by scale and numbered in the order they were
    seen, and beside it, or below a wide one, the relevance as heat; `[H, W, 3]` RGB. The legend
    says how fine each scale is; below stand question, answer and cost.
    """
    on = layers.stage(scene.info.size)
    shrink = min(1.0, LONGEST / max(on.size.height, on.size.width))
    size = Size(max(1, round(on.size.height * shrink)), max(1, round(on.size.width * shrink)))
    plain = cv2.resize(
        layers.background(scene, on), (size.width, size.height), interpolation=cv2.INTER_AREA
    )
    on = replace(on, size=size)
    looks = with_looks(plain.copy(), answer.views, on)
    relevance = layers.heat(plain, answer.views, on)
    wide = size.width > _WIDE * size.height
    gap = (MARGIN, size.width) if wide else (size.height, MARGIN)
    space = np.full((*gap, 3), PAPER, np.uint8)
    panels = np.concatenate([looks, space, relevance], axis=0 if wide else 1)
    width = max(panels.shape[1], LONGEST)
    legend = [_heat_bar(answer, width), text_lines(list(_scales(answer, scene.info)), width)]
    parts = [padded(panels, len(panels) + MARGIN, width), *legend, caption(answer, width, cost)]
    return framed(np.vstack(parts))


def _scales(answer: Shown, info: SceneInfo) -> Iterator[tuple[str, Colour, Colour | None]]:
    overview = answer.views[0].view
    yield f"overview, {_fineness(overview.scale, info)}", FADED, None
    for scale, colour in reversed(layers.scale_colours(answer.views).items()):
        count = sum(round(seen.view.scale) == scale for seen in answer.views[1:])
        yield f"{count} {'look' if count == 1 else 'looks'}, {_fineness(scale, info)}", INK, colour


def _fineness(scale: float, info: SceneInfo) -> str:
    native = "full resolution" if scale == 1 else f"{scale:.3g} scene pixels a pixel"
    return native if info.resolution is None else f"{scale * info.resolution:.3g} m/px ({native})"


def _heat_bar(answer: Shown, width: int) -> Image:
    """What the colours of the heat mean, and the highest there is."""
    picture = Pillow.new("RGB", (width, 24), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    found = [seen.relevance for seen in answer.views if seen.relevance is not None]
    if not found:
        pen.text((0, 2), "relevance: no opinion", FADED, font)
        return np.array(picture)
    steps = np.tile(np.linspace(0, 1, _BAR[0], dtype=np.float32), (_BAR[1], 1))
    bar = layers.glowing(np.full((*steps.shape, 3), 128, np.uint8), steps)
    left = 16 + round(pen.textlength("relevance 0", font=font))
    pen.text((0, 2), "relevance 0", INK, font)
    picture.paste(Pillow.fromarray(bar), (left, 6))
    pen.text((left + _BAR[0] + 16, 2), f"1, highest {max(found):.2f}", INK, font)
    return np.array(picture)
