from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geomag.errors import CheckpointError
from geomag.values import (
    BOX,
    SEG,
    Box,
    Conversation,
    Look,
    LookBox,
    Reply,
    Turn,
    VisualTokens,
)
from geomag_tiny.llm_adapter import LLMAdapter

Looker = Callable[..., Look]
Tokenise = Callable[..., VisualTokens]


def asked(text: str) -> Conversation:
    return (Turn("user", text),)


def trained(adapter: LLMAdapter, seen: VisualTokens, replies: dict[str, Reply]) -> list[float]:
    """Learns some answers by heart; returns the losses."""
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=5e-3)
    prompts = adapter.read([asked(text) for text in replies])
    tokens = [[seen]] * len(replies)
    losses = []
    for _ in range(60):
        lesson = adapter(tokens, prompts, list(replies.values()))
        optimizer.zero_grad()
        lesson.loss.mean().backward()
        optimizer.step()
        losses.append(float(lesson.loss.mean().detach()))
    return losses


def test_learns_answers_and_gives_them(look: Looker, tokens_of: Tokenise) -> None:
    torch.manual_seed(0)
    adapter = LLMAdapter((16, 24, 32), hidden_size=48, layers=2, heads=3, query_dim=24)
    seen = look()
    frozen = Look(seen.view, seen.pixels, seen.valid, tuple(f.detach() for f in seen.features))
    box = LookBox(0, Box(8, 16, 24, 48))
    replies = {
        "every ship": Reply(f"Here are the 3 ships. {SEG}"),
        "every airplane": Reply("There is no airplane here."),
        "Where is the ship? Give a box.": Reply(f"Here: {BOX}.", (box,)),
    }
    losses = trained(adapter, tokens_of(frozen), replies)
    assert losses[-1] < 0.05 < losses[0]
    for text, reply in replies.items():
        prompt = adapter.read([asked(text)])[0]
        reading = adapter.generate([tokens_of(frozen)], prompt, 24)
        assert (reading.text, reading.boxes) == (reply.text, reply.boxes)
        assert len(reading.queries) == reply.text.count(SEG)


@pytest.mark.parametrize("length", [0, 1, 5, 30])
@pytest.mark.parametrize("seed", range(4))
def test_generating_and_reading_back_agree(
    look: Looker, tokens_of: Tokenise, length: int, seed: int
) -> None:
    torch.manual_seed(seed)
    adapter = LLMAdapter((16, 24, 32), hidden_size=48, layers=2, heads=3, query_dim=24)
    vocabulary = adapter.vocabulary.answers
    with torch.no_grad():
        # A random model hardly ever says a marker of its own accord.
        table = adapter.language.embed_tokens.weight
        table[[vocabulary.seg, vocabulary.box]] *= 4
    tokens = [tokens_of(look()), tokens_of(look(), 2)]
    prompt = adapter.read([asked("every ship")])[0]
    reading = adapter.generate(tokens, prompt, length)
    lesson = adapter([tokens], [prompt], [Reply(reading.text, reading.boxes)])
    assert reading.text.count(SEG) == len(reading.queries)
    assert reading.text.count(BOX) == len(reading.boxes)
    torch.testing.assert_close(lesson.queries[0], reading.queries, atol=1e-4, rtol=1e-4)


def test_a_marker_at_the_very_end_has_its_query(
    look: Looker, tokens_of: Tokenise, adapter: LLMAdapter
) -> None:
    tokens, prompt = [tokens_of(look())], adapter.read([asked("x")])[0]
    seg = adapter.vocabulary.answers.seg
    original, adapter._next = adapter._next, lambda *arguments: seg  # type: ignore[method-assign]
    try:
        reading = adapter.generate(tokens, prompt, 3)
    finally:
        adapter._next = original  # type: ignore[method-assign]
    assert reading.text == SEG * 3
    expected = adapter([tokens], [prompt], [Reply(reading.text)]).queries[0]
    torch.testing.assert_close(reading.queries, expected, atol=1e-4, rtol=1e-4)


def test_samples_do_not_mix(look: Looker, tokens_of: Tokenise, adapter: LLMAdapter) -> None:
    tokens = [[tokens_of(look())], [tokens_of(look(), 4), tokens_of(look(), 2)], []]
    prompts = adapter.read([asked("every ship"), asked("Where is it, exactly, now?"), asked("?")])
    answers = [Reply("No."), Reply(f"Here {SEG} and there {SEG}."), Reply(f"{SEG}")]
    together = adapter(tokens, prompts, answers)
    for place in range(3):
        alone = adapter(
            tokens[place : place + 1], prompts[place : place + 1], answers[place : place + 1]
        )
        torch.testing.assert_close(together.loss[place], alone.loss[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.queries[place], alone.queries[0], atol=1e-5, rtol=1e-5)
    assert [len(queries) for queries in together.queries] == [0, 2, 1]


def test_an_empty_batch_teaches_nothing(adapter: LLMAdapter) -> None:
    lesson = adapter([], [], [])
    assert lesson.loss.shape == (0,)
    assert lesson.queries == []
    assert adapter.read([]) == []


def test_what_was_said_before_changes_the_answer(
    look: Looker, tokens_of: Tokenise, adapter: LLMAdapter
) -> None:
    history = (Turn("user", "ships?"), Turn("model", f"Here. {SEG}"), Turn("user", "show them"))
    tokens = [tokens_of(look())]
    losses = [
        float(adapter([tokens], adapter.read([turns]), [Reply("Yes.")]).loss.detach())
        for turns in (history, history[-1:])
    ]
    assert losses[0] != losses[1]


def test_reading_is_detached_and_the_last_turn_dominates(adapter: LLMAdapter) -> None:
    history = (Turn("user", "harbors?"), Turn("model", "No."), Turn("user", "show the ships"))
    long, short = adapter.read([history, history[-1:]])
    assert not long.embedding.requires_grad
    last = len(short.embedding)
    torch.testing.assert_close(long.embedding[-last:], short.embedding)
    strength = long.embedding.norm(dim=1)
    assert strength[:-last].max() < 0.5 * strength[-last:].min()


def test_reading_costs_at_most_a_twentieth_of_an_answer(look: Looker, tokens_of: Tokenise) -> None:
    adapter = LLMAdapter((16, 24, 32))
    conversation = asked("Segment every white airplane that is parked at the bottom left, please.")
    with FlopCounterMode(display=False) as reading:
        prompt = adapter.read([conversation])[0]
    with FlopCounterMode(display=False) as answering:
        adapter.generate([tokens_of(look(side=256))], prompt, 16)
    assert answering.get_total_flops() > 1e8
    assert reading.get_total_flops() <= 0.05 * answering.get_total_flops()


def test_the_whole_prompt_is_seen_by_every_visual_token(
    look: Looker, tokens_of: Tokenise, adapter: LLMAdapter
) -> None:
    """The order of a sequence: prompt, tokens, answer."""
    tokens = [tokens_of(look())]
    first, second = adapter.read([asked("ships"), asked("cars")])
    heads = adapter._prefixes([tokens, tokens], [first, second])
    states = adapter._hidden(heads)
    length = len(tokens[0].cells)
    assert len(heads[0]) == len(heads[1])
    torch.testing.assert_close(heads[0][-length - 1 :], heads[1][-length - 1 :])
    assert not torch.allclose(states[0][-length - 1], states[1][-length - 1], atol=1e-4)


def test_weights_of_another_tokenizer_are_refused() -> None:
    adapter = LLMAdapter((8,), hidden_size=16, layers=1, heads=2, feed_forward=16)
    state = adapter.state_dict()
    adapter.load_state_dict(state)
    state["_extra_state"] = state["_extra_state"] ^ 1
    with pytest.raises(CheckpointError, match=r"another tokenizer\.json"):
        adapter.load_state_dict(state)
