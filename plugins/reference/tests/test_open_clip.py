from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel

from geomag.errors import CheckpointError
from geomag_reference import open_clip
from geomag_reference.encoder import Encoder
from geomag_reference.pretrained import architecture_of, tokenizer_of

WIDTH, TEXT_WIDTH, JOINT, PATCH, GRID, WORDS, LENGTH = 128, 64, 48, 8, 3, 300, 12
SIDE = PATCH * GRID


class Block(nn.Module):
    """A residual attention block, written after the paper and open_clip's names of tensors."""

    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", act)
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        inward = self.ln_1(values)
        values = values + self.attn(inward, inward, inward, attn_mask=mask, need_weights=False)[0]
        return values + self.mlp(self.ln_2(values))


class Transformer(nn.Module):
    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, act) for _ in range(2))

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            values = block(values, mask)
        return values


class Visual(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(GRID**2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Transformer(WIDTH, act)
        self.proj = nn.Parameter(torch.randn(WIDTH, JOINT))

    def tokens(self, pixels: Tensor) -> Tensor:
        cells = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        values = torch.cat([first, cells], 1) + self.positional_embedding
        return self.transformer(self.ln_pre(values))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.ln_post(self.tokens(pixels)[:, 0]) @ self.proj


class OpenClip(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.visual = Visual(act)
        self.transformer = Transformer(TEXT_WIDTH, act)
        self.token_embedding = nn.Embedding(WORDS, TEXT_WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(LENGTH, TEXT_WIDTH))
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, JOINT))
        self.logit_scale = nn.Parameter(torch.tensor(2.5))

    def encode_text(self, ids: Tensor) -> Tensor:
        mask = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)
        values = self.token_embedding(ids) + self.positional_embedding
        values = self.ln_final(self.transformer(values, mask))
        return values[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection


class QuickGELU(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


@pytest.fixture(params=["quick_gelu", "gelu"])
def act(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(act: str) -> OpenClip:
    made = OpenClip(QuickGELU() if act == "quick_gelu" else nn.GELU())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


@pytest.fixture
def file(model: OpenClip, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    return path


def texts() -> Tensor:
    ids = torch.randint(1, WORDS - 2, (3, LENGTH))
    ids[:, 5] = WORDS - 1
    ids[:, 6:] = 0
    return ids


def test_a_converted_model_does_the_same(
    model: OpenClip, act: str, file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    open_clip.main([str(file), "-o", str(folder), "--activation", act])
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    plain = CLIPModel.from_pretrained(folder).eval()
    pixels, ids = torch.randn(2, 3, SIDE, SIDE), texts()
    with torch.no_grad():
        image, text = model.visual(pixels), model.encode_text(ids)
        found = plain(input_ids=ids, pixel_values=pixels)
        told = model.logit_scale.exp() * F.normalize(text) @ F.normalize(image).T
    assert torch.allclose(found.image_embeds, F.normalize(image), atol=1e-5)
    assert torch.allclose(found.text_embeds, F.normalize(text), atol=1e-5)
    assert torch.allclose(found.logits_per_text, told, atol=1e-4)


def test_a_file_is_weights_of_an_encoder(model: OpenClip, act: str, tmp_path: Path) -> None:
    path = tmp_path / "remote.safetensors"
    save_file(model.state_dict(), path)
    stated = {"model_type": "clip_vision_model", "hidden_act": act, "hidden_size": WIDTH}
    encoder = Encoder(stated, weights=str(path), mean=(0, 0, 0), std=(1, 1, 1)).eval()
    assert (encoder.strides, encoder.embed_dims) == ((PATCH,), (WIDTH,))
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        cells = model.visual.tokens(pixels)[:, 1:]
    assert torch.allclose(encoder(pixels)[0].flatten(2).transpose(1, 2), cells, atol=1e-5)
    with pytest.raises(CheckpointError, match="patch_size is 8 there and 16 in the config"):
        Encoder({**stated, "patch_size": 16}, weights=str(path))
    with pytest.raises(CheckpointError, match="it is a file; expected a folder"):
        tokenizer_of(str(path))


def test_other_wrappings_of_the_same(model: OpenClip, file: Path, tmp_path: Path) -> None:
    state = model.state_dict()
    plain = open_clip.read(file)
    assert plain.keys() == state.keys()
    wrapped = tmp_path / "epoch.pt"
    training = {"epoch": 3, "state_dict": {f"module.{key}": one for key, one in state.items()}}
    torch.save(training, wrapped)
    assert open_clip.read(wrapped).keys() == state.keys()
    apart = {
        key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": one
        for key, one in state.items()
    }
    save_file(apart, tmp_path / "apart.safetensors")
    assert open_clip.read(tmp_path / "apart.safetensors").keys() == state.keys()


def test_numbers_are_read_off_the_tensors(model: OpenClip, act: str) -> None:
    shapes = {name: list(one.shape) for name, one in model.state_dict().items()}
    found = open_clip.architecture(shapes, {"hidden_act": act})
    vision, text = found["vision_config"], found["text_config"]
    assert (vision["num_attention_heads"], vision["num_hidden_layers"]) == (2, 2)
    assert (vision["image_size"], vision["patch_size"], found["projection_dim"]) == (SIDE, 8, JOINT)
    assert (text["vocab_size"], text["eos_token_id"]) == (WORDS, WORDS - 1)
    assert vision["hidden_act"] == text["hidden_act"] == act
    assert architecture_of(found, "random", {}).text_config.hidden_size == TEXT_WIDTH


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 16), (1664, 16)])
def test_heads_of_the_known_sizes(width: int, heads: int) -> None:
    shapes = {name: list(one.shape) for name, one in OpenClip(nn.GELU()).state_dict().items()}
    shapes["visual.conv1.weight"][0] = width
    found = open_clip.architecture(shapes, {})["vision_config"]
    assert found["num_attention_heads"] == heads


def test_the_tokenizer_comes_along(file: Path, tmp_path: Path) -> None:
    tokenizer_of(None).save_pretrained(tmp_path / "words")
    made = tmp_path / "made"
    open_clip.main([str(file), "-o", str(made), "--tokenizer", str(tmp_path / "words")])
    assert (made / "tokenizer.json").is_file()


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('it ran')",))


def test_code_is_not_run(tmp_path: Path) -> None:
    for name, write in (("evil.pt", torch.save), ("evil.bin", _pickled)):
        write({"state_dict": _Evil()}, tmp_path / name)
        with pytest.raises(CheckpointError, match="could run code; it was not read"):
            open_clip.read(tmp_path / name)


def _pickled(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


def test_what_is_no_clip_of_open_clip_is_told(
    model: OpenClip, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = model.state_dict()
    with pytest.raises(CheckpointError, match=r"1 tensors have no place .*\(visual.attnpool"):
        open_clip.renamed({**state, "visual.attnpool": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"not the tensors of a ViT-CLIP .*visual.pos"):
        open_clip.architecture({"visual.conv1.weight": [8, 3, 2, 2]}, {})
    del state["visual.transformer.resblocks.1.ln_1.weight"]
    torch.save(state, tmp_path / "less.pt")
    whole = file.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save([1, 2], tmp_path / "list.pt")
    for name, message in (
        ("less.pt", "1 missing (vision_model.encoder.layers.1.layer_norm1.weight)"),
        ("cut.pt", "is damaged"),
        ("list.pt", "expected tensors by name"),
        ("none.pt", "there is no such file"),
    ):
        with pytest.raises(SystemExit) as caught:
            open_clip.main([str(tmp_path / name), "-o", str(tmp_path / "made")])
        assert message in str(caught.value)
    with pytest.raises(SystemExit, match="holds something"):
        open_clip.main([str(file), "-o", str(tmp_path)])
    assert not capsys.readouterr().out
