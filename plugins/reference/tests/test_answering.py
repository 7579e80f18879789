"""What both adapters share, seen at the one that is quicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from geomag.errors import CheckpointError, ConfigError
from geomag.testing.samples import Facts, Samples
from geomag.values import SEG, Reply, Turn
from geomag_reference import pretrained
from geomag_reference.causal_lm import CausalLM

from .told import Batch, gradients, prompts, replies

LORA = {"r": 4, "lora_alpha": 8}
OWN = ("speaker.markers.", "speaker.said.", "visual.")


def built(**arguments: Any) -> CausalLM:
    torch.manual_seed(2)
    return CausalLM((16, 24, 32), query_dim=24, **arguments).eval()


def batch(adapter: CausalLM) -> Batch:
    """Two looks, none, and one."""
    made = Samples(Facts())
    looks = made.looks()
    tokens = [made.tokens(looks[:2]), [], made.tokens(looks[2:3], most=5)]
    return tokens, prompts(adapter), replies()


def test_frozen_stays_as_it_is_in_training() -> None:
    adapter = built().train()
    assert adapter.training
    assert not adapter.speaker.language.training
    asking = {name for name, value in adapter.named_parameters() if value.requires_grad}
    assert asking == {name for name, _ in adapter.named_parameters() if name.startswith(OWN)}


@pytest.mark.parametrize("tune", ["frozen", "all", LORA])
def test_checkpointed_gradients_are_the_same(tune: Any) -> None:
    found = []
    for checkpointing in (False, True):
        adapter = built(tune=tune, gradient_checkpointing=checkpointing)
        found.append(gradients(adapter, batch))
        layers = adapter.speaker.language.get_decoder().layers
        active = [layer.training and layer.gradient_checkpointing for layer in layers]
        assert active == [checkpointing] * len(layers)
    torch.testing.assert_close(found[0], found[1])


def test_ways_to_attend_agree() -> None:
    eager, quick = built(attention="eager"), built(attention="sdpa")
    expected = eager(*batch(eager))
    torch.testing.assert_close(quick(*batch(quick)).loss, expected.loss)


def test_in_half_precision() -> None:
    adapter = built(tune=LORA, dtype="bfloat16")
    assert {value.dtype for value in adapter.parameters()} == {torch.bfloat16}
    lesson = adapter(*batch(adapter))
    exact = built(tune=LORA)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = exact(*batch(exact))
    expected = exact(*batch(exact)).loss
    torch.testing.assert_close(lesson.loss, expected, atol=0.05, rtol=0.02)
    torch.testing.assert_close(mixed.loss, expected, atol=0.05, rtol=0.02)
    lesson.loss.sum().backward()


def test_what_is_respelled_is_read_back_to_the_same_queries() -> None:
    """Bytes that are no characters, and tokens that no text is spelled in."""
    adapter = built()
    tokens, asked, _ = batch(adapter)
    broken = adapter.speaker.dialogue.text("é")[:1]
    answers = adapter.speaker.answers
    wanted = [*broken, answers.seg, *broken, answers.seg, answers.end]
    adapter.speaker._next = lambda state, ids, *_: wanted[len(ids)]  # type: ignore[method-assign]
    reading = adapter.generate(tokens[0], asked[0], 9)
    assert reading.text == f"�{SEG}�{SEG}"
    read = adapter(tokens[:1], asked[:1], [Reply(reading.text)]).queries[0]
    torch.testing.assert_close(reading.queries, read, atol=1e-5, rtol=1e-5)


def test_a_look_follows_its_name_and_none_where_nothing_is_seen() -> None:
    adapter = built()
    made = Samples(Facts())
    looks = made.looks()
    tokens = [
        *made.tokens(looks[:1], most=3),
        *made.tokens(looks[1:2], most=0),
        *made.tokens(looks[2:3], most=2),
    ]
    prompt = adapter.read([(Turn("user", "every ship"),)])[0]
    script = adapter._script(tokens, prompt)
    before, after = adapter.speaker.dialogue.prompt(prompt.turns)
    ids, start = list(script.ids), len(before)
    assert (ids[:start], ids[start + 7 :]) == (before, after)
    assert list(script.visual) == [start + step for step in (1, 2, 3, 5, 6)]
    names = [adapter.speaker.answers.looks.index(ids[place]) for place in (start, start + 4)]
    assert names[1] - names[0] == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"architecture": {"model_type": "vit"}}, "'vit' is none that AutoModelForCausalLM"),
        (
            {"architecture": {"model_type": "gemma2"}, "attention": "eager"},
            "final_logit_softcapping=30.0",
        ),
        ({"attention": "telepathy"}, "attention='telepathy'"),
        ({"prompt_limit": 10}, "prompt_limit=10"),
        ({"tune": "some"}, "tune='some'"),
    ],
)
def test_arguments_that_it_cannot_be_built_from(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        built(**arguments)


def test_a_tokenizer_of_another_release(tmp_path: Path) -> None:
    model: Any = built().speaker.language
    model.save_pretrained(tmp_path)
    tokenizer = pretrained.tokenizer_of(None)
    tokenizer.add_tokens([f"<more {number}>" for number in range(300)])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the tokenizer has 563 tokens"):
        built(weights=str(tmp_path))
