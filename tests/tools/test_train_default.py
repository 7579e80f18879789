"""The stages of the default weights: skipped, resumed, stopped in the middle."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from geomag import weights

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "train_default.py"
WORK = Path("work_dirs/default")
RATE = 10
"""Iterations a second that a pretended training makes."""
CARD = {"title": "Tiny", "data": [{"name": "ours", "terms": "any"}], "limits": ["All."]}
PUBLISHING = ("--publish", "tiny.safetensors", "--card", "card.json")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOOL.parent))
    # Anew: where the configs are is seen from the folder that it is imported in.
    for name in (TOOL.stem, "stages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(TOOL.stem)


@pytest.fixture
def run(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Runs the tool's main in an empty folder; returns the status, what it printed, complaints."""

    def ran(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        return tool.main(), *capfd.readouterr()

    return ran


class Pretended:
    """What tools leave behind, without their work; `stops` says after how many seconds of a stage,
    and with what exit code, the next training of it ends."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.stops: dict[str, tuple[float, int]] = {}

    def __call__(self, command: list[str]) -> SimpleNamespace:
        assert command[0] == sys.executable
        name, *arguments = Path(command[1]).name, *command[2:]
        self.calls.append([name, *arguments])
        if name == "train.py":
            return SimpleNamespace(returncode=self._train(arguments))
        if name == "calibrate.py":
            digest = hashlib.sha256(Path(arguments[1]).read_bytes()).hexdigest()
            report = json.dumps({"sha256": digest, "presence": 0.25})
            Path(arguments[arguments.index("--out") + 1]).write_text(report)
        return SimpleNamespace(returncode=0)

    def _train(self, arguments: list[str]) -> int:
        folder = Path(arguments[arguments.index("--work-dir") + 1])
        texts = arguments[arguments.index("--cfg-options") + 1 :]
        settings = dict(text.split("=", 1) for text in texts)
        newest = weights.newest(folder, print) if "--resume" in arguments else None
        before = weights.read(newest)["meta"]["iter"] / RATE if newest else 0.0
        limit = settings["custom_hooks.0.seconds"]
        seconds = 1e9 if limit == "None" else float(limit)
        seconds = min(seconds, int(settings.get("train_cfg.max_iters", 20_000)) / RATE)
        stop, code = self.stops.pop(folder.name, (seconds, 0))
        if stop:
            save(folder, max(stop, before))
        return code

    def names(self) -> list[str]:
        """What was trained, by its folder, and the other tools that were called."""
        trained = "--work-dir"
        return [
            Path(call[call.index(trained) + 1]).name if trained in call else call[0]
            for call in self.calls
        ]


def save(folder: Path, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    iterations = round(seconds * RATE)
    contents = {
        "state_dict": {"weight": torch.full((2,), seconds)},
        "meta": {"iter": iterations},
        "message_hub": {"runtime_info": {"seconds_trained": seconds}},
    }
    torch.save(contents, folder / f"iter_{iterations}.pth")
    (folder / "last_checkpoint").write_text(f"iter_{iterations}.pth")


@pytest.fixture
def pretended(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    made = Pretended()
    monkeypatch.setattr(subprocess, "run", made)
    return made


ALL = ["encoder", "model", "refined", "yardstick", "calibrate.py", "calibrate.py"]


def settings_of(call: list[str]) -> list[str]:
    return call[call.index("--cfg-options") + 1 :]


def test_all_stages_in_order_and_none_of_them_twice(
    run: Run, tool: ModuleType, pretended: Pretended
) -> None:
    Path("card.json").write_text(json.dumps(CARD))
    status, told, complaint = run(*PUBLISHING, "--cfg-options", "train_dataloader.batch_size=2")
    assert (status, complaint) == (0, "")
    assert pretended.names() == [*ALL, "publish_model.py"]
    encoder, model, refined, yardstick, calibrated, _, published = pretended.calls
    # The command is noted in what is published, so it names no place on this machine.
    assert not Path(model[1]).is_absolute()
    assert Path(model[1]).resolve() == ROOT / "configs" / "tiny_nwpu.py"
    assert [Path(call[1]).name for call in (encoder, yardstick)] == ["yardstick_nwpu.py"] * 2
    trained = (encoder, model, refined, yardstick)
    assert [call.count("--resume") for call in trained] == [1, 1, 0, 0]
    few = "train_dataloader.batch_size=2"
    assert settings_of(encoder) == [few, "custom_hooks.0.seconds=2400"]
    starting = f"custom_hooks.1.checkpoint={WORK}/encoder"
    assert settings_of(model) == [few, "custom_hooks.0.seconds=3300", starting]
    assert settings_of(refined) == [
        few,
        "custom_hooks.0.seconds=2700",
        f"custom_hooks.1.checkpoint={WORK}/model",
        "optim_wrapper.optimizer.lr=0.0005",
        "train_dataloader.dataset.seed=1",
        f"train_dataloader.dataset.tasks={tool.TASKS}",
        f"load_from={WORK}/model/iter_20000.pth",
    ]
    assert refined[1] == model[1]
    assert settings_of(yardstick) == [
        few,
        "train_cfg.max_iters=40000",
        "optim_wrapper.optimizer.lr=0.0005",
        "custom_hooks.0.seconds=None",
        f"load_from={WORK}/encoder/iter_20000.pth",
    ]
    assert calibrated[2] == f"{WORK}/refined/iter_20000.pth"
    assert settings_of(calibrated) == [few]
    assert published[1:3] == [f"{WORK}/refined/iter_20000.pth", "tiny.safetensors"]
    assert "calibrate: presence of yardstick is 0.25" in told

    pretended.calls.clear()
    status, told, _ = run()
    assert (status, pretended.calls) == (0, [])
    assert told.count("skipped") == 7
    assert "yardstick: finished with 40000 iterations, 4000 s; skipped\n" in told
    assert "calibrate: refined is finished; skipped\n" in told


SHORT = ("--encoder-seconds", "40", "--model-seconds", "60", "--refined-seconds", "20")


def test_what_was_stopped_goes_on(run: Run, pretended: Pretended) -> None:
    pretended.stops["model"] = (20, 130)
    status, _, complaint = run(*SHORT)
    assert (status, complaint) == (130, "stopped; the same command goes on\n")
    assert pretended.names() == ALL[:2]

    # The yardstick is stopped before its first checkpoint, so it starts once more.
    pretended.calls.clear()
    pretended.stops["yardstick"] = (0, -2)
    status, told, _ = run(*SHORT)
    assert status == 130
    assert pretended.names() == ALL[1:4]
    assert "encoder: finished with 400 iterations, 40 s; skipped" in told
    assert "model: goes on after 200 iterations, 20 s" in told
    assert "--resume" in pretended.calls[0]

    pretended.calls.clear()
    pretended.stops["yardstick"] = (30, 130)
    run(*SHORT)
    assert pretended.names() == ["yardstick"]
    assert f"load_from={WORK}/encoder/iter_400.pth" in pretended.calls[0]
    assert "--resume" not in pretended.calls[0]

    # And now after one, from where it goes on: load_from would start it over.
    pretended.calls.clear()
    status, told, _ = run(*SHORT)
    assert status == 0
    assert pretended.names() == ALL[3:]
    assert "train_cfg.max_iters=800" in pretended.calls[0]
    assert "--resume" in pretended.calls[0]
    assert not [text for text in pretended.calls[0] if text.startswith("load_from")]
    assert "yardstick: finished with 800 iterations, 80 s" in told


def test_new_weights_are_calibrated_anew(run: Run, pretended: Pretended) -> None:
    run(*SHORT)
    save(WORK / "refined", 20.01)  # under the same name
    pretended.calls.clear()
    run(*SHORT)
    assert [call[2] for call in pretended.calls] == [f"{WORK}/refined/iter_200.pth"]


def test_a_stage_waits_for_what_it_starts_from(run: Run, pretended: Pretended) -> None:
    status, _, complaint = run(*SHORT, "--stages", "model")
    assert status == 2
    assert complaint.startswith(
        f"error: stage encoder is not finished in {WORK}/encoder, which holds nothing; run it first"
    )
    assert not pretended.calls
    run(*SHORT, "--stages", "encoder")
    # For longer than it had: it is not finished any more.
    status, _, complaint = run("--encoder-seconds", "50", "--stages", "model")
    assert "which holds 400 iterations, 40 s;" in complaint
    run(*SHORT, "--stages", "model")
    assert pretended.names() == ALL[:2]


def test_iterations_end_a_stage_too(run: Run, pretended: Pretended) -> None:
    few = ("--cfg-options", "train_cfg.max_iters=50")
    assert run(*few)[0] == 0
    assert "train_cfg.max_iters=100" in settings_of(pretended.calls[3])
    pretended.calls.clear()
    run(*few)
    assert not pretended.calls


def test_what_goes_wrong_is_one_line(run: Run, pretended: Pretended) -> None:
    Path("card.json").write_text("{}")
    for arguments, expected in (
        (("--publish", "tiny.safetensors"), "--publish: expected a name that ends in"),
        (("--publish", "tiny.pth", "--card", "card.json"), "--publish: expected a name that ends"),
        (("--publish", "a.safetensors", "--card", "card.json"), 'card card.json lacks "title"'),
        (("--work-dir", "my work"), "--work-dir my work: expected a folder without any"),
        (("--cfg-options", "model"), "--cfg-options model: expected KEY=VALUE"),
        (("--cfg-options", "train_cfgs.max_iters=3"), "there is no train_cfgs"),
    ):
        status, _, complaint = run(*arguments)
        assert (status, complaint.count("\n")) == (2, 1), complaint
        assert complaint.startswith("error: ")
        assert expected in complaint
    assert not pretended.calls
    pretended.stops["encoder"] = (10, 2)
    status, _, complaint = run()
    assert status == 2
    assert complaint == (
        "error: train.py ended with exit code 2; once that is mended, the same command goes on\n"
    )
