"""What scores are to be compared with: the same weights, robbed of what they should need.

A model that marks as well without the image, or when asked for something else, has learnt the data
set and not the task. Both wrap a test data set and leave its truth as it is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.registry import DATASETS

from ..contracts import Scene
from ..data.samples import LabelledSample
from ..values import Conversation, Exchange, Pixels, SceneInfo, View

GREY = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class BlankScene:
    """A scene whose every pixel is the same grey; what is valid of it stays valid."""

    scene: Scene

    @property
    def info(self) -> SceneInfo:
        return self.scene.info

    def read(self, view: View, side: int) -> Pixels:
        seen = self.scene.read(view, side)
        grey = torch.full_like(seen.pixels, GREY) * seen.valid
        return Pixels(grey, seen.valid)


@DATASETS.register_module()
class Blanked:
    """The samples of a data set with their images blanked."""

    def __init__(self, dataset: Mapping[str, Any] | Any) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> LabelledSample:
        sample: LabelledSample = self.dataset[place]
        return replace(sample, scene=BlankScene(sample.scene))


@DATASETS.register_module()
class PromptSwapped:
    """The samples of a data set, asked for something else than what their truth shows.

    Keeps the exchanges of `tasks` alone. Each is asked with the words of another exchange of its
    task that means objects of other labels, drawn by `seed` from the whole data set.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | Any,
        tasks: Sequence[str] = ("class", "referring"),
        seed: int = 0,
    ) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.tasks = tuple(tasks)
        self.seed = seed
        # By task: what is asked, and the labels it means. Asking a data set opens no image.
        self._asked: dict[str, list[tuple[frozenset[str], Conversation]]] = {}
        for place in range(len(self.dataset)):
            sample = self.dataset[place]
            for exchange in sample.exchanges:
                self._asked.setdefault(exchange.task, []).append(
                    (_labels(sample, exchange), exchange.conversation)
                )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> LabelledSample:
        sample: LabelledSample = self.dataset[place]
        swapped = []
        for count, exchange in enumerate(sample.exchanges):
            if exchange.task not in self.tasks:
                continue
            own = _labels(sample, exchange)
            others = [
                conversation
                for labels, conversation in self._asked[exchange.task]
                if not labels & own
            ]
            if others:
                chance = random.Random(f"{self.seed}/{place}/{count}")
                swapped.append(replace(exchange, conversation=chance.choice(others)))
        return replace(sample, exchanges=tuple(swapped))


def _labels(sample: LabelledSample, exchange: Exchange) -> frozenset[str]:
    """The labels of the objects that an exchange means."""
    meant = {shape for shapes in exchange.instances for shape in shapes}
    return frozenset(sample.labels[shape] for shape in meant)
