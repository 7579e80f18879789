"""A yardstick is trained and tested with the same tools, and a model starts from its encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomag import weights
from geomag.engine import launch

from .running import extended, logged, read

# Two runs of a test may begin within a second, which mmengine takes for the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not accept any other arguments")
YARDSTICK = (
    "from geomag_baselines.channels import ClassChannels",
    "model = dict(",
    "    type=ClassChannels,",
    "    vision_encoder=model['vision_encoder'],",
    "    classes=('ship', 'airplane', 'storage_tank', 'vehicle'),",
    ")",
    "train_dataloader.dataset.update(tasks=[('conversation', 1)], exchanges=1)",
)


@pytest.fixture(scope="module")
def yardstick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a yardstick that was trained for two iterations."""
    folder = tmp_path_factory.mktemp("yardstick")
    config = extended(folder / "yardstick.py", *YARDSTICK)
    work = folder / "work"
    options = ("--cfg-options", "default_hooks.pictures.interval=2", "train_cfg.max_iters=2")
    assert launch.train([str(config), "--work-dir", str(work), *options]) == 0
    return work


def test_yardstick_is_trained_and_tested(yardstick: Path, tmp_path: Path) -> None:
    losses = logged(yardstick)
    assert [sorted(one) for one in losses.values()] == [["loss", "loss_dice", "loss_mask"]] * 2
    assert list(yardstick.glob("pictures/iter_2/*.png"))
    out = tmp_path / "report.json"
    # The config that the run left behind spells its classes out.
    arguments = [str(yardstick / "yardstick.py"), str(yardstick), "--work-dir", str(tmp_path)]
    assert launch.test([*arguments, "--out", str(out)]) == 0
    report = read(out)
    assert {"masks/class/mean_iou", "masks/absent/refused"} <= report["metrics"].keys()
    assert all(0 <= one["score"] <= 1 for one in report["outcomes"])
    assert {one["views"] for one in report["outcomes"]} == {0}


def test_model_starts_from_the_encoder_of_a_yardstick(yardstick: Path, tmp_path: Path) -> None:
    hook = f"custom_hooks.append(dict(type='StartFrom', checkpoint={str(yardstick)!r}))"
    still = "optim_wrapper.paramwise_cfg = dict(custom_keys=dict(vision_encoder=dict(lr_mult=0.0)))"
    config = extended(tmp_path / "started.py", hook, still)
    arguments = [str(config), "--work-dir", str(tmp_path / "work"), "--cfg-options"]
    options = ("default_hooks.pictures.interval=None", "train_cfg.max_iters=1")
    assert launch.train([*arguments, *options]) == 0
    theirs = weights.read(yardstick / "iter_2.pth")["state_dict"]
    own = weights.read(tmp_path / "work" / "iter_1.pth")["state_dict"]
    names = [name for name in own if name.startswith("model.vision_encoder.")]
    assert names
    assert all(torch.equal(own[name], theirs[name]) for name in names)


def test_model_that_starts_from_nothing_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hook = f"custom_hooks.append(dict(type='StartFrom', checkpoint={str(tmp_path)!r}))"
    config = extended(tmp_path / "started.py", hook)
    options = ("--cfg-options", "default_hooks.pictures.interval=None")
    assert launch.train([str(config), "--work-dir", str(tmp_path / "work"), *options]) == 2
    errors = capfd.readouterr().err
    assert f"error: {tmp_path} holds no checkpoint" in errors
    assert "Traceback" not in errors
