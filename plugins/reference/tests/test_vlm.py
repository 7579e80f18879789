from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from geomag.errors import CheckpointError, ConfigError
from geomag.testing import check_component
from geomag.testing.samples import Facts, Samples
from geomag.values import SEG, Reply
from geomag_reference import patches, pretrained
from geomag_reference.script import Script
from geomag_reference.vlm import DEFAULT, VisionLanguageModel

from .told import (
    Batch,
    check_low_rank_tuning,
    check_state,
    copied,
    gradients,
    prompts,
    replies,
    taught,
)

WIDE = {"initializer_range": 0.2}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
KINDS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        **DEFAULT,
        "text_config": {**DEFAULT["text_config"], **WIDE},
        "vision_config": {**DEFAULT["vision_config"], **WIDE, "window_size": 56},
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl",
        "text_config": {**WIDE, "rope_parameters": DEFAULT["text_config"]["rope_parameters"]},
        "vision_config": WIDE,
        "tie_word_embeddings": True,
    },
}
PREPARED = {"image_mean": [0.4, 0.45, 0.5], "image_std": [0.2, 0.25, 0.3]}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": r".*language_model.*(q_proj|v_proj|down_proj)"}
OWN = ("speaker.markers.", "speaker.said.")


@pytest.fixture(scope="session", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision language model as transformers saves it, with what lies beside it."""
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(1)
    place = tmp_path_factory.mktemp(request.param)
    config = pretrained.architecture_of(KINDS[request.param], None, {})
    AutoModelForImageTextToText.from_config(config).save_pretrained(place)
    pretrained.tokenizer_of(None).save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return place


def built(folder: Path | None = None, **arguments: Any) -> VisionLanguageModel:
    torch.manual_seed(2)
    weights = None if folder is None else str(folder)
    return VisionLanguageModel(weights=weights, query_dim=24, **arguments).eval()


def plain(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder).eval()


def samples() -> Samples:
    """Canvases of 128 pixels, in cells of 16."""
    return Samples(Facts(overview_side=128))


def batch(adapter: VisionLanguageModel) -> Batch:
    """One look, none, and three of which one has no cell."""
    made = samples()
    looks = made.looks()
    some = [*made.tokens(looks[:1]), *made.tokens(looks[1:2], most=0), *made.tokens(looks[2:3])]
    return [made.tokens(looks[1:2], most=6), [], some], prompts(adapter), replies(2)


def whole(adapter: VisionLanguageModel) -> tuple[list[Script], list[patches.Picture]]:
    """Sequences with their answers, and what is seen in them."""
    tokens, asked, answers = batch(adapter)
    scripts, shown = [], []
    for looks, prompt, answer in zip(tokens, asked, answers, strict=True):
        pictures = patches.pictures(looks, adapter._patching)
        shown += [one for one in pictures if one is not None]
        sizes = [item.look.view.size for item in looks]
        reply = adapter.speaker.answers.reply(answer.text, answer.boxes, sizes)
        scripts.append(adapter._script(pictures, 0, prompt).with_answer(reply))
    return scripts, shown


def logits_of(adapter: VisionLanguageModel) -> list[Tensor]:
    scripts, shown = whole(adapter)
    states = adapter.speaker._states(scripts, adapter._seen(shown))
    return [
        adapter.speaker._logits(row[: len(script.ids)])
        for row, script in zip(states, scripts, strict=True)
    ]


def asked_of(model: Any, script: Script, shown: Sequence[patches.Picture]) -> dict[str, Any]:
    """The inputs of transformers' own forward."""
    ids = torch.tensor([script.ids])
    kinds = torch.zeros_like(ids)
    kinds[0, list(script.visual)] = 1
    ids[0, list(script.visual)] = model.config.image_token_id
    if not shown:
        return {"input_ids": ids}
    merge = model.config.vision_config.spatial_merge_size
    return {
        "input_ids": ids,
        "mm_token_type_ids": kinds,
        "pixel_values": torch.cat([one.patches for one in shown]),
        "image_grid_thw": torch.tensor([[1, p.rows * merge, p.columns * merge] for p in shown]),
    }


@pytest.mark.parametrize("tune", ["frozen", LORA])
def test_what_was_exported_is_a_plain_model_that_sees_the_same(
    folder: Path, tmp_path: Path, tune: Any
) -> None:
    """Transformers from ids and pixels, each sample by itself, against the batch."""
    adapter = built(folder, tune=tune)
    taught(adapter, batch)
    adapter.export(tmp_path)
    model = plain(tmp_path)
    scripts, shown = whole(adapter)
    assert [len(script.visual) > 0 for script in scripts] == [True, False, True]
    parts = [shown[:1], [], shown[1:]]
    for script, part, found in zip(scripts, parts, logits_of(adapter), strict=True):
        expected = model(**asked_of(model, script, part)).logits[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_logits_are_those_of_the_loaded_model(folder: Path) -> None:
    """On the same embedded inputs, in which images are not yet seen."""
    adapter, model = built(folder), plain(folder)
    scripts, shown = whole(adapter)
    first, script = adapter.speaker.dialogue.first, scripts[2]
    asked = asked_of(model, script, shown[1:])
    ids = asked.pop("input_ids")
    rows = adapter.speaker._embedded(ids)
    places, _ = model.model.get_rope_index(
        ids, asked.pop("mm_token_type_ids"), image_grid_thw=asked["image_grid_thw"]
    )
    expected = model(inputs_embeds=rows, position_ids=places, **asked).logits[0]
    found = logits_of(adapter)[2]
    torch.testing.assert_close(found[:, :first], expected[:, :first], atol=1e-5, rtol=1e-5)


def test_positions_are_those_of_transformers(folder: Path) -> None:
    adapter, model = built(folder), plain(folder)
    scripts, shown = whole(adapter)
    asked = asked_of(model, scripts[2], shown[1:])
    places, behind = model.model.get_rope_index(
        asked["input_ids"], asked["mm_token_type_ids"], image_grid_thw=asked["image_grid_thw"]
    )
    assert torch.equal(torch.tensor(scripts[2].places), places[:, 0])
    assert scripts[2].next == len(scripts[2].ids) + int(behind)


def test_low_rank_tuning_moves_adapters_and_its_own_parts_alone(folder: Path) -> None:
    check_low_rank_tuning(built(folder, tune=LORA), batch, OWN)


def test_low_rank_tuning_keeps_every_promise() -> None:
    """Of another family than the kit's own run, which tunes all of a small model."""
    text: dict[str, Any] = {
        **WIDE,
        "num_hidden_layers": 1,
        "head_dim": 32,
        "num_attention_heads": 2,
    }
    text |= {
        "vocab_size": 480,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_key_value_heads": 1,
    }
    text["rope_parameters"] = {**ROPE, "mrope_section": [8, 4, 4]}
    vision = {**WIDE, "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
    vision |= {
        "out_hidden_size": 64,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    config = {
        "type": VisionLanguageModel,
        "architecture": {"model_type": "qwen3_vl", "text_config": text, "vision_config": vision},
        "weights": "random",
        "tune": {"r": 8, "lora_alpha": 32},
    }
    assert check_component("llm_adapter", config) == []


def test_the_state_is_saved_and_loaded(folder: Path) -> None:
    check_state(built(folder, tune=LORA), built(folder, tune=LORA), batch)


def test_what_was_exported_can_be_gone_on_from(folder: Path, tmp_path: Path) -> None:
    adapter = built(folder, tune="all")
    taught(adapter, batch)
    adapter.export(tmp_path)
    for found, expected in zip(logits_of(built(tmp_path)), logits_of(adapter), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_where_it_is_frozen_what_looks_is_outside_the_graph(folder: Path) -> None:
    for tune, learns in (("frozen", False), (LORA, False), ("all", True)):
        adapter = built(folder, tune=tune).train()
        seen = adapter._seen(whole(adapter)[1])
        assert seen.rows.requires_grad == learns
        assert adapter._eyes.training == learns
        assert all(rows.requires_grad == learns for rows in seen.deep)


def test_every_part_has_a_gradient_where_nothing_is_seen(folder: Path) -> None:
    adapter = built(folder, tune="all").train()
    _, asked, answers = batch(adapter)
    made = samples()
    blind = made.tokens(made.looks()[:1], most=0)
    lesson = adapter([[], blind], asked[:2], answers[:2])
    (lesson.loss.sum() + torch.cat(list(lesson.queries)).sum()).backward()
    assert all(value.grad is not None for value in adapter.parameters())
    assert not any(value.grad.any() for value in adapter._eyes.parameters())


def test_checkpointed_gradients_are_the_same(folder: Path) -> None:
    found = [
        gradients(built(folder, tune="all", gradient_checkpointing=checkpointing), batch)
        for checkpointing in (False, True)
    ]
    torch.testing.assert_close(found[0], found[1])


def test_ways_to_attend_agree(folder: Path) -> None:
    eager, quick = built(folder, attention="eager"), built(folder, attention="sdpa")
    expected = eager(*batch(eager))
    torch.testing.assert_close(quick(*batch(quick)).loss, expected.loss)


def test_only_what_the_cells_cover_is_seen(folder: Path) -> None:
    adapter = built(folder)
    made = samples()
    seen = made.tokens(made.looks()[2:3])[0]
    part = seen.cells[(seen.cells[:, 0] < 3) & (seen.cells[:, 1] >= 2)]
    rows = torch.arange(len(part))
    closer = replace(seen, cells=part, features=seen.features[rows], positions=seen.positions[rows])
    outside, inside = seen.look.pixels.clone(), seen.look.pixels.clone()
    outside[:, 48:] = 0
    outside[:, :, :32] = 0
    inside[:, 10:20, 50:60] = 0
    queries = []
    for pixels in (seen.look.pixels, outside, inside):
        changed = replace(closer, look=replace(seen.look, pixels=pixels))
        lesson = adapter([[changed]], batch(adapter)[1][2:], [Reply(f"Here {SEG}")])
        queries.append(lesson.queries[0])
    assert torch.equal(queries[0], queries[1])
    assert not torch.allclose(queries[0], queries[2], atol=1e-4)


def test_how_images_are_prepared_is_read_from_the_folder(folder: Path, tmp_path: Path) -> None:
    assert built(folder)._patching.mean == (0.4, 0.45, 0.5)
    copied(folder, tmp_path, "preprocessor_config.json")
    with pytest.raises(CheckpointError, match=r"says image_mean and image_std"):
        built(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": PREPARED}))
    assert built(tmp_path)._patching.std == (0.2, 0.25, 0.3)


def test_models_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="'llava' is not of the Qwen-VL kind"):
        built(architecture={"model_type": "llava"})


def test_a_full_model_can_be_counted_without_memory() -> None:
    with torch.device("meta"):
        adapter = VisionLanguageModel(weights="random")
    counts = [value.numel() for value in adapter.speaker.language.parameters()]
    assert sum(counts) == 8_292_166_656  # Qwen2.5-VL-7B
    made = Samples(Facts(overview_side=224), device="meta", reader=adapter)
    looks = made.looks()[:2]
    with FlopCounterMode(display=False) as counter:
        lesson = adapter([made.tokens(looks)], made.prompts()[:1], [Reply(f"One. {SEG}")])
    assert lesson.queries[0].shape == (1, 256)
    assert counter.get_total_flops() > 2 * 7e9 * 100
