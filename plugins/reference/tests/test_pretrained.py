from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPModel, CLIPVisionModel

from geomag.errors import CheckpointError, ConfigError
from geomag_reference import folder, small
from geomag_reference.pretrained import RANDOM, architecture_of, load, tokenizer_of

Saved = Callable[..., Path]
FAMILIES = (
    *("clip_vision_model", "clip_text_model", "clip", "siglip_vision_model", "siglip"),
    *("siglip2_vision_model", "siglip2", "dinov3_vit", "dinov3_convnext", "dinov2", "llama"),
    *("qwen3", "qwen2_5_vl", "qwen3_vl", "sam", "sam2"),
)
VISION = {"model_type": "clip_vision_model"}


@pytest.fixture
def clip(saved: Saved, tmp_path: Path) -> Path:
    """A copy of a small CLIP's folder, to be damaged."""
    return Path(shutil.copytree(saved("clip"), tmp_path / "clip"))


def weights_of(place: Path) -> Path:
    return place / "model.safetensors"


def load_clip(place: Path | str) -> Any:
    return load(CLIPModel, architecture_of(None, str(place), {}), str(place))


# -- architectures -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_small_model_and_a_full_one(family: str) -> None:
    stated = {"model_type": family}
    tiny = load(AutoModel, architecture_of(stated, None, {}), None)
    with torch.device("meta"):
        full = load(AutoModel, architecture_of(stated, RANDOM, {}), RANDOM)
    assert sum(one.numel() for one in tiny.parameters()) < 1_000_000
    assert sum(one.numel() for one in full.parameters()) > 20_000_000
    assert type(tiny) is type(full)
    assert all(one.is_meta for one in full.parameters())


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2_5_vl", "qwen3_vl"])
def test_small_language_models_read(family: str) -> None:
    sections = {"rope_parameters": {"rope_type": "default", "mrope_section": [24, 20, 20]}}
    text = {"text_config": sections} if family.endswith("vl") else {}
    model = load(AutoModel, architecture_of({"model_type": family, **text}, None, {}), None)
    ids = torch.tensor([tokenizer_of(None)("ships").input_ids])
    assert model(input_ids=ids).last_hidden_state.isfinite().all()


def test_small_numbers_leave_kinds_alone() -> None:
    stated = {**VISION, "patch_size": 14, "hidden_act": "gelu", "num_hidden_layers": 1}
    config = architecture_of(stated, None, {})
    assert (config.patch_size, config.hidden_act, config.num_hidden_layers) == (14, "gelu", 1)
    assert config.hidden_size == small.WIDTH
    assert config.image_size % 14 == 0


def test_a_full_architecture_stays_full_but_for_its_special_tokens() -> None:
    config = architecture_of(None, RANDOM, {"model_type": "llama", "hidden_size": 512})
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (512, 32, 32000)
    assert config.eos_token_id == tokenizer_of(RANDOM).eos_token_id


def test_nothing_is_read_on_the_meta_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("read")

    for name in ("config_of", "files_of", "folder_of", "read_tensors"):
        monkeypatch.setattr(folder, name, refuse)
    with torch.device("meta"):
        config = architecture_of(VISION, "owner/name", {})
        model = load(CLIPVisionModel, config, "owner/name")
        tokenizer = tokenizer_of("owner/name")
    assert config.hidden_size == 768
    assert next(model.parameters()).is_meta
    assert tokenizer("ships").input_ids


def test_an_architecture_is_spelled_right() -> None:
    with pytest.raises(ConfigError, match=r"'num_hidden_layer' \(nearest: 'num_hidden_layers'\)"):
        architecture_of({**VISION, "num_hidden_layer": 2}, None, {})
    with pytest.raises(ConfigError, match=r"'clip_text_model' has no field 'vocabsize'"):
        architecture_of({"model_type": "clip", "text_config": {"vocabsize": 9}}, None, {})
    with pytest.raises(ConfigError, match=r"'clip_vision' is not .* Nearest: 'clip_vision_model'"):
        architecture_of({"model_type": "clip_vision"}, None, {})
    with pytest.raises(ConfigError, match="model_type None"):
        architecture_of({"hidden_size": 2}, None, {})


def test_a_config_that_agrees_may_be_stated(saved: Saved) -> None:
    stated = {"vision_config": {"hidden_size": 32}, "projection_dim": 32}
    for kind in ({}, {"model_type": "clip"}):
        assert architecture_of({**kind, **stated}, str(saved("clip")), {}).projection_dim == 32
    with pytest.raises(ConfigError, match=r"'clip_vision_model' has no field 'hiddensize'"):
        architecture_of({"vision_config": {"hiddensize": 32}}, str(saved("clip")), {})
    vision = architecture_of(VISION, str(saved("clip")), {}, part="vision_config")
    assert (vision.model_type, vision.hidden_size) == ("clip_vision_model", 32)


def test_a_config_that_differs_is_told_field_by_field(saved: Saved) -> None:
    stated = {"model_type": "clip", "vision_config": {"hidden_size": 64}, "projection_dim": 8}
    with pytest.raises(CheckpointError) as caught:
        architecture_of(stated, str(saved("clip")), {})
    assert "projection_dim is 32 there and 8 in the config" in str(caught.value)
    assert "vision_config.hidden_size is 32 there and 64 in the config" in str(caught.value)
    with pytest.raises(CheckpointError, match="num_hidden_layers is 2 there and 3 in the config"):
        architecture_of({"model_type": "qwen3", "num_hidden_layers": 3}, str(saved("qwen3")), {})
    with pytest.raises(CheckpointError, match="model_type is 'clip' there and 'siglip'"):
        architecture_of({"model_type": "siglip"}, str(saved("clip")), {})


# -- loading -------------------------------------------------------------------------------------


def test_a_folder_loads_as_transformers_loads_it(saved: Saved) -> None:
    mine, theirs = load_clip(saved("clip")), CLIPModel.from_pretrained(saved("clip"))
    assert not mine.training
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], tensor), name


def test_part_of_a_model_loads_from_the_whole(saved: Saved) -> None:
    place = str(saved("clip"))
    config = architecture_of(None, place, {}, part="vision_config")
    bring = ("text_", "visual_projection", "logit_scale")
    model = load(AutoModel, config, place, may_bring=bring)
    pixels = torch.rand(1, 3, 256, 256)
    whole = CLIPModel.from_pretrained(place).vision_model(pixels).last_hidden_state
    assert torch.allclose(model(pixels).last_hidden_state, whole, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"left over .*logit_scale"):
        load(AutoModel, config, place)


def test_shards_load(clip: Path) -> None:
    CLIPModel.from_pretrained(clip).save_pretrained(clip, max_shard_size="200KB")
    weights_of(clip).unlink()
    assert len(list(clip.glob("model-*.safetensors"))) > 1
    assert load_clip(clip).num_parameters() > 0


def test_weights_are_cast(saved: Saved) -> None:
    config = architecture_of(None, str(saved("clip")), {})
    assert load(CLIPModel, config, str(saved("clip")), dtype="bfloat16").dtype == torch.bfloat16
    assert load(CLIPModel, config, None, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype='int8': expected one of float32"):
        load(CLIPModel, config, None, dtype="int8")


def test_tensors_are_renamed_lacked_and_brought(clip: Path) -> None:
    state = load_file(weights_of(clip))
    state["scale"] = state.pop("logit_scale")
    state["extra.weight"] = torch.zeros(1)
    del state["visual_projection.weight"]
    save_file(state, weights_of(clip))
    with pytest.raises(CheckpointError) as caught:
        load_clip(clip)
    assert "2 missing (logit_scale, visual_projection.weight)" in str(caught.value)
    assert "2 left over (extra.weight, scale)" in str(caught.value)
    model = load(
        CLIPModel,
        architecture_of(None, str(clip), {}),
        str(clip),
        may_lack=["visual_projection."],
        may_bring=["extra."],
        key_mapping={"^scale$": "logit_scale"},
    )
    assert torch.equal(model.logit_scale, state["scale"])


def test_nothing_is_written_to_the_terminal(
    saved: Saved, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = str(saved("siglip"))
    load(AutoModel, architecture_of(None, place, {}), place)
    load(AutoModel, architecture_of({"model_type": "siglip"}, None, {}), None)
    with pytest.raises(CheckpointError):
        load(AutoModel, architecture_of(None, str(clip), {}, part="text_config"), str(clip))
    assert capfd.readouterr() == ("", "")


# -- tokenizers ----------------------------------------------------------------------------------


def test_the_byte_level_tokenizer_gives_text_back() -> None:
    tokenizer = tokenizer_of(None)
    text = "Ξ 船 ships\n  and <b>"
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    assert max(ids) < min(small.TOKENS.values())
    for name, sign in (("eos_token_id", "<|end|>"), ("image_token_id", "<|image|>")):
        assert tokenizer(sign).input_ids == [small.TOKENS[name]]
    assert len(tokenizer) <= small.VOCABULARY


def test_the_byte_level_tokenizer_has_a_chat_template() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A ship."}]
    written = tokenizer_of(None).apply_chat_template(turns, tokenize=False)
    assert written == (
        "<|start|>user\n<|vision_start|><|image|><|vision_end|>What is this?<|end|>\n"
        "<|start|>assistant\nA ship.<|end|>\n"
    )


def test_a_folder_brings_its_own_tokenizer(clip: Path) -> None:
    with pytest.raises(CheckpointError, match=r"its tokenizer .* expected tokenizer.json"):
        tokenizer_of(str(clip))
    words = ["<|startoftext|>", "<|endoftext|>", "s", "h", "i", "p</w>", "sh"]
    (clip / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (clip / "merges.txt").write_text("#version: 0.2\ns h\n")
    assert tokenizer_of(str(clip))("Ship").input_ids == [0, 6, 4, 5, 1]
    made = tokenizer_of(None)
    made.add_special_tokens({"additional_special_tokens": ["[SEG]"]})
    made.save_pretrained(clip)
    assert tokenizer_of(str(clip))("[SEG]").input_ids == [len(made) - 1]
