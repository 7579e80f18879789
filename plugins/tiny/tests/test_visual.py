"""Visual tokens as the language model takes them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from geomag.values import Look, VisualTokens
from geomag_tiny.visual import VisualEmbedding

Looker = Callable[..., Look]
Tokenise = Callable[..., VisualTokens]


@pytest.fixture
def embedding() -> VisualEmbedding:
    return VisualEmbedding(32, 24)


def relevant(tokens: VisualTokens, relevance: float) -> VisualTokens:
    return replace(tokens, relevance=torch.full((len(tokens.cells),), relevance))


def test_relevance_is_told_apart_faint_from_none_too(
    look: Looker, tokens_of: Tokenise, embedding: VisualEmbedding
) -> None:
    """A target that is faint may be there; where there is nothing at all, it is not."""
    tokens = tokens_of(look())
    with torch.no_grad():
        none, faint, half, sure = (
            embedding([relevant(tokens, relevance)]) for relevance in (0.0, 0.03, 0.5, 1.0)
        )
    apart = [float((one - other).norm()) for one, other in ((none, faint), (half, sure))]
    assert min(apart) > 0
    assert apart[0] > 0.25 * apart[1]


def test_every_token_has_the_relevance_of_its_own(
    look: Looker, tokens_of: Tokenise, embedding: VisualEmbedding
) -> None:
    tokens = [relevant(tokens_of(look(), step), 0.2) for step in (2, 1)]
    raised = tokens[1].relevance.clone()
    raised[3] = 0.9
    with torch.no_grad():
        before = embedding(tokens)
        after = embedding([tokens[0], replace(tokens[1], relevance=raised)])
    changed = (before - after).abs().amax(1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [len(tokens[0].cells) + 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_relevance_is_out_of_reach(
    look: Looker, tokens_of: Tokenise, embedding: VisualEmbedding, dtype: torch.dtype
) -> None:
    tokens = tokens_of(look())
    relevance = torch.linspace(0, 1, len(tokens.cells)).to(dtype)
    found = embedding([replace(tokens, relevance=relevance)])
    assert found.isfinite().all()
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in embedding.parameters())
