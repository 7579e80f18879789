"""A model that knows the answer: five components that draw given polygons in every look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from torch import Tensor, nn

from geomag.geometry import ZOOM
from geomag.model import GeoMag
from geomag.values import (
    Box,
    Conversation,
    Lesson,
    Level,
    Look,
    LookMasks,
    MaskTargets,
    Plan,
    Prompt,
    Reading,
    Reply,
    SceneInfo,
    View,
    VisualTokens,
)

FEWEST = 16
"""Look pixels: what marks fewer is left to a closer look."""
CERTAIN = 20.0
STRIDE = 32


class Labels:
    """Polygons in scene pixels, by where they lie."""

    def __init__(self, polygons: Sequence[shapely.Geometry]) -> None:
        self._polygons = np.array(polygons, object)
        self._tree = shapely.STRtree(self._polygons)

    def any_within(self, box: Box, margin: float) -> bool:
        return len(self._meeting(box, margin)) > 0

    def draw(self, view: View) -> NDArray[np.bool_]:
        """The labels that show in a view, `[M, h, w]`: the pixels whose centres lie inside."""
        box, size = view.box, view.size
        place = Affine.translation(box.left, box.top) * Affine.scale(
            box.width / size.width, box.height / size.height
        )
        shape = (size.height, size.width)
        drawn = [
            rasterize([polygon], shape, transform=place, dtype=np.uint8) > 0
            for polygon in self._polygons[self._meeting(box, 0)]
        ]
        shown = [mask for mask in drawn if mask.sum() >= (1 if view.scale <= 1 else FEWEST)]
        return np.stack(shown) if shown else np.zeros((0, *shape), bool)

    def _meeting(self, box: Box, margin: float) -> NDArray[np.int64]:
        edges = (box.left - margin, box.top - margin, box.right + margin, box.bottom + margin)
        return np.sort(self._tree.query(shapely.box(*edges), predicate="intersects"))


class Means(nn.Module):
    """An encoder that is as cheap as they come."""

    embed_dims, strides, bands = (3,), (STRIDE,), 3

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (F.avg_pool2d(pixels * self.gain, STRIDE),)


class Pointer(nn.Module):
    """Answers everything with one query."""

    prompt_dim, query_dim, max_visual_tokens = 1, 1, 64

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        return [Prompt(turns, torch.zeros(1, 1)) for turns in conversations]

    def forward(
        self,
        tokens: Sequence[Sequence[VisualTokens]],
        prompts: Sequence[Prompt],
        answers: Sequence[Reply],
    ) -> Lesson:
        return Lesson(torch.zeros(len(prompts)), [torch.zeros(0, 1) for _ in prompts])

    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        return Reading("Here. [SEG]", torch.zeros(1, 1))


class Native:
    """Plans to look as closely as there are pixels."""

    def __init__(self, overview_side: int) -> None:
        self.overview_side = overview_side

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return Plan(Level.PIXEL, self.overview_side, stop_below=1e-12)


class Near:
    """Looks wherever there are labels and nowhere else."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [None] * len(looks)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        # What a coarser look marks reaches as far as its pixels do.
        return [
            view for view in candidates if self._labels.any_within(view.box, 2 * ZOOM * view.scale)
        ]


class Drawing(nn.Module):
    """A mask head that draws every label as an instance, which it is by having a loss."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self._labels = labels

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        return [self._masks(look, len(query)) for look, query in zip(looks, queries, strict=True)]

    def loss(
        self, looks: Sequence[Look], queries: Sequence[Tensor], targets: Sequence[MaskTargets]
    ) -> Tensor:
        return torch.zeros(len(looks))

    def _masks(self, look: Look, queries: int) -> LookMasks:
        shown = self._labels.draw(look.view)[: None if queries else 0]
        count, height, width = shown.shape
        # Half as wide numbers hold it: a wide look shows a thousand labels.
        logits = torch.full((count, *look.valid.shape), -CERTAIN, dtype=torch.float16)
        logits[:, :height, :width][torch.from_numpy(shown)] = CERTAIN
        return LookMasks(logits, torch.zeros(count, dtype=torch.long), torch.ones(count))


def oracle(polygons: Sequence[shapely.Geometry], side: int, overlap: int) -> GeoMag:
    """A model that answers any prompt with these polygons, in pixels of the scene it is asked
    about; it looks at `side` pixels at a time, of which neighbours share `overlap`."""
    labels = Labels(polygons)
    return GeoMag(
        vision_encoder=Means(),
        llm_adapter=Pointer(),
        granularity_controller=Native(side),
        cropper=Near(labels),
        mask_head=Drawing(labels),
        overview_side=side,
        overlap=overlap,
    )
