"""Published weights answer as the checkpoint did, and say where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from geomag import weights
from geomag.engine.publish import publish

CARD = {
    "title": "Small",
    "data": [{"name": "drawn scenes", "terms": "ours"}],
    "limits": ["Knows four kinds of objects."],
}
METRICS = {
    "masks/class/exchanges": 88,
    "masks/class/mean_iou": 0.25,
    "masks/class/mean_iou_low": 0.2,
    "masks/class/mean_iou_high": 0.3,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table = torch.linspace(-1, 1, 600).reshape(20, 30)
    state = {"model.table": table, "model.head": table, "model.count": torch.tensor([3])}
    contents = {
        "state_dict": state,
        "meta": {"seed": 7, "iter": 90, "command": "train.py small.py", "cfg": "model = 1"},
        "message_hub": {"runtime_info": {"seconds_trained": 120.4}},
    }
    torch.save(contents, tmp_path / "iter_90.pth")
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    (tmp_path / "report.json").write_text(json.dumps({"metrics": METRICS}))
    return tmp_path


def run(folder: Path, *more: str, output: str = "small.safetensors") -> int:
    fixed = [str(folder / "iter_90.pth"), str(folder / output), "--card", str(folder / "card.json")]
    return publish([*fixed, *more])


def test_weights_are_halved_and_stay_tied(folder: Path) -> None:
    assert run(folder) == 0
    state = weights.read(folder / "small.safetensors")["state_dict"]
    original = weights.read(folder / "iter_90.pth")["state_dict"]["model.table"]
    assert state["table"].dtype is torch.float16
    assert torch.equal(state["head"], state["table"])
    assert (state["table"].float() - original).abs().max() < 5e-4
    assert state["count"].tolist() == [3]
    with safe_open(folder / "small.safetensors", framework="pt") as file:
        assert len(file.keys()) == 2
        assert file.metadata()["seed"] == "7"


def test_full_precision_is_kept_where_asked(folder: Path) -> None:
    assert run(folder, "--bits", "32") == 0
    state = weights.read(folder / "small.safetensors")["state_dict"]
    original = weights.read(folder / "iter_90.pth")["state_dict"]["model.table"]
    assert torch.equal(state["table"], original)


def test_card_says_what_is_known(folder: Path) -> None:
    assert run(folder, "--report", str(folder / "report.json")) == 0
    card = (folder / "small.md").read_text()
    for part in (
        "# Small",
        "- drawn scenes. Terms: ours",
        "- command: `train.py small.py`",
        "- seed: `7`",
        "- seconds trained: `120`",
        "| class | exchanges | 88 |  |",
        "| class | mean_iou | 0.250 | 0.200 to 0.300 |",
        "- Knows four kinds of objects.",
        "0.00 M values",
    ):
        assert part in card
    assert run(folder) == 0
    assert "None were measured." in (folder / "small.md").read_text()


@pytest.mark.parametrize(
    ("card", "missing"),
    [
        ({}, ['"title"', '"data"', '"limits"']),
        ({**CARD, "data": [{"name": "x"}]}, ['"data"']),
        ({**CARD, "limits": []}, ['"limits"']),
        ([], ['"title"']),
    ],
)
def test_incomplete_card_is_refused_with_nothing_written(
    folder: Path, card: Any, missing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "card.json").write_text(json.dumps(card))
    assert run(folder) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert all(part in message for part in missing)
    assert not list(folder.glob("small*"))


def test_other_faults_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, output="small.pth") == 2
    assert "ends in .safetensors" in capsys.readouterr().err
    assert run(folder, "--report", "none.json") == 2
    assert "none.json cannot be read" in capsys.readouterr().err
    torch.save({"state_dict": {"a": torch.tensor([1e9])}, "meta": {}}, folder / "iter_90.pth")
    assert run(folder) == 2
    assert "--bits 32" in capsys.readouterr().err
    assert run(folder, "--bits", "32") == 0
