"""Two processes that share the weights out learn as one with the joint batch does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomag import weights
from geomag.engine import launch

from .running import SMALL, finished, logged, next_second, start_several

ITERATIONS = 6
OPTIONS = (
    f"train_cfg.max_iters={ITERATIONS} "
    # Some batches of a process, and some steps of both, hold no [SEG].
    "train_dataloader.dataset.exchanges=1 "
    # The learned controller has a single number, which cannot be shared out.
    "model.granularity_controller.type=tiny/rules"
)
TESTED = "--launcher pytorch --cfg-options model.granularity_controller.type=tiny/rules"


def test_sharded_processes_do_what_one_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone = f"{SMALL} --work-dir {one} --cfg-options {OPTIONS}"
    halves = f"{OPTIONS} sharded.least=2000 train_dataloader.batch_size=2"
    together = start_several(
        2,
        f"{SMALL} --work-dir {two} --launcher pytorch --sharded --cfg-options {halves}",
        f"{SMALL} {two} --work-dir {two} --out {two}.json {TESTED}",
    )
    assert launch.train(alone.split()) == 0
    told = [finished(process) for process in together]
    assert "shared out among the processes" in told[0]
    assert "no pictures are drawn" in told[0]

    losses, shared = logged(one), logged(two)
    assert list(losses) == list(shared) == list(range(1, ITERATIONS + 1))
    for step, values in losses.items():
        assert shared[step] == pytest.approx(values, abs=1e-3), step
    whole = [weights.read(work / f"iter_{ITERATIONS}.pth") for work in (one, two)]
    for name, tensor in whole[0]["state_dict"].items():
        assert torch.allclose(tensor, whole[1]["state_dict"][name], atol=1e-3), name
    kept = [contents["optimizer"]["state"] for contents in whole]
    assert kept[0].keys() == kept[1].keys()
    assert all(kept[0][row]["exp_avg"].shape == kept[1][row]["exp_avg"].shape for row in kept[0])

    # Sharded weights go on in one process, and the other way round.
    next_second()
    longer = OPTIONS.replace(f"max_iters={ITERATIONS}", f"max_iters={ITERATIONS + 2}")
    halves = halves.replace(f"max_iters={ITERATIONS}", f"max_iters={ITERATIONS + 2}")
    together = start_several(
        2,
        f"{SMALL} --work-dir {one} --launcher pytorch --sharded --resume --cfg-options {halves}",
    )
    again = f"{SMALL} --work-dir {two} --resume --cfg-options {longer}"
    assert launch.train(again.split()) == 0
    for process in together:
        finished(process)
    for step, values in logged(one).items():
        assert logged(two)[step] == pytest.approx(values, abs=1e-3), step


def test_one_process_has_nobody_to_share_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.train([SMALL, "--sharded"]) == 2
    assert "--sharded shares weights out among processes" in capsys.readouterr().err
