from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, SamConfig, SamModel

from geomag.errors import CheckpointError, ConfigError
from geomag.testing.comparison import EXACT, distance
from geomag.values import Box, Look, Size, View
from geomag_reference import prompting
from geomag_reference.sam import Sam

from .prompted import DIM, count, encoded, lesson, look, resized, stirred, taught, trained

ARCHITECTURE: dict[str, Any] = {
    "model_type": "sam",
    "vision_config": {
        "hidden_size": 32,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "window_size": 3,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
        "mlp_dim": 48,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 64},
    "mask_decoder_config": {
        "hidden_size": 32,
        "mlp_dim": 48,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
}
LORA = {"r": 2, "target_modules": ["qkv"]}


@pytest.fixture(autouse=True)
def quick() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM as transformers saves it."""
    model = SamModel(SamConfig(**ARCHITECTURE))
    stirred(model)
    path = tmp_path_factory.mktemp("sam")
    model.save_pretrained(path)
    return path


def plain(folder: Path) -> SamModel:
    return SamModel.from_pretrained(folder).eval()


def drawn_by(model: SamModel, image: torch.Tensor, prompts: torch.Tensor) -> Any:
    """What the decoder of transformers makes of prompts `[K, 1, 1, C]` about one image, as one
    entry of its batch."""
    _, dense = model.get_prompt_embeddings()
    masks, overlap = model.mask_decoder(
        image_embeddings=image,
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=prompts.transpose(0, 1),
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return masks[0, :, 0], overlap[0, :, 0]


@pytest.mark.parametrize("side", [64, 256])
def test_encodes_as_transformers_does(folder: Path, side: int) -> None:
    head = Sam(DIM, weights=str(folder))
    pixels = torch.rand(2, 3, side, side)
    (found,) = head.encode(pixels)
    images = torch.stack([resized(image, 64, 64) for image in pixels])
    expected = plain(folder).get_image_embeddings(images)
    assert distance(found, expected) < EXACT
    assert float(expected.std()) > 0.1
    assert not head.encode(pixels.requires_grad_())[0].requires_grad


def test_an_image_that_is_not_square_is_padded(folder: Path) -> None:
    head = Sam(DIM, weights=str(folder))
    pixels = torch.rand(1, 3, 48, 96)
    padded = torch.zeros(1, 3, 64, 64)
    padded[0, :, :32] = resized(pixels[0], 32, 64)
    expected = plain(folder).get_image_embeddings(padded)
    assert distance(head.encode(pixels)[0], expected) < EXACT


def test_draws_as_transformers_does(folder: Path) -> None:
    """In a batch of looks with different numbers of queries, one of them with none."""
    head, model = Sam(DIM, weights=str(folder)), plain(folder)
    looks = [look(head), look(head), look(head)]
    queries = [torch.randn(rows, DIM) for rows in (2, 0, 3)]
    with torch.no_grad():
        for one, rows, masks in zip(looks, queries, head(looks, queries), strict=True):
            assert masks.query.tolist() == list(range(len(rows)))
            assert masks.logits.shape == (len(rows), 16, 16)
            assert masks.score.shape == (len(rows),)
            if len(rows):
                image = model.get_image_embeddings(resized(one.pixels, 64, 64)[None])
                drawn, overlap = drawn_by(model, image, head.prompting(rows))
                assert distance(masks.logits, drawn) < EXACT
                assert float(drawn.std()) > 0.1
                score = (10 * (overlap - 0.5)).sigmoid()
                assert distance(masks.score, score) < EXACT


@pytest.mark.parametrize("canvas", [(32, 64), (64, 48)])
def test_masks_leave_out_what_was_padded(folder: Path, canvas: tuple[int, int]) -> None:
    head, model = Sam(DIM, weights=str(folder)), plain(folder)
    one, query = look(head, *canvas), torch.randn(1, DIM)
    assert one.encoded is not None
    with torch.no_grad():
        found = head([one], [query])[0].logits
        drawn, _ = drawn_by(model, one.encoded[0][None], head.prompting(query))
    assert found.shape == (1, canvas[0] // 4, canvas[1] // 4)
    # Four pixels of the square lie around the middle of a cell.
    square = F.interpolate(drawn[None], (64, 64), mode="bilinear")[..., : canvas[0], : canvas[1]]
    expected = F.avg_pool2d(square[..., 1:-1, 1:-1], 2, stride=4)[0]
    assert distance(found, expected) < EXACT


def test_a_look_that_was_not_encoded_is_encoded_now(folder: Path) -> None:
    head = Sam(DIM, weights=str(folder))
    bare, query = look(), [torch.randn(2, DIM)]
    with torch.no_grad():
        found, expected = head([bare], query)[0], head([encoded(bare, head)], query)[0]
    torch.testing.assert_close(found.logits, expected.logits)
    assert head([], []) == []


def test_only_what_draws_is_trained(folder: Path) -> None:
    head = Sam(DIM, weights=str(folder)).train()
    own = {name for name, _ in head.named_parameters() if not name.startswith("model.")}
    others = tuple(f"output_hypernetworks_mlps.{number}." for number in (1, 2, 3))
    decoder = {
        f"model.mask_decoder.{name}"
        for name, _ in head.model.mask_decoder.named_parameters()
        if not name.startswith(others)
    }
    assert trained(head) == decoder | own
    assert head.model.mask_decoder.training
    assert not head.model.vision_encoder.training
    assert not head.model.prompt_encoder.training
    frozen = Sam(DIM, weights=str(folder), train_decoder=False).train()
    assert trained(frozen) == own
    assert not frozen.model.mask_decoder.training
    tuned = Sam(DIM, weights=str(folder), tune=LORA).train()
    assert {name for name in trained(tuned) if "vision" in name and "lora" not in name} == set()
    assert tuned.model.vision_encoder.training


@pytest.mark.parametrize("tune", ["frozen", LORA, "all"])
def test_no_query_still_gives_every_weight_a_gradient(folder: Path, tune: Any) -> None:
    head = Sam(DIM, weights=str(folder), tune=tune).train()
    masks = head([look(head)], [torch.zeros(0, DIM)])[0]
    assert masks.logits.shape == (0, 16, 16)
    (masks.logits.sum() + masks.score.sum()).backward()
    for name, parameter in head.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("tune", ["frozen", LORA, "all"])
def test_learns_and_is_saved_and_exported(folder: Path, tmp_path: Path, tune: Any) -> None:
    head = Sam(DIM, weights=str(folder), tune=tune)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    first, second = taught(head)
    assert second < first
    moved = {name for name, value in head.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith("model.mask_decoder.") for name in moved)
    assert any(name.startswith("prompting.") for name in moved)
    assert any(name.startswith("model.vision_encoder.") for name in moved) == (tune != "frozen")
    assert not any("prompt_encoder" in name or "shared" in name for name in moved)

    other = Sam(DIM, weights=str(folder), tune=tune)
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
    with torch.no_grad():
        image = model.get_image_embeddings(resized(one.pixels, 64, 64)[None])
        drawn, _ = drawn_by(model, image, head.prompting(query))
    assert distance(drawn, expected.logits) < EXACT
    again = Sam(DIM, architecture=ARCHITECTURE, weights=str(place))
    assert distance(again.encode(one.pixels[None])[0], image) < EXACT


def test_half_precision(folder: Path) -> None:
    exact, head = Sam(DIM, weights=str(folder)), Sam(DIM, weights=str(folder), dtype="bfloat16")
    head.prompting.load_state_dict(exact.prompting.state_dict())
    assert {item.dtype for item in head.parameters()} == {torch.bfloat16}
    one, query = look(), torch.randn(2, DIM)
    with torch.no_grad():
        expected, found = exact([one], [query])[0], head([one], [query])[0]
    assert found.logits.dtype == found.score.dtype == torch.float32
    apart = float((found.logits - expected.logits).abs().mean())
    assert apart < 0.2 * float(expected.logits.std())


def test_places_of_cells_are_exact_under_autocast(folder: Path) -> None:
    head = Sam(DIM, weights=str(folder)).train()
    places, _ = prompting.unprompted(head.model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = prompting.unprompted(head.model)
        value = lesson(head, [look(head)], [torch.randn(1, DIM)])
    assert found.equal(places)
    value.backward()
    assert all(item.grad is not None for item in head.parameters() if item.requires_grad)


def test_full_size_without_memory() -> None:
    with torch.device("meta"):
        head = Sam(4096, weights="random")
    parts = {name: count(part) for name, part in head.model.named_children()}
    assert parts["vision_encoder"] == 637_026_048
    assert parts["mask_decoder"] == 4_058_340
    # The waves that tell a place are one parameter of two names.
    assert parts["prompt_encoder"] - parts["shared_image_embedding"] == 6_220
    assert count(head.model) == 641_090_864
    pixels, size = torch.zeros(3, 1008, 1008, device="meta"), Size(1008, 1008)
    seen = Look(View(Box(0, 0, 1008, 1008), size, size), pixels, pixels[0] > 0, ())
    masks = head([seen], [torch.zeros(2, 4096, device="meta")])[0]
    assert masks.logits.shape == (2, 252, 252)


def test_random_weights_tell_images_apart() -> None:
    (found,) = Sam(DIM, architecture=ARCHITECTURE, weights="random").encode(
        torch.rand(2, 3, 64, 64)
    )
    assert float((found[0] - found[1]).std()) > 0.01


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'clip_vision_model' is no SAM"):
        Sam(DIM, architecture={"model_type": "clip_vision_model"})
    small = CLIPVisionConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    CLIPVisionModel(small).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'clip_vision_model' is no SAM"):
        Sam(DIM, weights=str(tmp_path))
    wider = {**ARCHITECTURE, "vision_config": {"hidden_size": 48}}
    with pytest.raises(CheckpointError, match=r"vision_config.hidden_size is 32 there and 48"):
        Sam(DIM, architecture=wider, weights=str(folder))
