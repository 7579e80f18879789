"""Stages of a config: each has a folder of its own and goes on from the one before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomag import weights
from geomag.engine import launch

from .running import extended, logged

STAGES = """
stages = dict(
    first={"trainable.loss_weights": dict(loss_mask=0.0), "train_cfg.max_iters": 2},
    second={"optim_wrapper.optimizer.lr": 0.0, "train_cfg.max_iters": 1},
)
default_hooks.pictures.interval = None
"""


def test_a_stage_goes_on_from_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, work = str(extended(tmp_path / "staged.py", STAGES)), tmp_path / "work"
    assert launch.train([config, "--work-dir", str(work), "--stage", "second"]) == 2
    assert "run --stage first first" in capsys.readouterr().err

    assert launch.train([config, "--work-dir", str(work), "--stage", "first"]) == 0
    losses = logged(work / "first")[2]
    parts = ("loss_text", "loss_relevance", "loss_plan")
    assert losses["loss"] == pytest.approx(sum(losses[part] for part in parts), rel=1e-5)

    # Resumed where there is nothing yet, it still starts from the stage before.
    arguments = [config, "--work-dir", str(work), "--stage", "second", "--resume"]
    assert launch.train(arguments) == 0
    before = weights.read(work / "first" / "iter_2.pth")["state_dict"]
    after = weights.read(work / "second" / "iter_1.pth")["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_unknown_stage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(extended(tmp_path / "staged.py", STAGES))
    assert launch.train([config, "--stage", "secnd"]) == 2
    assert "has no stage 'secnd'. Nearest: 'second'. Stages: first, second." in (
        capsys.readouterr().err
    )
