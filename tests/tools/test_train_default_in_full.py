"""The stages of the default weights in full, with a model that is as small as it gets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from geomag.engine import checking
from tests.tools.test_train_default import CARD, PUBLISHING, ROOT, WORK, Run, run, tool

__all__ = ["run", "tool"]  # fixtures
SMALL = ROOT / "tests" / "engine" / "small.py"


def small_configs(tool: ModuleType) -> None:
    """Trains the engine's small model instead, and class channels on its encoder."""
    config = checking.read(SMALL)
    held = dict(type="geomag.data.drawn.DrawnScenes", length=2, size=(120, 200), seed=2)
    config.merge_from_dict({"held_scenes": held, "default_hooks.pictures.interval": None})
    start = dict(type="geomag.engine.hooks.StartFrom", checkpoint="", part="vision_encoder")
    config.custom_hooks = [dict(type="geomag.engine.hooks.Schedule"), start]
    tool.MODEL, tool.YARDSTICK = "model.py", "channels.py"  # type: ignore[attr-defined]
    tool.TASKS = "[(class,1)]"  # type: ignore[attr-defined]
    config.dump(tool.MODEL)
    config.model = dict(
        type="geomag_baselines.channels.ClassChannels",
        vision_encoder=dict(config.model.vision_encoder),
        classes=("ship", "airplane", "storage tank", "vehicle"),
    )
    config.custom_hooks.pop()
    config.train_dataloader.dataset.update(tasks=[("conversation", 1)], exchanges=1)
    config.dump(tool.YARDSTICK)


@pytest.mark.slow
def test_in_full_with_what_is_as_small_as_it_gets(
    run: Run, tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes; the yardstick is taken for killed after its first checkpoint."""
    small_configs(tool)
    Path("card.json").write_text(json.dumps(CARD))
    few = ("--cfg-options", "train_cfg.max_iters=4", "default_hooks.checkpoint.interval=2")
    really = subprocess.run

    def killed(command: list[str]) -> SimpleNamespace:
        if f"{WORK}/yardstick" not in command:
            return SimpleNamespace(returncode=really(command).returncode)
        assert really([*command, "train_cfg.max_iters=2"]).returncode == 0
        return SimpleNamespace(returncode=-9)

    monkeypatch.setattr(subprocess, "run", killed)
    status, told, complaint = run(*few, *PUBLISHING)
    assert (status, "train.py ended with exit code -9" in complaint) == (2, True), told + complaint
    assert f"vision_encoder starts from {WORK}/encoder/iter_4.pth" in told + complaint
    assert f"Loaded {WORK}/encoder/iter_4.pth" in told + complaint
    monkeypatch.setattr(subprocess, "run", really)
    status, told, complaint = run(*few, *PUBLISHING)
    assert status == 0, told + complaint
    assert "yardstick: goes on after 2 iterations" in told
    assert "resumed epoch: 0, iter: 2" in told + complaint
    assert "yardstick: finished with 8 iterations" in told
    for name in ("refined", "yardstick"):
        report = json.loads((WORK / f"calibration_{name}.json").read_text())
        assert report["scenes"] == "held_scenes"
    assert "train.py model.py" in Path("tiny.md").read_text()
