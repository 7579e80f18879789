"""Calibration of both kinds of model, and what it foretells against what the model then does."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from geomag import weights
from geomag.data.coco import CocoInstances
from geomag.engine import checking
from geomag.engine.trainable import Trainable, build

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "calibrate.py"
SMALL = ROOT / "tests" / "engine" / "small.py"
CLASSES = ("ship", "pier", "vehicle")
CHANNELS = f"""
from geomag.data.coco import CocoInstances
from geomag_baselines.channels import ClassChannels

data_root = "nowhere"
model = dict(
    type=ClassChannels,
    vision_encoder=dict(
        type="tiny/encoder", embed_dims=(16, 24, 32), widths=(16, 16, 24, 32, 48), heads=3
    ),
    classes={CLASSES},
    width=8,
    presence=0.9,
)
held_scenes = dict(
    type=CocoInstances, root="tiny", annotations="annotations/train.json", part="all"
)
other_scenes = dict(
    type=CocoInstances, root="tiny", annotations="annotations/train.json", part="held"
)
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the tool's main in an empty folder; returns the status, what it printed, complaints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOMAG_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(str(TOOL.parent))
    specification = importlib.util.spec_from_file_location("calibrate", TOOL)
    assert specification
    assert specification.loader
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)

    def ran(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        return tool.main(), *capsys.readouterr()

    return ran


@pytest.fixture
def channels(tmp_path: Path) -> Trainable:
    """Six pictures of two classes of three; a model that marks everything, more or less surely."""
    folder = tmp_path / "tiny"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    random = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for number in range(6):
        picture = random.integers(0, 256 - 30 * number, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
        file = f"{number}.png"
        images.append({"id": number, "file_name": file, "height": 64, "width": 96})
        for category in (number % 2, 2)[: 1 + number // 3]:
            ring = [10, 20, 40, 20, 40, 50, 10, 50]
            identity = {"id": len(labels), "image_id": number, "category_id": category}
            labels.append({**identity, "bbox": [10, 20, 30, 30], "segmentation": [ring]})
    names = [{"id": place, "name": name} for place, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": labels, "categories": names}
    (folder / "annotations" / "train.json").write_text(json.dumps(content))
    (tmp_path / "channels.py").write_text(CHANNELS)
    torch.manual_seed(0)
    model = build(checking.read(tmp_path / "channels.py").model)
    assert isinstance(model, torch.nn.Module)
    torch.nn.init.constant_(model.decide.bias, 2.0)
    weights.save(tmp_path / "channels.safetensors", model.state_dict(), {})
    return Trainable(model).eval()


def refusals(trainable: Trainable, presence: float) -> dict[str, list[bool]]:
    """What the model itself refuses of all scenes, by task."""
    trainable.model.presence = presence  # type: ignore[attr-defined]
    scenes = CocoInstances("tiny", "annotations/train.json", tasks=("class", "absent"))
    found: dict[str, list[bool]] = {"class": [], "absent": []}
    for place in range(len(scenes)):
        for outcome in trainable.test(scenes[place]).outcomes:
            found[outcome.task].append(outcome.refused)
    return found


def test_what_is_foretold_is_what_the_model_does(run: Run, channels: Trainable) -> None:
    status, told, complaint = run(
        "channels.py", "channels.safetensors", "--most", "0.3", "--out", "report.json"
    )
    assert (status, "error" in complaint) == (0, False)
    report = json.loads(Path("report.json").read_text())
    together = report["figures"]["all images"]["together"]
    assert (together["images"], together["present"], together["absent"]) == (6, 9, 9)
    # The config's own presence of 0.9 does not count.
    assert together["before"]["refused"]["value"] == 0
    assert 0 < report["presence"] < 1
    really = refusals(channels, report["presence"])
    for task, key in (("class", "false_refusals"), ("absent", "refused")):
        assert together["after"][key]["value"] == pytest.approx(np.mean(really[task]))
    assert sum(really["class"]) == 2  # of 9, and 3 would be more than 30 %
    above = refusals(channels, float(np.nextafter(report["presence"], 1)))
    assert sum(above["class"]) == 3
    assert f"presence {report['presence']}: the highest that refuses at most 30.0%" in told
    assert list(report["figures"]["all images"]["by_class"]) == [
        "every pier",
        "every ship",
        "every vehicle",
    ]
    assert [row["most"] for row in report["trades"]] == [0.05, 0.1, 0.15, 0.2]
    assert len(report["outcomes"]) == 18
    assert not list(Path().glob(".*.part"))


def test_a_given_presence_elsewhere_and_without_some_images(
    run: Run, channels: Trainable, tmp_path: Path
) -> None:
    (tmp_path / "shared.json").write_text(json.dumps({"pairs": [["0.png", "5.png"]]}))
    applied = ("--scenes", "held_scenes", "--presence", "0.99", "--without", "shared.json")
    status, told, _ = run("channels.py", "channels.safetensors", *applied, "--out", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (status, report["presence"], report["most"]) == (0, 0.99, None)
    assert "presence 0.99, as given" in told
    every, fewer = report["figures"].values()
    assert (every["together"]["images"], fewer["together"]["images"]) == (6, 5)
    assert every["together"]["after"]["mean_iou"]["value"] == 0
    # The first tenth of six images is one.
    assert run("channels.py", "channels.safetensors", "--scenes", "other_scenes")[0] == 0


def test_a_geomag_on_drawn_scenes(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(checking.read(SMALL).model)
    assert isinstance(model, torch.nn.Module)
    weights.save(tmp_path / "small.safetensors", model.state_dict(), {})
    status, told, _ = run(SMALL, "small.safetensors", "--scenes", "shown_scenes")
    assert status == 0
    assert "weights small.safetensors, shown_scenes" in told
    assert "| mean IoU, of what is there" in told


def test_what_the_user_got_wrong_is_one_line(run: Run, channels: Trainable, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"pairs": [["7.png", "5.png"]]}))
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    right = ("channels.py", "channels.safetensors")
    for arguments, expected in (
        (("channels.py", "none.pth"), "checkpoint none.pth does not exist"),
        (("channels.py", "empty"), "empty holds no checkpoint"),
        ((*right, "--scenes", "hold_scenes"), "has no data set hold_scenes. Nearest: 'held_sce"),
        ((*right, "--without", "other.json"), "other.json names no image of held_scenes"),
        ((*right, "--without", "none.json"), 'none.json: expected {"pairs"'),
        ((*right, "--cfg-options", "data_root=gone"), "gone/tiny: no such folder"),
        ((*right, "--out", "channels.py/report.json"), "channels.py/report.json cannot be written"),
    ):
        status, _, complaint = run(*arguments)
        last = complaint.splitlines()[-1]
        assert (status, last[:7]) == (2, "error: "), complaint
        assert expected in last
