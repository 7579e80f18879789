"""What a language adapter promises: reading, and learning from replies.

Letters: P prompt width, D query width, T tokens, K queries, B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..values import SEG, Look, Prompt, Reply, VisualTokens
from .checks import expect, expect_none, promise
from .comparison import CLOSE, EXACT, differences, distance
from .exercise import lesson, replies
from .samples import TEXTS, Samples, conversation, repainted
from .subject import Subject

NEW_TOKENS = 4
MOST_TOKENS = 4096
"""More visual tokens than this are not tried, whatever the adapter says it can take."""


@promise("llm_adapter")
def check_prompt_is_embedded(build: Subject) -> None:
    """`read` gives one prompt a conversation, with its turns and an embedding `[T, P]`, T at least
    1, whatever was said."""
    adapter = build()
    asked = [conversation(text) for text in (*TEXTS, "?", "Ξ ∞ 船", "so " * 400)]
    asked.append(conversation("every ship", f"Here. {SEG}", "and every airplane"))
    prompts = adapter.read(asked)
    expect(len(prompts) == len(asked), f"{len(prompts)} prompts for {len(asked)} conversations")
    for prompt, turns in zip(prompts, asked, strict=True):
        shape = list(prompt.embedding.shape)
        expect(
            len(shape) == 2 and shape[0] >= 1 and shape[1] == adapter.prompt_dim,
            f"embedding is {shape}, expected [T, {adapter.prompt_dim}] with T at least 1",
        )
        expect(prompt.turns == turns, f"the turns of {turns[-1].text!r} are not those it was asked")
        expect(prompt.embedding.isfinite().all(), "an embedding is not finite")


@promise("llm_adapter")
def check_prompt_is_detached(build: Subject) -> None:
    """A prompt's embedding is detached, in training too."""
    with torch.enable_grad():
        prompts = build().train().read([conversation(text) for text in TEXTS])
    attached = [prompt.text for prompt in prompts if prompt.embedding.requires_grad]
    expect(not attached, f"the embeddings of {len(attached)} prompts carry a gradient")


@promise("llm_adapter")
def check_conversations_do_not_mix(build: Subject) -> None:
    """A conversation is read the same alone and beside others."""
    adapter = build()
    asked = [conversation(text) for text in TEXTS]
    for place, prompt in enumerate(adapter.read(asked)):
        alone = adapter.read(asked[place : place + 1])[0]
        apart = distance(alone.embedding, prompt.embedding)
        expect(apart <= CLOSE, f"the embedding of {prompt.text!r} differs when read alone")


@promise("llm_adapter")
def check_history_is_read(build: Subject) -> None:
    """What was said before the last turn matters, to the prompt's embedding and to the queries."""
    first = conversation("every ship", f"Here are 2. {SEG}", "and the small ones?")
    second = conversation("every airplane", f"Here are 2. {SEG}", "and the small ones?")
    _expect_heard(build, first, second, "an earlier turn")


@promise("llm_adapter")
def check_question_is_read(build: Subject) -> None:
    """What the user asks matters, to the prompt's embedding and to the queries."""
    _expect_heard(build, conversation("every ship"), conversation("every airplane"), "the prompt")


@promise("llm_adapter")
def check_looks_are_seen(build: Subject) -> None:
    """What a look shows matters to the queries: in pixels, in features, or in both."""
    adapter = build()
    samples = build.samples(adapter)
    looks = samples.looks()[:2]
    other = [repainted(look, top=True, left=True, seed=1) for look in looks]
    first, second = (_queries(adapter, samples, some) for some in (looks, other))
    expect(distance(first, second) > EXACT, "queries do not depend on what the looks show")


@promise("llm_adapter")
def check_loss_of_each_sample(build: Subject) -> None:
    """A lesson's loss is one finite number for each sample, `[B]`."""
    adapter = build()
    loss = lesson(adapter, build.samples(adapter))["loss"]
    expect(loss.shape == (len(TEXTS),), f"loss is {list(loss.shape)}, expected [{len(TEXTS)}]")
    expect(loss.isfinite().all(), "loss is not finite")


@promise("llm_adapter")
def check_samples_do_not_mix(build: Subject) -> None:
    """The loss and the queries of a sample are the same alone and beside longer or shorter ones."""
    adapter = build()
    samples = build.samples(adapter)
    tokens, prompts, answers = _batch(samples)
    together = adapter(tokens, prompts, answers)
    for place in range(len(prompts)):
        part = slice(place, place + 1)
        alone = adapter(tokens[part], prompts[part], answers[part])
        found = differences(
            {"loss": together.loss[place], "queries": together.queries[place]},
            {"loss": alone.loss[0], "queries": alone.queries[0]},
            CLOSE,
        )
        expect_none([f"alone, {problem}" for problem in found])


@promise("llm_adapter")
def check_one_query_a_marker(build: Subject) -> None:
    """A reply leaves one query `[D]` for each `[SEG]`, and one of shape [0, D] without any."""
    adapter = build()
    queries = adapter(*_batch(build.samples(adapter))).queries
    found = [list(item.shape) for item in queries]
    promised = [[reply.text.count(SEG), adapter.query_dim] for reply in replies()]
    expect(found == promised, f"queries are {found}, expected {promised}")


@promise("llm_adapter")
def check_marker_in_a_prompt_is_text(build: Subject) -> None:
    """`[SEG]` in what the user says, or in an earlier answer, leaves no query."""
    adapter = build()
    samples = build.samples(adapter)
    tokens = samples.tokens(samples.looks()[:1])
    for turns in (
        conversation(f"what is {SEG} here?"),
        conversation("every ship", f"Here. {SEG}", "how many?"),
    ):
        prompt = adapter.read([turns])[0]
        learnt = adapter([tokens], [prompt], [Reply("There are 2.")])
        count = len(learnt.queries[0])
        expect(count == 0, f"{count} queries for a marker that the reply does not hold")


@promise("llm_adapter")
def check_reply_without_marker_keeps_the_graph(build: Subject) -> None:
    """Also where no reply of a batch holds a marker, every parameter that trains gets a gradient,
    if only of zeros: a distributed step waits for all of them."""
    adapter = build().train()
    samples = build.samples(adapter)
    tokens, prompts, _ = _batch(samples)
    with torch.enable_grad():
        learnt = adapter(tokens, prompts, [Reply("There are 3.")] * len(prompts))
        anchor = torch.stack([item.sum() * 0 for item in learnt.queries]).sum()
        (learnt.loss.sum() + anchor).backward()
    left = [
        name
        for name, value in adapter.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    expect(not left, f"no gradient reaches {', '.join(left)}")


@promise("llm_adapter")
def check_gradient_passes_through_queries(build: Subject) -> None:
    """Masks teach the language model: a query carries a gradient to its parameters."""
    adapter = build().train()
    with torch.enable_grad():
        learnt = adapter(*_batch(build.samples(adapter)))
        total = torch.cat(list(learnt.queries)).float().square().sum()
        expect(total.requires_grad, "queries carry no gradient")
        total.backward()
    taught = [value for value in adapter.parameters() if value.grad is not None]
    expect(any(bool(value.grad.any()) for value in taught), "queries teach no parameter")


@promise("llm_adapter")
def check_any_number_of_tokens(build: Subject) -> None:
    """It takes looks without a token, nothing but such looks, and `max_visual_tokens` in all."""
    adapter = build()
    samples = build.samples(adapter)
    prompt, looks = samples.prompts()[0], samples.looks()
    some, none = samples.tokens(looks[:1]), samples.tokens(looks[1:2], most=0)
    full = _many(some[0], min(adapter.max_visual_tokens, MOST_TOKENS))
    for tokens in (some + none, none + some, none, [full]):
        counts = [len(item.cells) for item in tokens]
        learnt = adapter([tokens], [prompt], [Reply(f"Here. {SEG}")])
        expect(learnt.loss.isfinite().all(), f"loss of looks with {counts} tokens is not finite")
        expect(
            learnt.queries[0].isfinite().all(), f"queries of looks with {counts} tokens not finite"
        )
        adapter.generate(tokens, prompt, 1)


def _batch(
    samples: Samples,
) -> tuple[list[list[VisualTokens]], list[Prompt], list[Reply]]:
    """Four samples, all of other lengths."""
    looks = samples.looks()
    tokens = [samples.tokens(looks[: 1 + place]) for place in range(len(TEXTS))]
    return tokens, samples.prompts(), replies()


def _queries(adapter: Any, samples: Samples, looks: Sequence[Look]) -> Tensor:
    learnt = adapter([samples.tokens(looks)], samples.prompts()[:1], [Reply(f"Here. {SEG}")])
    queries: Tensor = learnt.queries[0]
    return queries


def _expect_heard(build: Subject, first: Any, second: Any, what: str) -> None:
    """Two conversations, of equally many words, leave other embeddings and other queries."""
    adapter = build()
    samples = build.samples(adapter)
    tokens = samples.tokens(samples.looks()[:1])
    prompts = adapter.read([first, second])
    learnt = adapter([tokens] * 2, prompts, [Reply(f"Here. {SEG}")] * 2)
    apart = distance(prompts[0].embedding, prompts[1].embedding)
    expect(apart > EXACT, f"the embedding does not depend on {what}")
    apart = distance(learnt.queries[0], learnt.queries[1])
    expect(apart > EXACT, f"queries do not depend on {what}")


def _many(tokens: VisualTokens, count: int) -> VisualTokens:
    """So many tokens of one look, whichever they are."""
    rows = torch.arange(count, device=tokens.cells.device) % len(tokens.cells)
    return replace(
        tokens,
        cells=tokens.cells[rows],
        features=tokens.features[rows],
        positions=tokens.positions[rows],
        relevance=tokens.relevance[rows],
    )
