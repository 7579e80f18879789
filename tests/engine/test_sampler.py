"""One order for any number of processes, with any number of samples already seen."""

from __future__ import annotations

from itertools import islice

import pytest

from geomag.engine import sampler
from geomag.engine.sampler import EndlessSampler


def drawn(
    monkeypatch: pytest.MonkeyPatch, rank: int, processes: int, count: int, skip: int = 0
) -> list[int]:
    monkeypatch.setattr(sampler, "get_dist_info", lambda: (rank, processes))
    one = EndlessSampler(range(7), seed=1)
    one.skip(skip)
    return list(islice(one, count))


def test_every_epoch_holds_every_sample_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = drawn(monkeypatch, 0, 1, 21)
    epochs = [numbers[start : start + 7] for start in (0, 7, 14)]
    for epoch, found in enumerate(epochs):
        assert sorted(found) == [epoch * 7 + index for index in range(7)]
    assert len({tuple(number % 7 for number in found) for found in epochs}) == 3


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    alone = drawn(monkeypatch, 0, 1, 60)
    shares = [drawn(monkeypatch, rank, processes, 60 // processes) for rank in range(processes)]
    each = 6 // processes
    for step in range(10):
        together = [number for share in shares for number in share[step * each : (step + 1) * each]]
        assert sorted(together) == sorted(alone[step * 6 : (step + 1) * 6])


@pytest.mark.parametrize("rank", [0, 1])
def test_skipping_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    unbroken = drawn(monkeypatch, rank, 2, 30)
    assert drawn(monkeypatch, rank, 2, 19, skip=11) == unbroken[11:]


def test_order_is_kept_where_it_is_not_shuffled() -> None:
    numbers = islice(EndlessSampler(range(3), seed=1, shuffle=False), 8)
    assert list(numbers) == list(range(8))
