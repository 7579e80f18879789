"""A full-size config, its parts small: two processes, replicated or sharded, learn as one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomag import weights
from geomag.engine import launch
from tests.engine.running import finished, logged, start_several

CONFIG = str(Path(__file__).with_name("full.py"))
ITERATIONS = 4
OPTIONS = (
    f"train_cfg.max_iters={ITERATIONS} "
    "train_dataloader.dataset.exchanges=1 "
    # Each process would drop something else.
    "model.llm_adapter.tune.lora_dropout=0.0"
)


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    share = f"--small --launcher pytorch --cfg-options {OPTIONS} train_dataloader.batch_size=2"
    several = {
        tmp_path / name: start_several(2, f"{CONFIG} --work-dir {tmp_path / name} {way}{share}")
        for name, way in (("replicated", ""), ("sharded", "--sharded "))
    }
    one = tmp_path / "one"
    arguments = f"{CONFIG} --work-dir {one} --small --cfg-options {OPTIONS}"
    assert launch.train(arguments.split()) == 0
    losses, alone = logged(one), weights.read(one / f"iter_{ITERATIONS}.pth")["state_dict"]
    masks = [values["loss_mask"] for values in losses.values()]
    assert min(masks) == 0 < max(masks)  # a step without any [SEG], and others
    for work, processes in several.items():
        for process in processes:
            finished(process)
        assert list(logged(work)) == list(losses) == list(range(1, ITERATIONS + 1))
        for step, values in logged(work).items():
            assert values == pytest.approx(losses[step], abs=1e-3), (work.name, step)
        state = weights.read(work / f"iter_{ITERATIONS}.pth")["state_dict"]
        assert state.keys() == alone.keys()
        assert all(state[name].shape == tensor.shape for name, tensor in alone.items())


def test_stages_leave_still_what_does_not_learn(tmp_path: Path) -> None:
    work = tmp_path / "work"
    given = "--cfg-options train_cfg.max_iters=2 train_dataloader.batch_size=1"
    kept = {}
    for stage in ("align", "instruct"):
        command = f"{CONFIG} --work-dir {work} --small --stage {stage} {given}"
        assert launch.train(command.split()) == 0
        kept[stage] = weights.read(work / stage / "iter_2.pth")["state_dict"]
    moved = {
        name.split(".")[1]
        for name, tensor in kept["align"].items()
        if not tensor.equal(kept["instruct"][name])
    }
    assert "mask_head" not in moved
    assert {"llm_adapter", "cropper", "granularity_controller"} <= moved
    adapters = [name for name in kept["align"] if "lora_B" in name]
    assert adapters
    assert not any(kept["align"][name].any() for name in adapters)
    assert any(kept["instruct"][name].any() for name in adapters)
