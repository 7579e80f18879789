from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from geomag.errors import CheckpointError
from geomag.spelling import MARKERS
from geomag.testing import check_component
from geomag.testing.samples import Facts, Samples
from geomag.values import BOX, SEG, Reply, Turn
from geomag_reference import pretrained
from geomag_reference.causal_lm import CausalLM
from geomag_reference.script import Script, Seen

from .told import Batch, check_low_rank_tuning, check_state, copied, prompts, replies, taught

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.2,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SMALL, "vocab_size": 500},
    "qwen3": {"model_type": "qwen3", **SMALL, "tie_word_embeddings": True},
    "phi": {"model_type": "phi", **{key: SMALL[key] for key in SMALL if key != "head_dim"}},
}
LORA = {"r": 4, "lora_alpha": 8}
OWN = ("speaker.markers.", "speaker.said.", "visual.")


@pytest.fixture(scope="session", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with its tokenizer, as transformers saves them."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    place = tmp_path_factory.mktemp(request.param)
    config = pretrained.architecture_of(KINDS[request.param], "random", {})
    AutoModelForCausalLM.from_config(config).save_pretrained(place)
    pretrained.tokenizer_of(None).save_pretrained(place)
    return place


def built(folder: Path | None = None, **arguments: Any) -> CausalLM:
    torch.manual_seed(2)
    weights = None if folder is None else str(folder)
    return CausalLM((16, 24, 32), weights=weights, query_dim=24, **arguments).eval()


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def batch(adapter: CausalLM) -> Batch:
    """Two looks, none, and one."""
    made = Samples(Facts())
    looks = made.looks()
    tokens = [made.tokens(looks[:2]), [], made.tokens(looks[2:3], most=5)]
    return tokens, prompts(adapter), replies()


def spoken(adapter: CausalLM) -> tuple[list[Script], Seen]:
    """Whole sequences, with their answers."""
    tokens, asked, answers = batch(adapter)
    scripts = []
    for looks, prompt, answer in zip(tokens, asked, answers, strict=True):
        canvases = [looks[0].look.view.size] if looks else []
        reply = adapter.speaker.answers.reply(answer.text, answer.boxes, canvases)
        scripts.append(adapter._script(looks, prompt).with_answer(reply))
    return scripts, Seen(adapter.visual([item for looks in tokens for item in looks]))


def logits_of(adapter: CausalLM, scripts: Sequence[Script], seen: Seen) -> list[Tensor]:
    states = adapter.speaker._states(scripts, seen)
    return [
        adapter.speaker._logits(row[: len(script.ids)])
        for row, script in zip(states, scripts, strict=True)
    ]


def test_logits_are_those_of_the_language_model(folder: Path) -> None:
    """On the same embedded inputs, each sample by itself."""
    adapter, model = built(folder), plain(folder)
    scripts, seen = spoken(adapter)
    first = adapter.speaker.dialogue.first
    start = 0
    for script, found in zip(scripts, logits_of(adapter, scripts, seen), strict=True):
        rows = adapter.speaker._embedded(torch.tensor(script.ids))
        count = len(script.visual)
        rows[list(script.visual)] = seen.rows[start : start + count]
        start += count
        expected = model(inputs_embeds=rows[None]).logits[0]
        torch.testing.assert_close(found[:, :first], expected[:, :first], atol=1e-5, rtol=1e-5)
        after = first + len(MARKERS)
        torch.testing.assert_close(found[:, after:], expected[:, after:], atol=1e-5, rtol=1e-5)


def test_words_are_embedded_by_the_language_model_and_markers_are_not(folder: Path) -> None:
    adapter, model = built(folder), plain(folder)
    scripts, _ = spoken(adapter)
    ids = torch.tensor(scripts[0].ids)
    rows = adapter.speaker._embedded(ids)
    words = ids < adapter.speaker.dialogue.first
    assert torch.equal(rows[words], model.get_input_embeddings()(ids[words]))
    marks = ids[~words] - adapter.speaker.dialogue.first
    assert len(marks) == 2 + 1 + 1  # two looks, and [SEG] in the history and in the answer
    assert torch.equal(rows[~words], adapter.speaker.markers.inputs.weight[marks])


def test_low_rank_tuning_moves_adapters_and_its_own_parts_alone(folder: Path) -> None:
    check_low_rank_tuning(built(folder, tune=LORA), batch, OWN)


def test_the_state_is_saved_and_loaded(folder: Path) -> None:
    check_state(built(folder, tune=LORA), built(folder, tune=LORA), batch)


def test_what_was_exported_is_a_plain_language_model(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    adapter = built(folder, tune=LORA)
    taught(adapter, batch)
    adapter.export(tmp_path)
    assert not list(tmp_path.glob("*adapter*"))
    model, tokenizer = plain(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    prompt = adapter.read([(Turn("user", "every ship"),)])[0]
    script = adapter._script([], prompt)
    reply = adapter.speaker.answers.reply(
        f"{BOX}: {SEG}.", replies()[2].boxes, [Samples(Facts()).views()[0].size]
    )
    script = script.with_answer(reply)
    text = tokenizer.decode(script.ids)
    assert text.endswith(f"{SEG}.")
    assert tokenizer.encode(text, add_special_tokens=False) == list(script.ids)
    expected = model(torch.tensor([script.ids])).logits[0]
    found = logits_of(adapter, [script], Seen(torch.zeros(0, 32)))[0]
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert model.generation_config.eos_token_id == adapter.speaker.answers.end


def test_what_was_exported_can_be_gone_on_from(folder: Path, tmp_path: Path) -> None:
    adapter = built(folder, tune="all")
    taught(adapter, batch)
    adapter.export(tmp_path)
    other = built(tmp_path)
    scripts = [adapter._script([], prompt) for prompt in batch(adapter)[1]]
    nothing = Seen(torch.zeros(0, 32))
    for found, expected in zip(
        logits_of(other, scripts, nothing), logits_of(adapter, scripts, nothing), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_low_rank_tuning_keeps_every_promise() -> None:
    """Beside the kit's own run, which tunes all of a small model."""
    wider = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 32, "num_hidden_layers": 1}
    config = {
        "type": CausalLM,
        "architecture": {**KINDS["llama"], **wider},
        "weights": "random",
        "tune": {"r": 8, "lora_alpha": 32},
    }
    assert check_component("llm_adapter", config) == []


def test_weights_of_another_tokenizer_are_refused(folder: Path, tmp_path: Path) -> None:
    adapter = built(folder)
    copied(folder, tmp_path)
    tokenizer = pretrained.tokenizer_of(None)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        built(tmp_path).load_state_dict(adapter.state_dict())


def test_a_full_model_can_be_counted_without_memory() -> None:
    with torch.device("meta"):
        adapter = CausalLM((1024,), weights="random", tune={"r": 16})
    counts = [value.numel() for value in adapter.speaker.language.parameters()]
    own = [
        value.numel()
        for name, value in adapter.speaker.language.named_parameters()
        if "lora_" not in name
    ]
    assert sum(own) == 8_190_735_360  # Qwen3-8B
    assert sum(counts) > sum(own)
    made = Samples(Facts(visual_dims=(1024,), strides=(16,)), device="meta", reader=adapter)
    with FlopCounterMode(display=False) as counter:
        lesson = adapter(
            [made.tokens(made.looks()[:2])], made.prompts()[:1], [Reply(f"One. {SEG}")]
        )
    assert lesson.queries[0].shape == (1, 256)
    assert counter.get_total_flops() > 2 * 7e9 * 32
