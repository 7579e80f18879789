"""Colours of classes: the same ones in every picture and file."""

from __future__ import annotations

import colorsys
from itertools import islice

from .layers import MASKS, Colour

_GOLDEN = 0.61803398875
_SHADES = ((0.55, 0.95), (0.9, 0.85), (0.8, 0.6))
"""Saturation and value, in turn."""


def class_colours(count: int) -> list[Colour]:
    """Colours of so many classes, no two alike: those of masks, then steps around the circle."""
    found = dict.fromkeys(MASKS)
    place = 0
    while len(found) < count:
        saturation, brightness = _SHADES[place % len(_SHADES)]
        red, green, blue = colorsys.hsv_to_rgb(place * _GOLDEN % 1, saturation, brightness)
        found[round(red * 255), round(green * 255), round(blue * 255)] = None
        place += 1
    return list(islice(found, count))
