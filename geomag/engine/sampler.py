"""The order in which training sees its samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class EndlessSampler(Sampler[int]):
    """Epoch after epoch in a seeded order; yields `epoch * len(dataset) + index`, as `ViewSampled`
    counts, so that every epoch shows other views and prompts.

    The processes of a distributed run take turns in one order, so that their batches together hold
    what one process with the joint batch size would see.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True) -> None:
        self._count = len(dataset)
        self._seed = sync_random_seed() if seed is None else seed
        self._shuffle = shuffle
        self._rank, self._processes = get_dist_info()
        self._skipped = 0

    def __iter__(self) -> Iterator[int]:
        current, order = -1, torch.arange(self._count)
        first = self._rank + self._skipped * self._processes
        for place in itertools.count(first, self._processes):
            epoch, offset = divmod(place, self._count)
            if epoch != current and self._shuffle:
                generator = torch.Generator().manual_seed(self._seed + epoch)
                order = torch.randperm(self._count, generator=generator)
            current = epoch
            yield epoch * self._count + int(order[offset])

    def __len__(self) -> int:
        return self._count

    def skip(self, samples: int) -> None:
        """Begins after so many samples of this process: where a run that is resumed had got to."""
        self._skipped = samples
