"""What cannot be loaded, and what is not run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPModel

from geomag.errors import CheckpointError
from geomag_reference import folder
from geomag_reference.pretrained import architecture_of, load, tokenizer_of

Saved = Callable[..., Path]


@pytest.fixture
def clip(saved: Saved, tmp_path: Path) -> Path:
    """A copy of a small CLIP's folder, to be damaged."""
    return Path(shutil.copytree(saved("clip"), tmp_path / "clip"))


def weights_of(place: Path) -> Path:
    return place / "model.safetensors"


def edit(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes config.json."""
    path = place / "config.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def load_clip(place: Path | str) -> Any:
    return load(CLIPModel, architecture_of(None, str(place), {}), str(place))


def test_pickles_are_not_read(clip: Path) -> None:
    weights_of(clip).rename(clip / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds pickles \(pytorch_model.bin\).*safe_serial"):
        load_clip(clip)


def test_a_folder_without_weights_says_what_it_holds(clip: Path) -> None:
    weights_of(clip).unlink()
    with pytest.raises(CheckpointError, match=r"no model.safetensors .*holds config.json"):
        load_clip(clip)
    (clip / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds an adapter alone.*merge_and_unload"):
        load_clip(clip)


def test_missing_shards_are_listed(clip: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (clip / folder.INDEX).write_text(json.dumps(index))
    shutil.copy(weights_of(clip), clip / "model-1.safetensors")
    with pytest.raises(CheckpointError, match=r"1 of 2 files .* \(model-2.safetensors\)"):
        load_clip(clip)


def test_an_index_stays_in_its_folder(clip: Path) -> None:
    (clip / folder.INDEX).write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="names files outside"):
        load_clip(clip)
    (clip / folder.INDEX).write_text("[]")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_clip(clip)


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_truncated_file_is_damaged(clip: Path, kept: int) -> None:
    whole = weights_of(clip).read_bytes()
    weights_of(clip).write_bytes(whole[:kept])
    with pytest.raises(CheckpointError, match=r"are damaged.*download it again"):
        load_clip(clip)


def test_tensors_of_another_shape_are_told(clip: Path) -> None:
    state = load_file(weights_of(clip))
    state["text_projection.weight"] = torch.zeros(3, 32)
    save_file(state, weights_of(clip))
    with pytest.raises(CheckpointError, match=r"text_projection.weight \[3, 32\] instead of \[32"):
        load_clip(clip)


def test_a_config_that_cannot_be_read_is_told(clip: Path) -> None:
    (clip / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is damaged"):
        load_clip(clip)
    (clip / "config.json").write_text('{"model_type": "unheard_of"}')
    with pytest.raises(CheckpointError, match="'unheard_of' is not one that transformers knows"):
        load_clip(clip)
    (clip / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no config.json .*holds model.safetensors"):
        load_clip(clip)


def test_quantised_weights_are_refused(clip: Path) -> None:
    edit(clip, lambda found: found.update(quantization_config={"quant_method": "gptq"}))
    with pytest.raises(CheckpointError, match="are quantised"):
        load_clip(clip)


def test_a_name_that_cannot_be_fetched_says_how_to_get_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        load_clip("nobody/nothing")
    assert "no folder of that name here" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "hf download nobody/nothing --local-dir FOLDER" in str(caught.value)
    for path in ("./nothing", "/nothing/there", "nothing"):
        with pytest.raises(CheckpointError, match="there is no such folder"):
            load_clip(path)


def test_too_little_memory_is_told_before_loading(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = str(saved("clip"))
    config = architecture_of(None, place, {})
    memory = tmp_path / "meminfo"
    monkeypatch.setattr(folder, "MEMORY", memory)
    needed = sum(one.numel() for one in load(CLIPModel, config, place).parameters()) * 4
    for free, fits in ((needed + 4096, True), (needed - 4096, False)):
        memory.write_text(f"MemTotal: 9 kB\nMemAvailable: {free // 1024} kB\n")
        if fits:
            load(CLIPModel, config, place)
        else:
            with pytest.raises(CheckpointError, match=r"need 0.0 GiB .* dtype='bfloat16'"):
                load(CLIPModel, config, place)
            load(CLIPModel, config, place, dtype="bfloat16")


def test_code_in_a_folder_is_not_run(clip: Path) -> None:
    mark = clip / "was_run"
    (clip / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: ...\n")
    entries = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "CLIPModel": "evil.Evil"}
    kernel = {"attn_implementation": "owner/kernel", "transformers_weights": "evil.bin"}
    edit(clip, lambda found: found.update(auto_map=entries, **kernel))
    config = architecture_of(None, str(clip), {})
    assert not hasattr(config, "auto_map")
    assert config._attn_implementation != "owner/kernel"
    load(AutoModel, config, str(clip))
    tokenizer_of(None).save_pretrained(clip)
    (clip / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}})
    )
    tokenizer_of(str(clip))
    assert not mark.exists()


def test_a_file_is_no_folder(clip: Path) -> None:
    with pytest.raises(CheckpointError, match=r"it is a file; .* geomag_reference.open_clip"):
        load_clip(clip / "config.json")
    with pytest.raises(CheckpointError, match="not the tensors of a ViT-CLIP in open_clip's"):
        load_clip(weights_of(clip))
