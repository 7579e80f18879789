from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

from geomag.errors import CheckpointError, ConfigError
from geomag.testing import check_component
from geomag_reference.encoder import MEAN, STD, Encoder, patches_of
from geomag_reference.pretrained import RANDOM

Saved = Callable[..., Path]
LORA = {"r": 2, "lora_dropout": 0.3}
FAMILIES: dict[str, dict[str, Any]] = {
    "clip_vision_model": {"patch_size": 14},
    "siglip_vision_model": {},
    "siglip2_vision_model": {},
    "dinov3_vit": {"num_register_tokens": 4},
}
PIXELS_ON_SIDE = {"clip_vision_model": 14}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(saved: Saved, family: str) -> str:
    return str(saved(family, **FAMILIES[family]))


def image(encoder: Encoder, rows: int = 3, columns: int = 5, count: int = 2) -> Tensor:
    step = encoder.strides[-1]
    return torch.rand(count, 3, rows * step, columns * step)


def normal(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def directly(family: str, place: str | Path, pixels: Tensor) -> Any:
    """What transformers says, each model asked the way its own documentation does."""
    model = AutoModel.from_pretrained(place)
    if family == "siglip2_vision_model":
        patches = cut_by_transformers(pixels)
        grid = torch.tensor([[side // 16 for side in pixels.shape[2:]]] * len(pixels))
        mask = torch.ones(patches.shape[:2], dtype=torch.long)
        return model(patches, mask, grid, output_hidden_states=True)
    wide = {} if family == "dinov3_vit" else {"interpolate_pos_encoding": True}
    return model(pixels, output_hidden_states=True, **wide)


def cut_by_transformers(pixels: Tensor) -> Tensor:
    cut = [convert_image_to_patches(one.numpy(), 16) for one in pixels]
    return torch.stack([torch.from_numpy(one) for one in cut])


def tokens(level: Tensor) -> Tensor:
    return level.flatten(2).transpose(1, 2)


def test_levels_are_what_transformers_says(family: str, folder: str) -> None:
    encoder = Encoder(weights=folder, layers=(1, -1)).eval()
    pixels = image(encoder)
    first, last = encoder(pixels)
    stride = PIXELS_ON_SIDE.get(family, 16)
    assert (encoder.strides, encoder.embed_dims) == ((stride, stride), (32, 32))
    assert first.shape == last.shape == (2, 32, 3, 5)
    with torch.no_grad():
        found = directly(family, folder, normal(pixels))
    assert torch.allclose(tokens(first), found.hidden_states[1][:, -15:], atol=1e-5)
    assert torch.allclose(tokens(last), found.last_hidden_state[:, -15:], atol=1e-5)


def test_training_exporting_and_coming_back(family: str, folder: str, tmp_path: Path) -> None:
    encoder = Encoder(weights=folder, tune=LORA).train()
    pixels = image(encoder)
    before = {name: one.detach().clone() for name, one in encoder.named_parameters()}
    target = torch.randn(2, 32, 3, 5)
    optimizer = torch.optim.Adam([one for one in encoder.parameters() if one.requires_grad], 0.01)
    losses = []
    for _ in range(3):
        loss = (encoder(pixels)[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    moved = {name for name, one in encoder.named_parameters() if not torch.equal(one, before[name])}
    assert moved == {name for name, one in encoder.named_parameters() if one.requires_grad}
    assert all(".lora_" in name for name in moved)
    encoder.eval()
    other = Encoder(weights=folder, tune=LORA).eval()
    state = encoder.state_dict()
    assert state.keys() - encoder.sourced() == moved
    other.load_state_dict({name: state[name] for name in moved}, strict=False)
    assert torch.equal(other(pixels)[0], encoder(pixels)[0])
    other = Encoder(tune=LORA, architecture=encoder.model.config.to_dict()).eval()
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(pixels)[0], encoder(pixels)[0])
    encoder.export(tmp_path)
    with torch.no_grad():
        plain = directly(family, tmp_path, normal(pixels)).last_hidden_state[:, -15:]
    assert torch.allclose(tokens(encoder(pixels)[0]), plain, atol=1e-5)
    again = Encoder(weights=str(tmp_path)).eval()
    assert torch.allclose(again(pixels)[0], encoder(pixels)[0], atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2"])
def test_the_image_model_of_a_pair_loads(saved: Saved, name: str) -> None:
    encoder = Encoder(weights=str(saved(name))).eval()
    whole = AutoModel.from_pretrained(saved(name)).vision_model
    for key, tensor in whole.state_dict().items():
        assert torch.equal(encoder.model.state_dict()[key], tensor), key


@pytest.mark.parametrize(
    ("family", "arguments"),
    [("dinov3_vit", {"shrink": 2, "tune": "all"}), ("dinov3_convnext", {"layers": (2, 3, 4)})],
)
def test_keeps_its_contract(family: str, arguments: Any) -> None:
    """The kit runs the default, a CLIP, by itself."""
    config = {"type": Encoder, "architecture": {"model_type": family}, **arguments}
    assert check_component("vision_encoder", config) == []


def test_feature_maps_are_levels_too() -> None:
    stated = {"model_type": "dinov3_convnext"}
    encoder = Encoder(stated, layers=(1, 2, 3, 4))
    assert encoder.strides == (4, 8, 16, 32)
    assert [level.shape[2] for level in encoder(image(encoder))] == [24, 12, 6, 3]
    with pytest.raises(ConfigError, match=r"strides \[4, 8\], .* name its coarsest layer too"):
        Encoder(stated, layers=(1, 2))


def test_the_last_layer_has_two_names() -> None:
    first, second = (Encoder({"model_type": "dinov3_vit"}, layers=(one,)).eval() for one in (-1, 2))
    second.load_state_dict(first.state_dict())
    pixels = image(first)
    assert torch.equal(first(pixels)[0], second(pixels)[0])
    assert first.is_end
    assert second.is_end
    assert not Encoder({"model_type": "dinov3_vit"}, layers=(1,)).is_end


def test_a_large_canvas_is_seen_at_the_size_of_pretraining() -> None:
    plain = Encoder().eval()
    shrunk = Encoder(shrink=3).eval()
    shrunk.load_state_dict(plain.state_dict())
    pixels = image(plain)
    large = pixels.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert shrunk.strides == (42,)
    assert torch.allclose(shrunk(large)[0], plain(pixels)[0], atol=1e-5)


def test_patches_are_cut_as_transformers_cuts_them() -> None:
    pixels = torch.rand(2, 3, 48, 32)
    assert torch.equal(patches_of(pixels, 16), cut_by_transformers(pixels))


def test_pixels_are_normalised_as_the_weights_say(saved: Saved, tmp_path: Path) -> None:
    place = Path(shutil.copytree(saved("siglip_vision_model"), tmp_path / "copy"))
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}
    (place / "preprocessor_config.json").write_text(json.dumps(stated))
    encoder = Encoder(weights=str(place))
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    assert encoder.std.flatten().tolist() == [0.25, 0.5, 0.5]
    assert Encoder(weights=str(place), mean=(0, 0, 0)).mean.flatten().tolist() == [0] * 3
    assert Encoder().mean.flatten().tolist() == pytest.approx(list(MEAN))
    (place / "preprocessor_config.json").write_text("no")
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json is damaged"):
        Encoder(weights=str(place))
    with pytest.raises(ConfigError, match=r"mean=\[0.5\]: expected one for each of 3 bands"):
        Encoder(mean=[0.5])


def test_a_hub_name_brings_its_own_normalisation(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(saved("siglip"), tmp_path / "copy"))
    (place / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3}))
    asked: list[dict[str, Any]] = []

    def fetch(name: str, **options: Any) -> str:
        assert name == "owner/name"
        asked.append(options)
        return str(place)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, file: str(place / file))
    encoder = Encoder(weights="owner/name")
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    patterns = asked[0]["allow_patterns"]
    assert "*.json" in patterns
    assert not any(one.endswith((".bin", ".py", ".pt", "*")) for one in patterns)


def test_what_is_out_of_reach_asks_for_nothing() -> None:
    encoder = Encoder(layers=(1,), tune="all")
    asking = {name for name, one in encoder.named_parameters() if one.requires_grad}
    assert any(".layers.0." in name for name in asking)
    assert not any(".layers.1." in name or "post_layernorm" in name for name in asking)


def test_frozen_is_frozen() -> None:
    encoder = Encoder({"model_type": "clip_vision_model", "attention_dropout": 0.5}).train()
    pixels = image(encoder)
    assert not any(one.requires_grad for one in encoder.parameters())
    assert not encoder(pixels)[0].requires_grad
    assert torch.equal(encoder(pixels)[0], encoder.eval()(pixels)[0])


def test_full_models_run_without_memory() -> None:
    with torch.device("meta"):
        for fields, tune, millions in (
            (None, "frozen", 303.5),
            ({"model_type": "siglip2_vision_model"}, "all", 92.9),
            ({"model_type": "dinov3_convnext"}, {"r": 8}, 27.8),
        ):
            encoder = Encoder(fields, weights=RANDOM, tune=tune)
            named = encoder.model.named_parameters()
            count = sum(one.numel() for name, one in named if ".lora_" not in name)
            assert count / 1e6 == pytest.approx(millions, abs=0.1)
            (level,) = encoder(torch.empty(2, 3, 2 * encoder.strides[0], encoder.strides[0]))
            assert level.is_meta
            assert level.shape[2:] == (2, 1)


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        Encoder(layers=())
    with pytest.raises(ConfigError, match="the model has hidden states 0 to 2"):
        Encoder(layers=(3,))
    with pytest.raises(ConfigError, match="does not keep one token a patch"):
        Encoder({"model_type": "swin"})
