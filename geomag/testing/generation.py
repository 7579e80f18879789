"""What a language adapter promises of its answers. With random weights it would hardly ever write a
marker, so these checks first teach it one reply by heart."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .. import geometry
from ..values import BOX, SEG, Box, LookBox, Prompt, Reading, Reply, VisualTokens
from .checks import expect, needs, promise
from .comparison import CLOSE, distance
from .samples import Samples
from .subject import Subject

STEPS = 200
RATE = 3e-3
ENOUGH = 0.003
"""The share of its first loss at which an adapter has learnt, whatever it says: with a vocabulary
of thousands and twenty tokens, none is then less likely than all others together."""
TEXT = f"The harbor {BOX} has 3 boats {SEG} and 2 ships {SEG}"
LOOK = 1
EDGE = 0.06
"""How far off an edge of a box may be, as a share of the canvas: adapters write it in steps."""
NEW_TOKENS = 64
OVERVIEW = 256
CHEAP = 0.05
MORE_TOKENS = 4
"""The cost of one new token is measured over so many."""


@dataclass(frozen=True, eq=False)
class Taught:
    """An adapter that was shown one reply until it had learnt it, or for `STEPS` steps."""

    adapter: Any
    tokens: list[VisualTokens]
    prompt: Prompt
    reply: Reply
    reading: Reading
    steps: int
    cut: list[tuple[int, Reading]] = field(default_factory=list)

    @property
    def learnt(self) -> bool:
        return _words(self.reading.text) == _words(self.reply.text)

    def generate(self, max_new_tokens: int) -> Reading:
        reading: Reading = self.adapter.generate(self.tokens, self.prompt, max_new_tokens)
        return reading

    def truncated(self) -> list[tuple[int, Reading]]:
        """Its answer within 1, 2, 3, ... new tokens, up to the whole."""
        for count in range(1, NEW_TOKENS if not self.cut else 0):
            self.cut.append((count, self.generate(count)))
            if self.cut[-1][1].text == self.reading.text:
                break
        return self.cut


@promise("llm_adapter")
def check_says_what_it_learnt(build: Subject) -> None:
    """Taught one reply by heart, `generate` says it: learning and answering agree on what comes
    before what."""
    taught = _taught(build)
    expect(
        taught.learnt,
        f"after {taught.steps} steps on {taught.reply.text!r} it says {taught.reading.text!r}",
    )


@promise("llm_adapter")
def check_markers_are_counted(build: Subject) -> None:
    """An answer has one query `[D]` for each `[SEG]` and one box for each `[BOX]`, wherever
    `max_new_tokens` cuts it off."""
    taught = _learnt(build)
    for count, reading in taught.truncated():
        text, shape = reading.text, list(reading.queries.shape)
        promised = [text.count(SEG), taught.adapter.query_dim]
        expect(
            shape == promised, f"{text!r} ({count} tokens): queries {shape}, expected {promised}"
        )
        boxes = text.count(BOX)
        expect(
            len(reading.boxes) == boxes, f"{text!r} ({count} tokens): {len(reading.boxes)} boxes"
        )


@promise("llm_adapter")
def check_answer_is_read_back(build: Subject) -> None:
    """What `generate` wrote, the adapter reads back to the same queries, also where the answer was
    cut off after a `[SEG]`."""
    taught = _learnt(build)
    ends = [one for one in taught.truncated() if one[1].text.rstrip().endswith(SEG)]
    for count, reading in [(NEW_TOKENS, taught.reading), *ends]:
        reply = Reply(reading.text, reading.boxes)
        read = taught.adapter([taught.tokens], [taught.prompt], [reply]).queries[0]
        apart = distance(read, reading.queries)
        expect(
            apart <= CLOSE,
            f"{reading.text!r} ({count} tokens): queries read back differ by {apart:.1%}",
        )


@promise("llm_adapter")
def check_max_new_tokens_is_kept(build: Subject) -> None:
    """An answer has at most `max_new_tokens` tokens; no token is more than one word or marker."""
    taught = _learnt(build)
    for count, reading in taught.truncated():
        words = len(_words(reading.text))
        expect(words <= count, f"{words} words for max_new_tokens={count}: {reading.text!r}")


@promise("llm_adapter")
def check_box_is_where_it_was_learnt(build: Subject) -> None:
    """A box is written in the frame of a look that was handed over, left, top, right, bottom in
    pixels of its canvas."""
    taught = _learnt(build)
    promised = taught.reply.boxes[0]
    for found in taught.reading.boxes:
        expect(0 <= found.look < len(taught.tokens), f"a box lies in look {found.look}, unknown")
        side = taught.tokens[found.look].look.pixels.shape[-1]
        pairs = list(zip(_edges(found.box), _edges(promised.box), strict=True))
        expect(
            found.look == promised.look and all(abs(a - b) <= EDGE * side for a, b in pairs),
            f"taught {promised}, it writes {found}",
        )


@promise("llm_adapter")
def check_answer_is_for_its_prompt(build: Subject) -> None:
    """Answering is deterministic, and the same whatever was answered in between."""
    taught = _taught(build)
    samples = build.samples(taught.adapter, seed=3)
    other = samples.prompts()[1]
    taught.adapter.generate(samples.tokens(samples.looks()), other, 5)
    again = taught.generate(NEW_TOKENS)
    expect(again.text == taught.reading.text, f"first {taught.reading.text!r}, then {again.text!r}")
    expect(again.boxes == taught.reading.boxes, "the boxes of a repeated answer differ")
    apart = distance(again.queries, taught.reading.queries)
    expect(apart <= CLOSE, f"the queries of a repeated answer differ by {apart:.1%}")


@promise("llm_adapter")
def check_reading_is_cheap(build: Subject) -> None:
    """`read` costs at most 5 % of the FLOPs of answering with 16 new tokens over one full overview
    of 256 x 256 pixels."""
    taught = _learnt(build)
    adapter, samples = taught.adapter, build.samples(taught.adapter)
    first, more = (_flops(partial(taught.generate, count)) for count in (1, 1 + MORE_TOKENS))
    each = (more - first) / MORE_TOKENS
    full = _overview(samples, adapter.max_visual_tokens)
    answer = _flops(lambda: adapter.generate(full, taught.prompt, 1)) + 15 * max(0.0, each)
    reading = _flops(lambda: adapter.read([taught.prompt.turns]))
    expect(
        reading <= CHEAP * answer,
        f"read() costs {reading / answer:.1%} of an answer ({reading:.3g} of {answer:.3g} FLOPs)",
    )


def _taught(build: Subject) -> Taught:
    if "taught" not in build.memory:
        build.memory["taught"] = _teach(build)
    taught: Taught = build.memory["taught"]
    return taught


def _learnt(build: Subject) -> Taught:
    taught = _taught(build)
    needs(taught.learnt, "it could not be taught a reply, see check_says_what_it_learnt")
    return taught


def _teach(build: Subject) -> Taught:
    adapter = build()
    samples = build.samples(adapter)
    side = samples.side
    tokens = samples.tokens(samples.looks()[:3], most=8)
    prompt = samples.prompts()[1]
    box = Box(side / 8, side / 2, side * 7 / 8, side * 5 / 8)
    reply = Reply(TEXT, (LookBox(LOOK, box),))
    trained = [value for value in adapter.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, RATE)
    reading = Reading("", torch.zeros(0))
    losses: list[float] = []
    while len(losses) < STEPS:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss: Tensor = adapter([tokens], [prompt], [reply]).loss.sum()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        # Asking is dear: only when it may have learnt, and now and then.
        learnt = losses[-1] < ENOUGH * losses[0]
        if learnt or len(losses) % 50 == 0:
            reading = adapter.generate(tokens, prompt, NEW_TOKENS)
            if learnt or _words(reading.text) == _words(TEXT):
                break
    return Taught(adapter, tokens, prompt, reply, reading, len(losses))


def _overview(samples: Samples, limit: int) -> list[VisualTokens]:
    """All the tokens of a square overview of 256 x 256, at most `limit`."""
    wide = Samples(samples.facts | {"overview_side": OVERVIEW})
    view = geometry.tiles(wide.scene, wide.side, 1)[0]
    return wide.tokens([wide.look(view)], most=limit)


def _flops(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def _words(text: str) -> list[str]:
    """Words and markers, however they are spaced."""
    return re.sub(r"(\[\w+\])", r" \1 ", text).split()


def _edges(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom
