from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel

from geomag.errors import ConfigError
from geomag_reference import tuning
from geomag_reference.pretrained import architecture_of, load

LORA = {"r": 2, "lora_alpha": 8, "lora_dropout": 0.5}
FAMILIES = ("clip_vision_model", "siglip_vision_model", "dinov3_vit", "llama", "qwen3_vl")


def built(family: str = "llama", **fields: Any) -> Any:
    return load(AutoModel, architecture_of({"model_type": family, **fields}, None, {}), None)


def stirred(model: nn.Module) -> nn.Module:
    """As after some learning: adapters start silent."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_frozen_and_all() -> None:
    model = built()
    tuning.tune(model, "all")
    assert all(one.requires_grad for one in model.parameters())
    tuning.tune(model, "frozen")
    assert not tuning.trains(model)


def test_only_adapters_train() -> None:
    model = built()
    before = set(dict(model.named_parameters()))
    tuning.tune(model, {"r": 2, "target_modules": ["q_proj"]})
    asking = [name for name, one in model.named_parameters() if one.requires_grad]
    assert len(asking) == 2 * model.config.num_hidden_layers
    assert all(".q_proj.lora_" in name for name in asking)
    plain = {name.replace(".base_layer", "") for name, _ in model.named_parameters()}
    assert plain - set(asking) == before


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("lora", "expected 'frozen', 'all', or the arguments of LoRA"),
        ({"rank": 2}, "LoraConfig takes: .*rank"),
        ({"r": 2, "target_modules": ["nothing"]}, "LoraConfig takes: .*nothing"),
        ({"r": 2, "modules_to_save": ["norm"]}, "take out modules_to_save"),
    ],
)
def test_what_cannot_be_tuned_is_told(how: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tuning.tune(built(), how)


@pytest.mark.parametrize("how", [LORA, {**LORA, "use_dora": True}, "all", "frozen"])
def test_merged_weights_do_the_same(how: Any) -> None:
    model, plain = built(), built()
    tuning.tune(model, how)
    stirred(model).eval()
    plain.load_state_dict(tuning.merged(model), strict=True)
    ids = torch.arange(7)[None]
    expected = model(input_ids=ids).last_hidden_state
    assert torch.allclose(plain(input_ids=ids).last_hidden_state, expected, atol=1e-5)


def test_merging_leaves_the_model_alone() -> None:
    model = built()
    tuning.tune(model, LORA)
    before = {name: value.clone() for name, value in stirred(model).state_dict().items()}
    tuning.merged(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_is_a_plain_model(
    family: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = built(family)
    tuning.tune(model, LORA)
    stirred(model)
    tuning.export(model, tmp_path)
    assert capfd.readouterr() == ("", "")
    plain, found = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values())
    assert type(plain) is type(model)
    expected = tuning.merged(model)
    assert plain.state_dict().keys() == expected.keys()
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_what_no_output_needs_is_frozen() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)
            self.register_buffer("offset", torch.ones(3), persistent=False)

        def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.used(values) + self.offset, values)

    model = Half()
    model.used.bias.requires_grad_(False)
    tuning.freeze_unreached(model, torch.empty(2, 3, device="meta"))
    asking = [name for name, one in model.named_parameters() if one.requires_grad]
    assert asking == ["used.weight"]
    shapes = [one.shape for one in tuning.outputs_on_meta(model, torch.empty(5, 3, device="meta"))]
    assert shapes == [(5, 3), (5, 3)]


def test_calm_leaves_only_the_adapters_their_dropout() -> None:
    model = built("clip_vision_model", attention_dropout=0.5)
    tuning.tune(model, LORA)
    tuning.calm(stirred(model), True)
    training = {type(one).__name__ for one in model.modules() if one.training}
    assert training == {"ModuleDict", "Dropout"}
    tuning.calm(model, False)
    assert not any(one.training for one in model.modules())
