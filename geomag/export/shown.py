"""What one answer has to show, without the tensors that were needed to find it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..masks import SceneMask
from ..model import Findings
from ..values import BOX, SEG, Box, Level, View


@dataclass(frozen=True, slots=True, eq=False)
class SeenView:
    """A view that was looked at, and what the cropper thought of it in the end.

    `relevance_map` is `[h', w']` over the part of the canvas that the view fills; None where the
    cropper had no opinion.
    """

    view: View
    relevance_map: NDArray[np.float32] | None

    @property
    def relevance(self) -> float | None:
        """The highest relevance in the view."""
        return None if self.relevance_map is None else float(self.relevance_map.max())


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """An answer in the coordinates of its scene; `views` in the order they were looked at."""

    prompt: str
    text: str
    level: Level
    masks: tuple[SceneMask, ...]
    boxes: tuple[Box, ...]
    views: tuple[SeenView, ...]


def shown(findings: Findings) -> Shown:
    """What there is to show of what a model found."""
    seen = findings.observation
    views = []
    for look, relevance in zip(seen.looks, seen.relevance, strict=True):
        filled = None
        if relevance is not None:
            height, width = relevance.shape
            rows = -(-look.view.size.height * height // look.valid.shape[0])
            columns = -(-look.view.size.width * width // look.valid.shape[1])
            filled = relevance[:rows, :columns].detach().float().cpu().numpy().copy()
        views.append(SeenView(look.view, filled))
    return Shown(
        prompt=findings.prompt.text,
        text=plain(findings.reading.text),
        level=findings.plan.level,
        masks=findings.masks,
        boxes=findings.boxes,
        views=tuple(views),
    )


def plain(text: str) -> str:
    """A text of the model as people read it: without markers, and cleanly spaced."""
    words = text.replace(SEG, " ").replace(BOX, " ")
    words = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(words.split()))
    # "Here: [BOX]" leaves a sentence that announces nothing.
    return re.sub(r"[,;:]+\.?$", ".", words)
