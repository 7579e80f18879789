"""From labelled scenes to what a training step takes: views sampled, read, augmented and packed.

All of it happens in the loader's workers and depends on (seed, epoch, index) alone: never on which
worker or which process draws the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from ..contracts import Shape
from ..errors import DataError
from ..geometry import to_canvas
from ..values import Box, Exchange, LookBox, TrainingSample, View
from .augmentation import lit, random_frame, random_light
from .frames import framed
from .instructions import TASKS, compose
from .samples import LabelledSample, meet
from .sampling import draw_views

MASK_STRIDE = 2


@DATASETS.register_module()
class ViewSampled(Dataset[TrainingSample]):
    """A labelled data set as training samples: the overview, `closer_views` more, `exchanges`.

    The exchanges are composed from what is known of the scene after it was turned and cut, so that
    they stay true; of a data set without `kinds` they are drawn from those it came with. `tasks`
    gives their weights (see `instructions.TASKS`); as pairs in a config, where `class` is no key.

    `dataset[epoch * len(dataset) + index]` is the sample `index` as drawn in that epoch. Only a
    sampler that counts so (`engine.sampler.EndlessSampler`) shows other views and prompts in every
    epoch.
    """

    def __init__(
        self,
        dataset: Dataset[LabelledSample] | Mapping[str, Any],
        side: int = 256,
        closer_views: int = 2,
        exchanges: int = 4,
        seed: int = 0,
        augment: bool = True,
        tasks: Mapping[str, float] | Sequence[tuple[str, float]] = TASKS,
    ) -> None:
        built = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.dataset: Any = built
        self._side, self._closer, self._exchanges = side, closer_views, exchanges
        self._seed, self._augment, self._tasks = seed, augment, dict(tasks)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> TrainingSample:
        epoch, index = divmod(number, len(self))
        random = Random(f"{self._seed} {epoch} {index}")
        sample = self.dataset[index]
        if self._augment:
            sample = framed(sample, random_frame(sample, random))
        exchanges = self._drawn(sample, random)
        size = sample.scene.info.size
        views = draw_views(size, self._side, self._closer, sample.shapes, exchanges, random)
        pixels, valid = self._read(sample, views, random)
        named, asked = _renumbered(exchanges)
        shapes = [sample.shapes[place] for place in named]
        return TrainingSample(
            info=sample.scene.info,
            views=views,
            pixels=pixels,
            valid=valid,
            masks=_masks(shapes, views, self._side),
            exchanges=tuple(_with_boxes(one, shapes, views) for one in asked),
            labels=tuple(sample.labels[place] for place in named),
        )

    def _drawn(self, sample: LabelledSample, random: Random) -> tuple[Exchange, ...]:
        if sample.kinds:
            exchanges = compose(sample, self._exchanges, random, self._tasks)
        else:
            given = list(sample.exchanges)
            exchanges = tuple(random.sample(given, min(len(given), self._exchanges)))
            exchanges += tuple(
                random.choice(given) for _ in range(self._exchanges - len(exchanges)) if given
            )
        if not exchanges:
            raise DataError(
                f"{sample.name}: nothing to ask: expected kinds or exchanges, or a task of"
                f" {', '.join(self._tasks)} that suits the scene"
            )
        return exchanges

    def _read(
        self, sample: LabelledSample, views: Sequence[View], random: Random
    ) -> tuple[Tensor, Tensor]:
        """Pixels `[V, bands, h, w]` uint8 and valid `[V, h, w]` bool, all in the same light."""
        light = random_light(sample.scene.info.bands, random) if self._augment else None
        pixels, valid = [], []
        for view in views:
            seen = sample.scene.read(view, self._side)
            stored = (seen.pixels * 255).round_().to(torch.uint8)
            pixels.append(stored if light is None else lit(stored, seen.valid, light))
            valid.append(seen.valid)
        return torch.stack(pixels), torch.stack(valid)


def collate(samples: Sequence[Any]) -> dict[str, list[Any]]:
    """A batch as it crosses mmengine: the samples stay what they are."""
    return {"samples": list(samples)}


def _renumbered(exchanges: Sequence[Exchange]) -> tuple[list[int], list[Exchange]]:
    """The shapes that exchanges name, and the exchanges with shapes by their place among those."""
    named = sorted(
        {
            place
            for one in exchanges
            for group in (*one.instances, one.boxed, one.relevant)
            for place in group
        }
    )
    row = {place: number for number, place in enumerate(named)}
    return named, [
        replace(
            one,
            instances=tuple(tuple(row[place] for place in group) for group in one.instances),
            boxed=tuple(row[place] for place in one.boxed),
            relevant=tuple(row[place] for place in one.relevant),
        )
        for one in exchanges
    ]


def _masks(shapes: Sequence[Shape], views: Sequence[View], side: int) -> Tensor:
    """Coverage `[V, I, h', w']` uint8 of each shape in each view."""
    cells = side // MASK_STRIDE
    masks = torch.zeros(len(views), len(shapes), cells, cells, dtype=torch.uint8)
    for place, view in enumerate(views):
        for row, shape in enumerate(shapes):
            if meet(shape.box, view.box):
                masks[place, row] = (shape.draw(view, side, MASK_STRIDE) * 255).round_()
    return masks


def _with_boxes(exchange: Exchange, shapes: Sequence[Shape], views: Sequence[View]) -> Exchange:
    """The exchange with its boxes written, each in the finest look that holds all of it."""
    if not exchange.boxed:
        return exchange
    boxes = tuple(_look_box(shapes[row].box, views) for row in exchange.boxed)
    return replace(exchange, reply=replace(exchange.reply, boxes=boxes))


def _look_box(box: Box, views: Sequence[View]) -> LookBox:
    holding = [place for place, view in enumerate(views) if _holds(view.box, box)]
    look = min(holding, key=lambda place: views[place].scale, default=0)
    return LookBox(look, to_canvas(box, views[look]))


def _holds(outer: Box, inner: Box) -> bool:
    return (
        outer.left <= inner.left
        and outer.top <= inner.top
        and outer.right >= inner.right
        and outer.bottom >= inner.bottom
    )
