"""The schedule, the clock and the seeds, with a runner in outline."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from geomag.engine import hooks
from geomag.engine.hooks import IterationSeed, Schedule


def runner(iterations: int = 100, rate: float = 0.1) -> Any:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    return SimpleNamespace(
        iter=0,
        max_iters=iterations,
        rank=0,
        seed=3,
        optim_wrapper=torch.optim.SGD(parameters, lr=rate),
        message_hub=MessageHub(f"hub {random.random()}"),
        train_loop=SimpleNamespace(stop_training=False),
    )


def run(schedule: Schedule, on: Any, until: int | None = None) -> list[float]:
    """The learning rates of a run, iteration by iteration."""
    schedule.before_train(on)
    rates = []
    while on.iter < (until or on.max_iters) and not on.train_loop.stop_training:
        schedule.before_train_iter(on, on.iter)
        rates.append(on.optim_wrapper.param_groups[0]["lr"])
        schedule.after_train_iter(on, on.iter)
        on.iter += 1
    return rates


def test_rate_climbs_then_falls_along_a_cosine() -> None:
    rates = run(Schedule(warm_up=0.1, end=0.02), runner())
    assert len(rates) == 100
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[10] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.1 * (0.02 + 0.98 / 2))
    assert 0.1 * 0.02 < rates[-1] < 0.1 * 0.025


def test_no_warm_up_begins_at_the_full_rate() -> None:
    assert run(Schedule(warm_up=0, end=0), runner(10))[0] == 0.1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(hooks, "time", SimpleNamespace(monotonic=lambda: now.time))
    return now


class Slow(Schedule):
    """Every iteration takes a second."""

    clock: SimpleNamespace

    def after_train_iter(self, *arguments: Any, **named: Any) -> None:
        self.clock.time += 1
        super().after_train_iter(*arguments, **named)


def test_time_ends_a_run_and_sets_the_pace(clock: SimpleNamespace) -> None:
    schedule = Slow(warm_up=0.1, end=0.02, seconds=20)
    schedule.clock = clock
    on = runner(100_000)
    rates = run(schedule, on)
    assert on.train_loop.stop_training
    assert on.iter == 20
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] < 0.1 * 0.03
    assert on.message_hub.get_info("seconds_trained") == 20


def test_iterations_may_end_a_run_before_its_time(clock: SimpleNamespace) -> None:
    schedule = Slow(seconds=1000)
    schedule.clock = clock
    on = runner(50)
    rates = run(schedule, on)
    assert len(rates) == 50
    assert rates[-1] < 0.1 * 0.03
    assert not on.train_loop.stop_training


def test_resumed_run_has_what_was_left_of_its_time(clock: SimpleNamespace) -> None:
    first = Slow(seconds=20)
    first.clock = clock
    on = runner(100_000)
    began = run(first, on, until=12)
    on.optim_wrapper.param_groups[0]["lr"] = began[-1]  # as it is in a checkpoint
    clock.time += 10_000  # nobody trained meanwhile
    second = Slow(seconds=20)
    second.clock = clock
    went_on = run(second, on)
    assert on.iter == 20
    unbroken = Slow(seconds=20)
    unbroken.clock = clock
    assert began + went_on == pytest.approx(run(unbroken, runner(100_000)))


def test_no_time_left_is_no_iteration(clock: SimpleNamespace) -> None:
    on = runner()
    on.message_hub.update_info("seconds_trained", 30.0)
    assert run(Schedule(seconds=20), on) == []


def test_iteration_seed_depends_on_seed_iteration_and_process() -> None:
    def drawn(**changed: int) -> tuple[float, float, float]:
        on = runner()
        vars(on).update(changed)
        IterationSeed().before_train_iter(on, on.iter)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    assert drawn(iter=7) == drawn(iter=7)
    draws = [drawn(), drawn(iter=1), drawn(rank=1), drawn(seed=4)]
    for kind in zip(*draws, strict=True):
        assert len(set(kind)) == len(draws)
