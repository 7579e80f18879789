"""Two processes learn, and are tested, as one with the joint batch is."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomag.engine import launch

from .running import SMALL, finished, logged, read, start_several

ITERATIONS = 20
LOSSES = {"loss", "loss_text", "loss_mask", "loss_relevance", "loss_plan"}
OPTIONS = (
    "--cfg-options",
    f"train_cfg.max_iters={ITERATIONS}",
    "default_hooks.pictures.interval=None",
)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    share = "train_dataloader.batch_size=2"
    together = start_several(2, "train.py", SMALL, "--work-dir", two, *OPTIONS, share)
    assert launch.train([SMALL, "--work-dir", one, *OPTIONS]) == 0
    for process in together:
        finished(process)
    alone, shared = logged(Path(one)), logged(Path(two))
    assert list(alone) == list(shared) == list(range(1, ITERATIONS + 1))
    for step, losses in alone.items():
        assert losses.keys() == LOSSES
        assert shared[step] == pytest.approx(losses, abs=1e-4), step
    assert alone[ITERATIONS]["loss"] < alone[1]["loss"]

    # What they trained is the model itself, not what wrapped it. Three scenes for two processes.
    together = start_several(2, "test.py", SMALL, two, "--out", f"{two}.json", "--work-dir", two)
    assert launch.test([SMALL, two, "--out", f"{one}.json", "--work-dir", one]) == 0
    for process in together:
        finished(process)
    for part in ("metrics", "outcomes"):
        assert read(Path(f"{two}.json"))[part] == read(Path(f"{one}.json"))[part]
