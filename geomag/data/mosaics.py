"""Large scenes laid out of small ones, unscaled: where targets are rare and seen small at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..contracts import Shape
from ..errors import DataError
from ..scenes.array import ArrayScene
from ..values import Box, Size
from .instructions import examine
from .samples import LabelledSample, Placeable, native

TASKS = ("class", "absent")
"""What tests ask of a mosaic: expressions were written about its parts, and are not true of it."""


@DATASETS.register_module()
class Mosaics(Dataset[LabelledSample]):
    """`length` square scenes with sides drawn from `sides`, laid out of the samples of a data set.

    Rows are filled from left to right with samples in an order that follows from `seed` and the
    mosaic's index alone; a row is as high as the lowest of its samples, and what sticks out of a
    row or of the mosaic is cut off, with the labels. Nothing is scaled. With `keep`, each process
    that reads lays a mosaic out once and keeps it: 3 bytes a pixel.

    Raises:
        DataError: the data set is empty, or `length` or a side is not positive. When a sample is
            read: one of its shapes cannot be laid into a larger scene.
    """

    def __init__(
        self,
        dataset: Dataset[LabelledSample] | Mapping[str, Any],
        length: int,
        sides: Sequence[int] = (2048,),
        seed: int = 0,
        tasks: Sequence[str] = TASKS,
        keep: bool = False,
    ) -> None:
        self._kept: dict[int, LabelledSample] | None = {} if keep else None
        built: Any = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        if length < 1 or min(sides, default=0) < 1:
            raise DataError(
                f"{length} mosaics with sides of {', '.join(map(str, sides)) or 'no'} pixels;"
                " expected positive numbers"
            )
        if not len(built):
            raise DataError("a mosaic needs at least one sample to be laid out of")
        self.dataset = built
        self._length, self._sides, self._seed = length, tuple(sides), seed
        self._tasks = tuple(tasks)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> LabelledSample:
        if not 0 <= index < self._length:
            raise IndexError(f"mosaic {index} of {self._length}")
        if self._kept is None:
            return self._made(index)
        if index not in self._kept:
            self._kept[index] = self._made(index)
        return self._kept[index]

    def _made(self, index: int) -> LabelledSample:
        random = Random(f"{self._seed} {index}")
        side = random.choice(self._sides)
        sheet = _Sheet(side)
        for sample, window in _laid(self._shuffled(random), side):
            sheet.lay(sample, window)
        first, name = self.dataset[0], f"mosaic-{self._seed}-{index}"
        made = LabelledSample(
            scene=ArrayScene(sheet.pixels(), first.scene.info.resolution, name),
            shapes=tuple(sheet.shapes),
            labels=tuple(sheet.labels),
            exchanges=(),
            name=name,
            kinds=first.kinds,
            uncounted=frozenset(sheet.uncounted),
        )
        return replace(made, exchanges=examine(made, self._tasks))

    def _shuffled(self, random: Random) -> Iterator[LabelledSample]:
        """All samples in one order, again and again."""
        order = list(range(len(self.dataset)))
        random.shuffle(order)
        while True:
            yield from (self.dataset[place] for place in order)


@DATASETS.register_module()
class Joined(Dataset[LabelledSample]):
    """Several data sets one after the other."""

    def __init__(self, datasets: Sequence[Dataset[LabelledSample] | Mapping[str, Any]]) -> None:
        self.datasets: list[Any] = [
            DATASETS.build(one) if isinstance(one, Mapping) else one for one in datasets
        ]

    def __len__(self) -> int:
        return sum(len(one) for one in self.datasets)

    def __getitem__(self, place: int) -> LabelledSample:
        before = 0
        for one in self.datasets:
            if before <= place < before + len(one):
                sample: LabelledSample = one[place - before]
                return sample
            before += len(one)
        raise IndexError(f"sample {place} of {before}")


class _Sheet:
    """A mosaic of `side` x `side` pixels as it fills."""

    def __init__(self, side: int) -> None:
        self._size = Size(side, side)
        self._colours = np.zeros((side, side, 3), np.uint8)
        self._valid = np.ones((side, side), np.bool_)
        self.shapes: list[Shape] = []
        self.labels: list[str] = []
        self.uncounted: set[str] = set()

    def lay(self, sample: LabelledSample, window: Box) -> None:
        """Fills a window with the top left of a sample: pixels and labels."""
        colours, valid = native(sample.scene)
        rows = slice(int(window.top), int(window.bottom))
        columns = slice(int(window.left), int(window.right))
        height, width = int(window.height), int(window.width)
        self._colours[rows, columns] = colours[:height, :width]
        self._valid[rows, columns] = valid[:height, :width]
        for shape, label in zip(sample.shapes, sample.labels, strict=True):
            if not isinstance(shape, Placeable):
                raise DataError(
                    f"{sample.name}: a {type(shape).__name__} cannot be laid into a mosaic;"
                    " expected Polygons, Bitmap or another shape with a method placed"
                )
            shown = shape.placed(window, self._size)
            if shown is not None:
                self.shapes.append(shown)
                self.labels.append(label)
                self.uncounted |= sample.uncounted & {label}

    def pixels(self) -> NDArray[np.uint8]:
        """`[H, W, 3]`, or `[H, W, 4]` where alpha says that some are not valid."""
        if self._valid.all():
            return self._colours
        return np.dstack([self._colours, self._valid.astype(np.uint8) * 255])


def _laid(samples: Iterator[LabelledSample], side: int) -> Iterator[tuple[LabelledSample, Box]]:
    """Samples with the window of the mosaic that each fills, row by row."""
    top = 0
    while top < side:
        row: list[tuple[LabelledSample, int, int]] = []
        left = 0
        while left < side:
            sample = next(samples)
            right = min(left + sample.scene.info.size.width, side)
            row.append((sample, left, right))
            left = right
        lowest = min(sample.scene.info.size.height for sample, _, _ in row)
        bottom = min(top + lowest, side)
        yield from ((sample, Box(left, top, right, bottom)) for sample, left, right in row)
        top = bottom
