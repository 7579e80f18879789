"""How training varies a scene: what part of it, how large, which way up, in what light."""

from __future__ import annotations

import math
from random import Random

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..values import Box, Size
from .directions import SYMMETRIES
from .frames import Frame, cuts
from .samples import LabelledSample, meet

WINDOWED = 0.4
"""This share of the samples shows a window of its scene; expressions are asked of the others."""
LEAST_WINDOW = 0.5
EMPTIED = 0.2
"""This share of the windows may leave out all objects: familiar ground with nothing on it."""
SCALES = (0.7, 1.4)
_TRIES = 6


def random_frame(sample: LabelledSample, random: Random) -> Frame:
    """One of the eight symmetries, a scale, and where it cuts through nothing, a window."""
    size = sample.scene.info.size
    symmetry = random.choice(SYMMETRIES)
    window = Box(0, 0, size.width, size.height)
    # Exchanges that were written elsewhere cannot be told anew for a window.
    if sample.kinds and random.random() < WINDOWED:
        emptied = not sample.shapes or random.random() < EMPTIED
        for _ in range(_TRIES):
            height = max(1, round(size.height * random.uniform(LEAST_WINDOW, 1)))
            width = max(1, round(size.width * random.uniform(LEAST_WINDOW, 1)))
            top = random.randint(0, size.height - height)
            left = random.randint(0, size.width - width)
            drawn = Box(left, top, left + width, top + height)
            shown = emptied or any(meet(shape.box, drawn) for shape in sample.shapes)
            if shown and not cuts(sample, drawn):
                window = drawn
                break
    scale = 1.0
    if random.random() < 0.5:
        scale = math.exp(random.uniform(math.log(SCALES[0]), math.log(SCALES[1])))
    height = max(1, round(window.height * scale))
    width = max(1, round(window.width * scale))
    new = Size(width, height) if symmetry.transpose else Size(height, width)
    return Frame(size, window, new, symmetry)


def random_light(bands: int, random: Random) -> NDArray[np.uint8]:
    """A table `[bands, 256]` uint8 from old values to new: brightness, contrast, gamma, tint.

    So gentle that white stays white and gray gray, since expressions name colours.
    """
    brightness, contrast = random.uniform(-0.1, 0.1), random.uniform(0.8, 1.2)
    gamma = math.exp(random.uniform(-0.25, 0.25))
    tints = [random.uniform(0.96, 1.04) for _ in range(bands)]
    values = np.linspace(0, 1, 256) ** gamma
    table = [((values - 0.5) * contrast + 0.5 + brightness) * tint for tint in tints]
    return (np.array(table).clip(0, 1) * 255).round().astype(np.uint8)


def lit(pixels: Tensor, valid: Tensor, light: NDArray[np.uint8]) -> Tensor:
    """Pixels `[bands, h, w]` uint8 in another light; what is not valid stays 0."""
    changed = [cv2.LUT(band.numpy(), table) for band, table in zip(pixels, light, strict=True)]
    return torch.from_numpy(np.stack(changed)) * valid
