"""What a person at the shell gets for bad input: one line and a status, or a correct answer."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomag import cli, weights
from geomag.model import GeoMag
from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds

ROOT = Path(__file__).resolve().parents[1]
SLOTS: dict[str, type] = {
    "vision_encoder": Shades,
    "llm_adapter": Parrot,
    "granularity_controller": Closest,
    "cropper": Moody,
    "mask_head": Thresholds,
}
CONFIG = """
from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds

model = dict(
    vision_encoder=dict(type=Shades),
    llm_adapter=dict(type=Parrot),
    granularity_controller=dict(type=Closest),
    cropper=dict(type=Moody),
    mask_head=dict(type=Thresholds),
    overview_side=8,
)
"""
MODEL = ("--config", "config.py", "--checkpoint", "weights.safetensors")


class Result:
    """What one command left behind."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def run(self, *changes: str, image: str = "good.png", prompt: str = "every ship") -> None:
        self.status = cli.main(["predict", image, prompt, *MODEL, "-o", "out/answer", *changes])
        self.printed, self.complaint = self.capsys.readouterr()

    def saved(self) -> Any:
        return json.loads((self.folder / "out" / "answer" / "answer.json").read_text())


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Result:
    """A folder with a good image, a config, and weights that fit it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels()).save("good.png")
    Path("config.py").write_text(CONFIG)
    model = GeoMag(**{slot: {"type": kind} for slot, kind in SLOTS.items()}, overview_side=8)
    weights.save("weights.safetensors", model.state_dict(), {})
    return Result(tmp_path, capsys)


def pixels(height: int = 40, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def refuses(shell: Result, *words: str) -> None:
    """One line that says what is wrong, a status, and nothing written."""
    assert shell.status not in (0, None)
    assert shell.printed == ""
    assert shell.complaint.startswith("geomag: ")
    assert shell.complaint.count("\n") == 1
    assert "Traceback" not in shell.complaint
    for word in words:
        assert word in shell.complaint
    assert not (shell.folder / "out").exists()
    assert not list(shell.folder.rglob("*.part"))


def test_good_input_is_answered(shell: Result) -> None:
    shell.run()
    assert (shell.status, shell.complaint) == (0, "")
    text, cost, *written = shell.printed.splitlines()
    assert text == "Here."
    assert "views" in cost
    assert "tokens" in cost
    assert written == ["wrote out/answer/answer.json", "wrote out/answer/answer.png"]
    assert shell.saved()["masks"][0]["rle"]["size"] == [40, 30]


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_images(shell: Result, ending: str, share: float) -> None:
    Image.fromarray(pixels(200, 200)).save(f"whole.{ending}")
    whole = Path(f"whole.{ending}").read_bytes()
    Path("cut.img").write_bytes(whole[: int(len(whole) * share)])
    shell.run(image="cut.img")
    refuses(shell, "cut.img")


def test_images_that_are_none(shell: Result) -> None:
    Path("empty.png").touch()
    Path("words.png").write_text("every airplane\n")
    Path("folder.png").mkdir()
    for name, words in {
        "lost.png": "no such file",
        "empty.png": "empty",
        "words.png": "not an image",
        "folder.png": "folder",
    }.items():
        shell.run(image=name)
        refuses(shell, name, words)


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_empty_prompts(shell: Result, prompt: str) -> None:
    shell.run(prompt=prompt)
    refuses(shell, "prompt is empty")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (8, 9), (40, 30)])
def test_scenes_of_odd_sizes(shell: Result, height: int, width: int) -> None:
    Image.fromarray(pixels(height, width)).save("odd.png")
    shell.run(image="odd.png")
    assert (shell.status, shell.complaint) == (0, "")
    saved = shell.saved()
    assert (saved["scene"]["height"], saved["scene"]["width"]) == (height, width)
    assert [mask["rle"]["size"] for mask in saved["masks"]] == [[height, width]]


def answered(shell: Result, image: Image.Image, name: str = "odd.png") -> list[dict[str, Any]]:
    image.save(name)
    shell.run(image=name)
    assert (shell.status, shell.complaint) == (0, "")
    masks: list[dict[str, Any]] = shell.saved()["masks"]
    return masks


def test_grey_images_are_answered_like_their_colours(shell: Result) -> None:
    grey = pixels()[..., 0]
    expected = answered(shell, Image.fromarray(np.repeat(grey[..., None], 3, 2)))
    assert answered(shell, Image.fromarray(grey)) == expected
    assert answered(shell, Image.fromarray(grey).convert("P")) == expected


def test_opaque_images_are_answered_as_without_alpha(shell: Result) -> None:
    expected = answered(shell, Image.fromarray(pixels()))
    assert answered(shell, Image.fromarray(pixels()).convert("RGBA")) == expected


def test_nothing_is_marked_where_an_image_is_transparent(shell: Result) -> None:
    alpha = np.full((40, 30, 1), 255, np.uint8)
    alpha[:24] = 0
    (mask,) = answered(shell, Image.fromarray(np.dstack([pixels(), alpha])))
    assert mask["area"] > 0
    assert mask["box"][1] >= 24


def test_16_bit_images_are_answered_at_any_brightness(shell: Result) -> None:
    deep = pixels()[..., 0].astype(np.uint16)
    dark = answered(shell, Image.fromarray(deep * 4))
    bright = answered(shell, Image.fromarray(deep * 256))
    assert dark[0]["area"] > 0
    assert dark == bright


def test_checkpoints_that_cannot_be_used(shell: Result) -> None:
    good = Path("weights.safetensors").read_bytes()
    Path("short.safetensors").write_bytes(good[:-1])
    Path("empty.safetensors").touch()
    Path("words.pth").write_text("weights")
    weights.save("another.safetensors", {"stem.weight": torch.zeros(3)}, {})
    whole = Path("another.safetensors").read_bytes()  # the tensors come last
    Path("flipped.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    torch.save({"state_dict": {"stem.weight": torch.zeros(3)}}, "another.pth")
    for name, words in {
        "lost.safetensors": "does not exist",
        "short.safetensors": "damaged",
        "empty.safetensors": "damaged",
        "flipped.safetensors": "do not match their checksum",
        "words.pth": "damaged",
        "another.safetensors": "of another model",
        "another.pth": "of another model",
    }.items():
        shell.run("--checkpoint", name)
        refuses(shell, name, words)


def test_checkpoints_that_hold_code_are_not_run(shell: Result) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, ("sprung",)

    torch.save({"state_dict": {}, "meta": Trap()}, "trap.pth")
    Path("bare.pth").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.pth", "bare.pth"):
        shell.run("--checkpoint", name)
        refuses(shell, name)
        assert not Path("sprung").exists()


def test_configs_that_cannot_be_used(shell: Result) -> None:
    Path("broken.py").write_text("model = dict(")
    Path("typo.py").write_text(CONFIG.replace("mask_head", "mask_haed"))
    Path("unknown.py").write_text(CONFIG.replace("type=Moody", "type='baselines/unifrom'"))
    for name, words in {
        "lost.py": "no such file",
        "broken.py": "cannot be read",
        "typo.py": "Nearest: 'mask_head'",
        "unknown.py": "'baselines/unifrom' is not installed",
    }.items():
        shell.run("--config", name)
        refuses(shell, words)


def test_options_that_make_no_sense(shell: Result) -> None:
    for arguments, words in {
        ("--threshold", "2"): "--threshold '2'",
        ("--max-views", "-3"): "--max-views '-3'",
        ("--device", "abacus"): "device abacus",
        ("-o", "out/answer.docx"): ".docx is not written; expected .json, .png",
    }.items():
        shell.run(*arguments)
        refuses(shell, words)
    assert cli.main(["predict", "good.png", "every ship", "--config", "config.py"]) != 0
    assert "--checkpoint" in shell.capsys.readouterr().err


def test_outputs_that_cannot_be_written(shell: Result) -> None:
    Path("file").touch()
    Path("folder.json").mkdir()
    for name in ("file/answer.json", "folder.json"):
        status = cli.main(["predict", "good.png", "every ship", *MODEL, "-o", name])
        assert status != 0
        printed, complaint = shell.capsys.readouterr()
        assert printed == ""
        assert complaint.count("\n") == 1
        assert name in complaint
    assert not list(shell.folder.rglob("*.part"))
    assert Path("file").read_bytes() == b""


def test_the_command_itself_ends_without_a_traceback(shell: Result) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "geomag.cli", "predict", "good.png", "", *MODEL, "-o", "out/answer"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    shell.status, shell.printed, shell.complaint = ran.returncode, ran.stdout, ran.stderr
    refuses(shell, "prompt is empty")
