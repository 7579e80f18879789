"""The schedule, the clock, the seeds and where a part starts from, with a runner in outline."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from torch import nn

from geomag import weights
from geomag.engine import hooks
from geomag.engine.hooks import IterationSeed, Schedule, StartFrom
from geomag.errors import CheckpointError


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


class Pair(nn.Module):
    """Two parts, and what else a model may keep."""

    def __init__(self, seed: int, dim: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.vision_encoder = nn.Sequential(nn.Linear(3, dim), nn.BatchNorm1d(dim))
        self.vision_encoder_of_another = nn.Linear(3, 2)
        self.mask_head = nn.Linear(dim, 1)


class Headless(nn.Module):
    """A model without an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.mask_head = nn.Linear(3, 1)


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def written(path: Path, model: nn.Module) -> Path:
    """A checkpoint as training writes it."""
    path.parent.mkdir(exist_ok=True)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "meta": {"iter": 7}}, path)
    return path


def beginning(model: nn.Module, iterations: int = 0) -> Any:
    """A runner that is about to train a model, and what it has logged."""
    said: list[str] = []
    return SimpleNamespace(
        iter=iterations,
        trainable=SimpleNamespace(model=model),
        logger=SimpleNamespace(info=said.append, warning=said.append),
        said=said,
    )


@pytest.mark.parametrize("part", ["vision_encoder", "mask_head"])
def test_a_part_starts_from_a_checkpoint_and_the_others_do_not(tmp_path: Path, part: str) -> None:
    theirs, own = Pair(1), Pair(2)
    path = written(tmp_path / "iter_7.pth", theirs)
    before, parameters = copied(own), list(own.parameters())
    on = beginning(own)
    HOOKS.build({"type": "StartFrom", "checkpoint": str(path), "part": part}).before_train(on)
    for name, tensor in own.state_dict().items():
        wanted = theirs.state_dict() if name.startswith(f"{part}.") else before
        assert torch.equal(tensor, wanted[name]), name
    # The optimizer was handed these very tensors.
    assert all(one is other for one, other in zip(own.parameters(), parameters, strict=True))
    assert on.said == [f"{part} starts from {path}"]


def test_an_encoder_is_what_starts_unless_told_otherwise(tmp_path: Path) -> None:
    theirs, own = Pair(1), Pair(2)
    weights.save(tmp_path / "published.safetensors", theirs.state_dict(), {})
    StartFrom(str(tmp_path / "published.safetensors")).before_train(beginning(own))
    assert torch.equal(own.vision_encoder[0].weight, theirs.vision_encoder[0].weight)
    assert not torch.equal(own.mask_head.weight, theirs.mask_head.weight)


def test_a_part_starts_from_the_newest_of_a_folder_that_is_whole(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        written(tmp_path / f"iter_{number}.pth", Pair(number))
    damaged = tmp_path / "iter_11.pth"
    damaged.write_bytes(damaged.read_bytes()[:500])
    own = Pair(2)
    on = beginning(own)
    StartFrom(str(tmp_path)).before_train(on)
    assert torch.equal(own.vision_encoder[0].weight, Pair(10).vision_encoder[0].weight)
    warning, last = on.said
    assert "iter_11.pth is damaged" in warning
    assert last == f"vision_encoder starts from {tmp_path / 'iter_10.pth'}"


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (None, "nowhere does not exist"),
        ("nothing", "nowhere holds no checkpoint"),
        (lambda: Pair(1, dim=4), "6 of another shape (0.bias [4] instead of [3]"),
        (Headless, "7 missing (0.bias, 0.weight, 1.bias and 4 more)"),
        ("damage", "iter_7.pth is damaged"),
    ],
    ids=["no file", "empty folder", "another architecture", "another part", "damaged"],
)
def test_what_cannot_be_started_from_is_said_in_one_line(
    tmp_path: Path, held: object, expected: str
) -> None:
    folder = tmp_path / "nowhere"
    checkpoint = folder
    if held is not None:
        folder.mkdir()
    if callable(held):
        checkpoint = written(folder / "iter_7.pth", held())
    if held == "damage":
        checkpoint = folder / "iter_7.pth"
        checkpoint.write_bytes(b"no archive")
    own = Pair(2)
    before = copied(own)
    with pytest.raises(CheckpointError) as caught:
        StartFrom(str(checkpoint)).before_train(beginning(own))
    assert expected in str(caught.value)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())


def test_what_is_resumed_keeps_what_it_has_learnt(tmp_path: Path) -> None:
    path = written(tmp_path / "run" / "iter_7.pth", Pair(1))
    own = Pair(2)
    before = copied(own)
    hook = StartFrom(str(path))
    on = beginning(own, iterations=1)
    hook.before_train(on)
    shutil.rmtree(path.parent)  # it may be long gone by then
    hook.before_train(on)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())
    assert on.said == []
