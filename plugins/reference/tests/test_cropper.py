from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel

from geomag import geometry, losses
from geomag.errors import ConfigError
from geomag.registry import CROPPERS, VISION_ENCODERS, Borrowed
from geomag.values import Level, Look, Plan, Prompt, Size, Turn
from geomag_reference.cropper import Cropper
from geomag_reference.encoder import Encoder
from geomag_reference.pretrained import RANDOM, tokenizer_of

Saved = Callable[..., Path]
PAIRS = ("clip", "siglip", "siglip2")
PROMPT = Prompt((Turn("user", "Every ship"),), torch.zeros(1, 8))
SIDE = 128


@pytest.fixture
def folder(saved: Saved, tmp_path: Path) -> Callable[[str], str]:
    """A small pair with a tokenizer."""

    def make(name: str) -> str:
        patch = {"vision_config": {"patch_size": 16}, "projection_dim": 32}
        place = saved(name, **(patch if name == "clip" else {}))
        tokenizer_of(None).save_pretrained(place)
        return str(place)

    return make


def beside(encoder: Any, **arguments: Any) -> Cropper:
    facts = {"visual_dims": encoder.embed_dims, "strides": encoder.strides}
    return CROPPERS.build(
        {"type": Cropper, **arguments}, vision_encoder=Borrowed(encoder), **facts
    ).eval()


def look_at(encoder: Any, height: int = SIDE, seed: int = 0, side: int = SIDE) -> Look:
    """A scene of noise, `height` pixels high, on a canvas of `side`."""
    pixels = torch.rand(3, height, side, generator=torch.Generator().manual_seed(seed))
    canvas = F.pad(pixels, (0, 0, 0, side - height))
    valid = torch.zeros(side, side, dtype=torch.bool)
    valid[:height] = True
    view = geometry.overview(Size(height, side), side)
    return Look(view, canvas, valid, tuple(level[0] for level in encoder(canvas[None])))


def joint(pair: Any, cells: Tensor) -> Tensor:
    """Cells in the joint space, written out for each pair."""
    image = pair.vision_model
    if hasattr(pair, "visual_projection"):
        return pair.visual_projection(image.post_layernorm(cells))
    return torch.cat([image.head(cell[None, None]) for cell in cells])


def ids_of(texts: Sequence[str], length: int) -> Tensor:
    tokenizer = tokenizer_of(None)
    rows = [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]
    return torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])


@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_cells_are_compared_as_the_pair_compares(name: str, folder: Callable[[str], str]) -> None:
    place = folder(name)
    encoder = Encoder(weights=place).eval()
    cropper = beside(encoder, weights=place, background=["grass", "sand"], template="A {}!")
    assert cropper.project is None
    look = look_at(encoder)
    found = cropper.relevance([look], PROMPT)[0]
    pair = AutoModel.from_pretrained(place)
    length = pair.config.text_config.max_position_embeddings
    ids = ids_of(["a every ship!", "grass", "sand"], length)
    texts = F.normalize(pair.get_text_features(input_ids=ids).pooler_output, dim=1)
    cells = F.normalize(joint(pair, look.features[-1].flatten(1).T), dim=1)
    expected = (cells @ texts.T * pair.logit_scale.exp()).softmax(1)[:, 0].view(8, 8)
    assert found is not None
    assert torch.allclose(found, expected, atol=1e-5)
    assert float(found.max() - found.min()) > 1e-4


def test_the_image_model_is_not_held_twice(folder: Callable[[str], str]) -> None:
    place = folder("clip")
    encoder = Encoder(weights=place)
    cropper = beside(encoder, weights=place)
    assert not any("vision_model" in name for name, _ in cropper.named_parameters())
    assert {name for name, one in cropper.named_parameters() if one.requires_grad} == {
        "scale",
        "shift",
    }


@pytest.mark.parametrize(
    "encoder",
    [
        {"type": Encoder, "architecture": {"model_type": "dinov3_vit"}},
        {"type": Encoder, "layers": (1,)},
        {"type": Encoder, "weights": RANDOM, "architecture": {"model_type": "dinov3_convnext"}},
    ],
)
def test_beside_another_encoder_a_projection_is_learnt(encoder: Any) -> None:
    cropper = beside(VISION_ENCODERS.build(encoder))
    assert cropper.project is not None
    assert cropper.project.weight.requires_grad


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("tune", [{"r": 2}, "all"])
def test_what_trains_gets_a_gradient(name: str, tune: Any) -> None:
    image = {"clip": "clip_vision_model"}.get(name, f"{name}_vision_model")
    encoder = Encoder({"model_type": image}, tune={"r": 2})
    cropper = beside(encoder, architecture={"model_type": name}, tune=tune).train()
    assert cropper.project is None
    found = cropper.relevance([look_at(encoder, side=256)], PROMPT)[0]
    assert found is not None
    found.sum().backward()
    asking = [(key, one) for key, one in cropper.named_parameters() if one.requires_grad]
    assert [key for key, one in asking if one.grad is None] == []
    assert len(asking) > 20
    assert not any(one.dim() == 0 for _, one in asking)  # a sharded run could not share it out
    assert any(one.grad is not None and one.grad.any() for one in encoder.parameters())


def test_looks_are_judged_each_by_itself_and_nodata_is_nothing() -> None:
    encoder = Encoder({"model_type": "siglip_vision_model"}).eval()
    cropper = beside(encoder, architecture={"model_type": "siglip"})
    looks = [look_at(encoder), look_at(encoder, height=50, seed=1)]
    small = replace(looks[0], features=tuple(level[:, :4, :6] for level in looks[0].features))
    small = replace(small, pixels=small.pixels[:, :64, :96], valid=small.valid[:64, :96])
    together = cropper.relevance([*looks, small], PROMPT)
    for look, found in zip([*looks, small], together, strict=True):
        alone = cropper.relevance([look], PROMPT)[0]
        assert found is not None
        assert alone is not None
        assert torch.allclose(found, alone, atol=1e-6)
    assert [tuple(found.shape) for found in together if found is not None] == [(8, 8)] * 2 + [
        (4, 6)
    ]
    narrow = together[1]
    assert narrow is not None
    assert not narrow[4:].any()  # 50 pixels are three cells and a bit
    assert narrow[:4].all()
    assert cropper.relevance([], PROMPT) == []


def test_learns_where_things_are() -> None:
    """By the core's own loss, beside an encoder that it shares nothing with."""
    encoder = Encoder({"model_type": "dinov3_vit"}).eval()
    cropper = beside(encoder, tune={"r": 4}).train()
    look = look_at(encoder)
    target = torch.zeros(SIDE, SIDE)
    target[64:96, 16:64] = 1
    optimizer = torch.optim.Adam([one for one in cropper.parameters() if one.requires_grad], 0.02)
    history = []
    for _ in range(60):
        found = cropper.relevance([look], PROMPT)[0]
        assert found is not None
        loss = losses.relevance(found, target, look)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert all(one.grad is not None for one in cropper.parameters() if one.requires_grad)
    assert history[-1] < history[0] / 2
    with torch.no_grad():
        last = cropper.eval().relevance([look], PROMPT)[0]
    assert last is not None
    inside = last[4:6, 1:4]
    assert float(inside.mean()) > 3 * float((last.sum() - inside.sum()) / (64 - 6))


def test_long_texts_keep_their_end() -> None:
    cropper = beside(Encoder())
    ids = cropper._ids(["ship", "ship " * 200])
    assert ids.shape == (2, cropper.length)
    end = tokenizer_of(None).eos_token_id
    assert (ids == end).sum(1).tolist() == [1, 1]
    assert int(ids[1, -1]) == end


def test_ranks_by_what_was_found() -> None:
    cropper = beside(Encoder(), threshold=0.3)
    scene = Size(512, 512)
    view = geometry.overview(scene, 128)
    valid = torch.ones(128, 128, dtype=torch.bool)
    look = Look(view, torch.zeros(3, 128, 128), valid, (torch.zeros(32, 4, 4),))
    offered = geometry.tiles(scene, 128, 1)
    found = torch.zeros(4, 4)
    found[0, 1], found[2, 2], found[3, 3] = 0.5, 0.9, 0.2
    plan = Plan(Level.PIXEL, 128)
    ranked = cropper.rank([look], [found], offered, plan)
    assert [(one.box.top, one.box.left) for one in ranked] == [(256, 256), (0, 128)]
    assert len(cropper.rank([look], [None], offered, plan)) == len(offered)


def test_full_models_run_without_memory() -> None:
    with torch.device("meta"):
        encoder = Encoder(weights=RANDOM)
        cropper = beside(encoder, weights=RANDOM)
        assert cropper.project is None
        logits = cropper(torch.empty(7, 1024), torch.empty(3, 77, dtype=torch.long))
    assert logits.is_meta
    assert logits.shape == (7,)


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match="at least one phrase"):
        beside(Encoder(), background=[])
    with pytest.raises(ConfigError, match="where the prompt stands"):
        beside(Encoder(), template="a photo")
