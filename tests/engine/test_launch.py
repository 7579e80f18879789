"""Training, stopping, going on, and what is told to who asks for the impossible."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from geomag import weights
from geomag.engine import launch

from .running import ROOT, SMALL, extended, logged, next_second, read

# Two runs of a test may begin within a second, which mmengine takes for the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not accept any other arguments")
QUIET = ("--cfg-options", "default_hooks.pictures.interval=None")


def told(capfd: pytest.CaptureFixture[str], code: int) -> str:
    """The one line that an error is, without a traceback anywhere."""
    output = capfd.readouterr()
    assert code == 2
    assert "Traceback" not in output.out + output.err
    lines = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six iterations that saved after three and at the end."""
    work = tmp_path_factory.mktemp("unbroken")
    options = (*QUIET, "default_hooks.checkpoint.interval=3")
    assert launch.train([SMALL, "--work-dir", str(work), *options]) == 0
    return work


def test_run_that_is_resumed_ends_bit_for_bit_as_one_that_was_not(
    unbroken: Path, tmp_path: Path
) -> None:
    shutil.copy(unbroken / "iter_3.pth", tmp_path)
    options = (*QUIET, "train_dataloader.num_workers=2")
    assert launch.train([SMALL, "--work-dir", str(tmp_path), "--resume", *options]) == 0
    whole, resumed = logged(unbroken), logged(tmp_path)
    assert list(resumed) == [4, 5, 6]
    assert all(resumed[step] == whole[step] for step in resumed)
    one = weights.read(unbroken / "iter_6.pth")["state_dict"]
    other = weights.read(tmp_path / "iter_6.pth")["state_dict"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_work_folder_can_be_moved_and_resumes_from_what_is_whole(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "moved"
    shutil.copytree(unbroken, work)
    assert (work / "last_checkpoint").read_text() == "iter_6.pth"
    damaged = work / "iter_6.pth"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    next_second()
    assert launch.train([SMALL, "--work-dir", str(work), "--resume", *QUIET]) == 0
    assert list(logged(work)) == [4, 5, 6]
    assert "iter_6.pth is damaged" in capfd.readouterr().out
    assert weights.read(damaged)["meta"]["iter"] == 6


def test_named_checkpoint_is_resumed_from(unbroken: Path, tmp_path: Path) -> None:
    arguments = [SMALL, "--work-dir", str(tmp_path), "--resume", str(unbroken / "iter_3.pth")]
    assert launch.train([*arguments, *QUIET, "train_cfg.max_iters=4"]) == 0
    assert list(logged(tmp_path)) == [4]


def test_resuming_in_an_empty_folder_starts_anew(tmp_path: Path) -> None:
    options = (*QUIET, "train_cfg.max_iters=1")
    assert launch.train([SMALL, "--work-dir", str(tmp_path), "--resume", *options]) == 0
    assert list(logged(tmp_path)) == [1]


def test_checkpoint_says_where_it_comes_from(unbroken: Path) -> None:
    meta = weights.read(unbroken / "iter_6.pth")["meta"]
    assert meta["seed"] == 0
    assert meta["iter"] == 6
    assert "tiny/llm_adapter" in meta["cfg"]
    assert {"command", "geomag_version", "torch_version", "time"} <= meta.keys()


def test_old_checkpoints_go_once_there_are_newer_ones(tmp_path: Path) -> None:
    keep = ("default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=1")
    options = (*QUIET, *keep, "train_cfg.max_iters=2")
    (tmp_path / ".iter_9.pth.stale.part").write_text("of a run that was killed")
    assert launch.train([SMALL, "--work-dir", str(tmp_path), *options]) == 0
    assert [path.name for path in tmp_path.glob("iter_*")] == ["iter_2.pth"]
    assert not list(tmp_path.glob(".*"))


def test_time_limit_stops_with_a_checkpoint(tmp_path: Path) -> None:
    options = (*QUIET, "custom_hooks.0.seconds=1", "train_cfg.max_iters=100000")
    assert launch.train([SMALL, "--work-dir", str(tmp_path), *options]) == 0
    last = max(logged(tmp_path))
    assert last < 100
    assert weights.newest(tmp_path, print) == tmp_path / f"iter_{last}.pth"


def test_averaged_weights_are_saved_and_resumed(tmp_path: Path) -> None:
    config = extended(tmp_path / "averaged.py", "custom_hooks.append(dict(type='EMAHook'))")
    work = tmp_path / "work"
    arguments = [str(config), "--work-dir", str(work), "--resume", *QUIET]
    assert launch.train([*arguments, "train_cfg.max_iters=3"]) == 0
    contents = weights.read(work / "iter_3.pth")
    name = "model.mask_head.presence.weight"
    assert not torch.equal(
        contents["state_dict"][name], contents["ema_state_dict"][f"module.{name}"]
    )
    next_second()
    assert launch.train([*arguments, "train_cfg.max_iters=4"]) == 0
    assert list(logged(work)) == [4]


def test_testing_a_folder_takes_its_newest(unbroken: Path, tmp_path: Path) -> None:
    out, shown = tmp_path / "out.json", tmp_path / "shown"
    arguments = [SMALL, str(unbroken), "--work-dir", str(tmp_path), "--out", str(out)]
    assert launch.test([*arguments, "--show-dir", str(shown)]) == 0
    report = read(out)
    assert len(list(shown.glob("*.png"))) == len(report["outcomes"])
    assert {"masks/class/mean_iou", "masks/absent/refused"} <= report["metrics"].keys()
    # The same weights as safetensors, under the model's own names.
    published = tmp_path / "model.safetensors"
    weights.save(published, weights.unwrapped(weights.read(unbroken / "iter_6.pth")), {})
    # So is the config that the run left in its work folder.
    again = [
        str(unbroken / "small.py"),
        str(published),
        "--work-dir",
        str(tmp_path),
        "--out",
        str(out),
    ]
    assert launch.test(again) == 0
    assert read(out)["outcomes"] == report["outcomes"]


@pytest.mark.parametrize(
    ("control", "tasks"),
    [("blanked", {"class", "referring", "absent"}), ("swapped", {"class", "referring"})],
)
def test_controls_are_one_option(
    unbroken: Path, tmp_path: Path, control: str, tasks: set[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = [SMALL, str(unbroken), "--work-dir", str(tmp_path), "--out", str(out)]
    assert launch.test([*arguments, "--cfg-options", f"control={control}"]) == 0
    assert {one["task"] for one in read(out)["outcomes"]} == tasks


def test_pictures_are_drawn_while_training(tmp_path: Path) -> None:
    options = ("default_hooks.pictures.interval=1", "train_cfg.max_iters=1")
    assert launch.train([SMALL, "--work-dir", str(tmp_path), "--cfg-options", *options]) == 0
    assert len(list(tmp_path.glob("pictures/iter_1/*.png"))) == 2


def test_impossible_configs_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work = ("--work-dir", str(tmp_path / "work"))
    cases = {
        ("nowhere.py",): "does not exist",
        (SMALL, "--cfg-options", "trian_cfg.max_iters=3"): "'train_cfg'",
        (SMALL, "--cfg-options", "model.cropper.type=tiny/croper"): "'tiny/cropper'",
        (SMALL, "--cfg-options", "model.cropper.widht=3"): "'width'",
        (SMALL, "--cfg-options", "train_dataloader.dataset.side=32"): "the same number",
        (SMALL, "--cfg-options", "train_dataloader=None"): "lacks train_dataloader",
        (SMALL, "--launcher", "pytorch"): "torchrun",
    }
    if not torch.cuda.is_available():
        cases[(SMALL, "--amp")] = "needs a GPU"
    for arguments, expected in cases.items():
        assert expected in told(capfd, launch.train([*arguments, *work])), arguments


def test_missing_data_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nwpu = str(ROOT / "configs" / "tiny_nwpu.py")
    work = ("--work-dir", str(tmp_path / "work"))
    monkeypatch.setenv("GEOMAG_DATA", str(tmp_path / "from_environment"))
    message = told(capfd, launch.train([nwpu, *work]))
    assert str(tmp_path / "from_environment" / "nwpu_vhr10") in message
    assert "RSPrompter" in message
    options = ("--cfg-options", f"data_root={tmp_path / 'from_option'}")
    message = told(capfd, launch.train([nwpu, *work, *options]))
    assert str(tmp_path / "from_option" / "nwpu_vhr10") in message


def test_impossible_checkpoints_are_one_line(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = ("--work-dir", str(tmp_path / "work"))
    bare = tmp_path / "bare.safetensors"
    weights.save(bare, weights.unwrapped(weights.read(unbroken / "iter_6.pth")), {})
    cases = {
        (launch.test, "none.pth"): "does not exist",
        (launch.test, str(tmp_path)): "holds no checkpoint",
        (launch.train, "--resume", "none.pth"): "does not exist",
        (launch.train, "--resume", str(bare)): "weights alone",
    }
    for (run, *arguments), expected in cases.items():
        assert expected in told(capfd, run([SMALL, *arguments, *work])), arguments
    other = ("--cfg-options", "model.mask_head.hidden=6")
    message = told(capfd, launch.test([SMALL, str(bare), *work, *other]))
    assert "of another model" in message
    assert "mask_head." in message
