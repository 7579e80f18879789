"""What language adapters are told in tests, and how they are taught it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from geomag.values import BOX, SEG, Box, LookBox, Prompt, Reply, Turn, VisualTokens

Batch = tuple[list[list[VisualTokens]], list[Prompt], list[Reply]]

HISTORY = (Turn("user", "ships?"), Turn("model", f"Yes. {SEG}"), Turn("user", "show them"))


def replies(look: int = 0) -> list[Reply]:
    """With a query, with nothing, and with two queries and a box in some look."""
    box = LookBox(look, Box(4, 4, 9, 20))
    return [Reply(f"2 ships {SEG}."), Reply("None."), Reply(f"{BOX} {SEG} {SEG}", (box,))]


def prompts(adapter: Any) -> list[Prompt]:
    """With a history, and twice without."""
    read: list[Prompt] = adapter.read([HISTORY, HISTORY[:1], HISTORY[2:]])
    return read


def taught(adapter: Any, batch: Callable[[Any], Batch], steps: int = 2) -> list[float]:
    """Moves all that trains; returns the losses."""
    adapter.train()
    asking = [value for value in adapter.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(asking, 3e-3)
    losses = []
    for _ in range(steps):
        lesson = adapter(*batch(adapter))
        queries = torch.cat(list(lesson.queries))
        optimizer.zero_grad()
        (lesson.loss.mean() + 0.1 * (queries - 1).square().mean()).backward()
        optimizer.step()
        losses.append(float(lesson.loss.mean().detach()))
    adapter.eval()
    return losses


def check_low_rank_tuning(adapter: Any, batch: Callable[[Any], Batch], own: Sequence[str]) -> None:
    """Adapters and the parts named by `own` train and move, all else stays bit for bit."""
    before = {name: value.detach().clone() for name, value in adapter.named_parameters()}
    losses = taught(adapter, batch, 3)
    assert losses[-1] < losses[0]
    for name, value in adapter.named_parameters():
        learns = "lora_" in name or name.startswith(tuple(own))
        assert torch.equal(value, before[name]) != learns, name
        assert value.requires_grad == learns, name


def check_state(adapter: Any, other: Any, batch: Callable[[Any], Batch]) -> None:
    """Once taught, an adapter's state makes another one the same."""
    taught(adapter, batch)
    before = other(*batch(other)).loss
    other.load_state_dict(adapter.state_dict())
    found, expected = other(*batch(other)), adapter(*batch(adapter))
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.queries[2], expected.queries[2])
    assert not torch.allclose(before, expected.loss)


def gradients(adapter: Any, batch: Callable[[Any], Batch]) -> dict[str, Any]:
    """Of all that trains, from one lesson."""
    adapter.train()
    adapter(*batch(adapter)).loss.sum().backward()
    return {name: value.grad for name, value in adapter.named_parameters() if value.requires_grad}


def copied(folder: Path, to: Path, *without: str) -> Path:
    for file in folder.iterdir():
        if file.name not in without:
            (to / file.name).write_bytes(file.read_bytes())
    return to
