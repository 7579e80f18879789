from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel, SamConfig, SamModel

from geomag.errors import CheckpointError, ConfigError
from geomag.testing.comparison import EXACT, distance
from geomag.values import Box, Look, Size, View
from geomag_reference.sam2 import Sam2

from .prompted import DIM, count, encoded, lesson, look, resized, stirred, taught, trained

PARTS: dict[str, Any] = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 16,
            "image_size": [64, 64],
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [16, 24, 32, 40],
            "num_attention_heads_per_stage": [1, 1, 2, 2],
            "window_size_per_stage": [4, 4, 4, 2],
            "global_attention_blocks": [3],
        },
        "backbone_channel_list": [40, 32, 24, 16],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 64},
    "mask_decoder_config": {
        "hidden_size": 32,
        "mlp_dim": 48,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
}
ARCHITECTURE: dict[str, Any] = {"model_type": "sam2", **PARTS}
MEMORY: dict[str, Any] = {
    "image_size": 64,
    "memory_attention_hidden_size": 32,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": 32,
    "memory_encoder_output_channels": 8,
    "mask_downsampler_embed_dim": 32,
    "memory_fuser_embed_dim": 32,
    "memory_fuser_intermediate_dim": 32,
}
LORA = {"r": 2, "target_modules": ["qkv"]}
BASE_PLUS: dict[str, Any] = {
    "model_type": "sam2",
    "vision_config": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 112,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 3, 16, 3],
            "embed_dim_per_stage": [112, 224, 448, 896],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "global_attention_blocks": [12, 16, 20],
            "window_positional_embedding_background_size": [14, 14],
        },
        "backbone_channel_list": [896, 448, 224, 112],
    },
}


@pytest.fixture(autouse=True)
def quick() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM 2 as transformers saves it."""
    model = Sam2Model(Sam2Config(**PARTS))
    stirred(model)
    path = tmp_path_factory.mktemp("sam2")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM 2 as it is released, with what it remembers videos by."""
    model = Sam2VideoModel(Sam2VideoConfig(**PARTS, **MEMORY))
    stirred(model)
    path = tmp_path_factory.mktemp("sam2_video")
    model.save_pretrained(path)
    return path


def plain(folder: Path) -> Sam2Model:
    return Sam2Model.from_pretrained(folder).eval()


def drawn_by(model: Sam2Model, image: list[torch.Tensor], prompts: torch.Tensor) -> Any:
    """What the decoder of transformers makes of prompts `[K, 1, 1, C]` about one image, as one
    entry of its batch; in training mode, where it always draws the first mask."""
    _, dense = model.get_prompt_embeddings()
    masks, _, _, presence = model.mask_decoder.train()(
        image_embeddings=image[-1],
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=prompts.transpose(0, 1),
        dense_prompt_embeddings=dense,
        multimask_output=False,
        high_resolution_features=image[:-1],
    )
    return masks[0, :, 0], presence[0, :, 0]


@pytest.mark.parametrize("canvas", [(64, 64), (160, 160), (48, 96)])
def test_encodes_as_transformers_does(folder: Path, canvas: tuple[int, int]) -> None:
    head = Sam2(DIM, weights=str(folder))
    pixels = torch.rand(2, 3, *canvas)
    images = torch.stack([resized(image, 64, 64) for image in pixels])
    expected = plain(folder).get_image_embeddings(images)
    found = head.encode(pixels)
    assert [list(part.shape) for part in found] == [[2, 4, 16, 16], [2, 8, 8, 8], [2, 32, 4, 4]]
    for mine, theirs in zip(found, expected, strict=True):
        assert distance(mine, theirs) < EXACT
        assert float(theirs.std()) > 0.1
    assert not any(part.requires_grad for part in head.encode(pixels.requires_grad_()))


def test_draws_as_transformers_does(folder: Path) -> None:
    """In a batch of looks with different numbers of queries, one of them with none."""
    head, model = Sam2(DIM, weights=str(folder)), plain(folder)
    looks = [look(head), look(head), look(head)]
    queries = [torch.randn(rows, DIM) for rows in (2, 0, 3)]
    with torch.no_grad():
        for one, rows, masks in zip(looks, queries, head(looks, queries), strict=True):
            assert masks.query.tolist() == list(range(len(rows)))
            assert masks.logits.shape == (len(rows), 16, 16)
            assert masks.score.shape == (len(rows),)
            if len(rows):
                image = model.get_image_embeddings(resized(one.pixels, 64, 64)[None])
                drawn, presence = drawn_by(model, image, head.prompting(rows))
                assert distance(masks.logits, drawn) < EXACT
                assert distance(masks.score, presence.sigmoid()) < EXACT
                assert float(drawn.std()) > 0.1


def test_draws_the_mask_that_it_learns(folder: Path) -> None:
    """As released it would draw another at prediction, where the first is unstable."""
    head = Sam2(DIM, weights=str(folder))
    model = plain(folder)
    assert model.mask_decoder.dynamic_multimask_via_stability
    one, queries = look(head), [torch.randn(6, DIM)]
    with torch.no_grad():
        found, learnt = head([one], queries)[0], head.train()([one], queries)[0]
    assert found.logits.equal(learnt.logits)


def test_a_look_that_was_not_encoded_is_encoded_now(folder: Path) -> None:
    head = Sam2(DIM, weights=str(folder))
    bare, query = look(None, 48, 96), [torch.randn(2, DIM)]
    with torch.no_grad():
        found, expected = head([bare], query)[0], head([encoded(bare, head)], query)[0]
    torch.testing.assert_close(found.logits, expected.logits)
    assert found.logits.shape == (2, 8, 16)
    assert head([], []) == []


def test_only_what_draws_is_trained(folder: Path) -> None:
    head = Sam2(DIM, weights=str(folder)).train()
    own = {name for name, _ in head.named_parameters() if not name.startswith("model.")}
    hypernetworks = tuple(f"output_hypernetworks_mlps.{number}." for number in (1, 2, 3))
    decoder = {
        f"model.mask_decoder.{name}"
        for name, _ in head.model.mask_decoder.named_parameters()
        if not name.startswith((*hypernetworks, "iou_prediction_head.", "conv_s"))
    }
    assert trained(head) == decoder | own
    assert head.model.mask_decoder.training
    assert not head.model.vision_encoder.training
    frozen = Sam2(DIM, weights=str(folder), train_decoder=False).train()
    assert trained(frozen) == own
    assert not frozen.model.mask_decoder.training
    everything = trained(Sam2(DIM, weights=str(folder), tune="all", train_decoder=False))
    narrowing = {
        f"model.mask_decoder.conv_s{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")
    }
    assert {"model.no_memory_embedding", *narrowing} < everything


@pytest.mark.parametrize("tune", ["frozen", LORA, "all"])
def test_no_query_still_gives_every_weight_a_gradient(folder: Path, tune: Any) -> None:
    head = Sam2(DIM, weights=str(folder), tune=tune).train()
    masks = head([look(head)], [torch.zeros(0, DIM)])[0]
    assert masks.logits.shape == (0, 16, 16)
    (masks.logits.sum() + masks.score.sum()).backward()
    for name, parameter in head.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("tune", ["frozen", LORA, "all"])
def test_learns_and_is_saved_and_exported(folder: Path, tmp_path: Path, tune: Any) -> None:
    head = Sam2(DIM, weights=str(folder), tune=tune)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    first, second = taught(head)
    assert second < first
    moved = {name for name, value in head.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith("model.mask_decoder.") for name in moved)
    assert any(name.startswith("prompting.") for name in moved)
    assert any(name.startswith("model.vision_encoder.") for name in moved) == (tune != "frozen")
    assert not any("prompt_encoder" in name or "shared" in name for name in moved)

    other = Sam2(DIM, weights=str(folder), tune=tune)
    other.load_state_dict(head.state_dict(), strict=True)
    one, query = look(head), torch.randn(2, DIM)
    with torch.no_grad():
        expected = head([one], [query])[0]
        found = other([encoded(one, other)], [query])[0]
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.score, expected.score)

    place = tmp_path / "exported"
    head.export(place)
    assert {item.name for item in place.iterdir()} == {"config.json", "model.safetensors"}
    model = plain(place)
    assert not model.mask_decoder.dynamic_multimask_via_stability
    with torch.no_grad():
        image = model.get_image_embeddings(resized(one.pixels, 64, 64)[None])
        drawn, _ = drawn_by(model, image, head.prompting(query))
    assert distance(drawn, expected.logits) < EXACT
    again = Sam2(DIM, architecture={"model_type": "sam2_video", **PARTS}, weights=str(place))
    for mine, theirs in zip(again.encode(one.pixels[None]), image, strict=True):
        assert distance(mine, theirs) < EXACT


@pytest.mark.parametrize("architecture", [None, ARCHITECTURE])
def test_a_release_for_videos_is_read(video: Path, architecture: Any) -> None:
    head, model = Sam2(DIM, architecture=architecture, weights=str(video)), plain(video)
    assert head.model.config.model_type == "sam2"
    assert head.model.state_dict().keys() == model.state_dict().keys()
    one, query = look(head), torch.randn(2, DIM)
    with torch.no_grad():
        image = model.get_image_embeddings(resized(one.pixels, 64, 64)[None])
        drawn, _ = drawn_by(model, image, head.prompting(query))
        assert distance(head([one], [query])[0].logits, drawn) < EXACT


def test_half_precision(folder: Path) -> None:
    exact, head = Sam2(DIM, weights=str(folder)), Sam2(DIM, weights=str(folder), dtype="bfloat16")
    head.prompting.load_state_dict(exact.prompting.state_dict())
    assert {item.dtype for item in head.parameters()} == {torch.bfloat16}
    one, query = look(), torch.randn(2, DIM)
    with torch.no_grad():
        expected, found = exact([one], [query])[0], head([one], [query])[0]
    assert found.logits.dtype == found.score.dtype == torch.float32
    apart = float((found.logits - expected.logits).abs().mean())
    assert apart < 0.2 * float(expected.logits.std())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lesson(exact.train(), [look(exact)], [torch.randn(1, DIM)]).backward()
    assert all(item.grad is not None for item in exact.parameters() if item.requires_grad)


@pytest.mark.parametrize(
    ("architecture", "encoder"), [(None, 212_703_280), (BASE_PLUS, 69_106_816)]
)
def test_full_size_without_memory(architecture: Any, encoder: int) -> None:
    with torch.device("meta"):
        head = Sam2(4096, architecture=architecture, weights="random")
    assert count(head.model.vision_encoder) == encoder
    assert count(head.model.mask_decoder) == 4_215_109
    assert count(head.model) == encoder + 4_215_109 + 6_220 + 256
    pixels, size = torch.zeros(3, 1008, 1008, device="meta"), Size(1008, 1008)
    seen = Look(View(Box(0, 0, 1008, 1008), size, size), pixels, pixels[0] > 0, ())
    masks = head([seen], [torch.zeros(2, 4096, device="meta")])[0]
    assert masks.logits.shape == (2, 252, 252)


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'sam' is no SAM 2"):
        Sam2(DIM, architecture={"model_type": "sam"})
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 64}
    SamModel(SamConfig(vision_config=vision)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'sam' is no SAM 2"):
        Sam2(DIM, weights=str(tmp_path))
    levels = {**PARTS["vision_config"], "num_feature_levels": 2}
    with pytest.raises(ConfigError, match="of 2 feature levels"):
        Sam2(DIM, architecture={**ARCHITECTURE, "vision_config": levels}, weights="random")
    wider = {**ARCHITECTURE, "prompt_encoder_config": {"hidden_size": 48}}
    with pytest.raises(CheckpointError, match=r"prompt_encoder_config.hidden_size is 32 there"):
        Sam2(DIM, architecture=wider, weights=str(folder))
