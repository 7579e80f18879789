"""A model of pretrained parts from folders, as somebody would use it: trained by LoRA, resumed,
exported, asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomag import cli, weights
from geomag.engine import checking, exporting, launch
from geomag_reference.pretrained import architecture_of, tokenizer_of
from tests.engine.running import logged, next_second

CONFIG = str(Path(__file__).with_name("full.py"))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of small models, as `save_pretrained` writes them, in place of those of the hub."""
    import transformers

    root = tmp_path_factory.mktemp("hub")
    model = checking.read(CONFIG).model
    classes = {
        "vision_encoder": transformers.SiglipVisionModel,
        "llm_adapter": transformers.Qwen3ForCausalLM,
        "cropper": transformers.SiglipModel,
        "mask_head": transformers.Sam2Model,
    }
    given = ["train_dataloader.num_workers=0"]
    for slot, model_class in classes.items():
        torch.manual_seed(0)
        config: Any = architecture_of(model[slot].architecture.to_dict(), None, {})
        model_class(config).save_pretrained(root / slot)
        given += [f"model.{slot}.weights={root / slot}", f"model.{slot}.architecture=None"]
        if slot in ("llm_adapter", "cropper"):
            tokenizer_of(None).save_pretrained(root / slot)
    return given


def test_trained_resumed_exported_and_asked(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    work = tmp_path / "work"
    command = [CONFIG, "--work-dir", str(work)]
    assert launch.train([*command, "--cfg-options", *options, "train_cfg.max_iters=2"]) == 0
    state = weights.read(work / "iter_2.pth")["state_dict"]
    learnt = {name.split(".")[1] for name in state if "vision_encoder" in name}
    assert not learnt  # frozen, and read from its folder again
    speaking = [name for name in state if ".language." in name]
    assert speaking
    assert all("lora_" in name for name in speaking)

    next_second()
    longer = [*options, "train_cfg.max_iters=4"]
    assert launch.train([*command, "--resume", "--cfg-options", *longer]) == 0
    assert list(logged(work)) == [3, 4]

    out = tmp_path / "exported"
    arguments = [CONFIG, str(work / "iter_4.pth"), str(out), "--cfg-options", *options]
    assert exporting.export(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "llm_adapter",
        "mask_head",
        "vision_encoder",
    ]
    capsys.readouterr()
    plain = transformers.AutoModelForCausalLM.from_pretrained(out / "llm_adapter")
    assert not [name for name in plain.state_dict() if "lora_" in name]
    before = transformers.AutoModelForCausalLM.from_pretrained(
        options[3].partition("=")[2]
    ).state_dict()
    moved = [
        name
        for name, tensor in plain.state_dict().items()
        if name.endswith("_proj.weight") and not torch.equal(tensor, before[name])
    ]
    assert moved  # what LoRA learnt is merged in
    transformers.Sam2Model.from_pretrained(out / "mask_head")
    assert exporting.export(arguments) == 2
    assert "is there already" in capsys.readouterr().err


def test_it_answers_from_the_command_line(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    work, scene = tmp_path / "work", tmp_path / "scene.png"
    command = [CONFIG, "--work-dir", str(work), "--cfg-options", *options, "train_cfg.max_iters=1"]
    assert launch.train(command) == 0
    config = work / "full.py"  # what the run was, with its folders
    pixels = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    Image.fromarray(pixels).save(scene)
    arguments = ["predict", str(scene), "every airplane", "-o", str(tmp_path / "found.json")]
    arguments += ["--config", str(config), "--checkpoint", str(work / "iter_1.pth")]
    assert cli.main([*arguments, "--max-views", "2"]) == 0, capsys.readouterr().err
    assert (tmp_path / "found.json").is_file()
