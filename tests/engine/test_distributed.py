"""Two processes learn, and are tested, as one with the joint batch is."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomag.engine import launch

from .running import SMALL, finished, logged, read, start_several

ITERATIONS = 20
LOSSES = {"loss", "loss_text", "loss_mask", "loss_relevance", "loss_plan"}
OPTIONS = f"train_cfg.max_iters={ITERATIONS} default_hooks.pictures.interval=None"


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    share = "train_dataloader.batch_size=2 --launcher pytorch"
    together = start_several(
        2,
        f"{SMALL} --work-dir {two} --cfg-options {OPTIONS} {share}",
        f"{SMALL} {two} --work-dir {two} --out {two}.json --launcher pytorch",
    )
    alone = f"{SMALL} --work-dir {one} --cfg-options {OPTIONS}"
    assert launch.train(alone.split()) == 0
    assert launch.test([SMALL, str(one), "--work-dir", str(one), "--out", f"{one}.json"]) == 0
    for process in together:
        finished(process)

    losses, shared = logged(one), logged(two)
    assert list(losses) == list(shared) == list(range(1, ITERATIONS + 1))
    for step, values in losses.items():
        assert values.keys() == LOSSES
        assert shared[step] == pytest.approx(values, abs=1e-4), step
    assert losses[ITERATIONS]["loss"] < losses[1]["loss"]
    # Three scenes do not divide by two: none is lost, none counted twice.
    reports = [read(Path(f"{work}.json")) for work in (one, two)]
    asked = [[one["prompt"] for one in report["outcomes"]] for report in reports]
    assert asked[0] == asked[1]
    names = ("masks/class/exchanges", "masks/referring/exchanges", "masks/absent/exchanges")
    for name in names:
        assert reports[0]["metrics"][name] == reports[1]["metrics"][name] > 0
