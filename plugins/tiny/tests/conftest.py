"""Scenes, looks and tokens to test with; one thread, so that quick tests stay quick."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geomag import geometry
from geomag.values import Look, Prompt, Size, Turn, View, VisualTokens
from geomag_tiny.encoder import Encoder
from geomag_tiny.llm_adapter import LLMAdapter

Looker = Callable[..., Look]
Tokenise = Callable[..., VisualTokens]
Reader = Callable[[str], Prompt]


@pytest.fixture(autouse=True)
def quick() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(embed_dims=(16, 24, 32), widths=(16, 16, 24, 32, 48), heads=3)


@pytest.fixture(scope="session")
def adapter() -> LLMAdapter:
    torch.manual_seed(0)
    return LLMAdapter(
        (16, 24, 32), hidden_size=48, layers=2, heads=3, feed_forward=96, query_dim=24
    )


@pytest.fixture
def look(encoder: Encoder) -> Looker:
    """Encodes a scene of noise, or one that is given, on a canvas."""

    def make(pixels: torch.Tensor | None = None, side: int = 64, view: View | None = None) -> Look:
        pixels = torch.rand(3, side, side) if pixels is None else pixels
        height, width = pixels.shape[1:]
        if view is None:
            view = geometry.overview(Size(height, width), side)
        canvas = torch.zeros(3, side, side)
        canvas[:, :height, :width] = pixels
        valid = torch.zeros(side, side, dtype=torch.bool)
        valid[:height, :width] = True
        features = tuple(level[0] for level in encoder(canvas[None]))
        return Look(view, canvas, valid, features)

    return make


@pytest.fixture
def tokens_of() -> Tokenise:
    """Every cell of a look's coarsest grid, or every block of `step` x `step`."""

    def make(look: Look, step: int = 1) -> VisualTokens:
        grid = (look.features[-1].shape[1], look.features[-1].shape[2])
        corners = [
            [top, left, top + step, left + step]
            for top in range(0, grid[0], step)
            for left in range(0, grid[1], step)
        ]
        cells = torch.tensor(corners)
        means = torch.nn.functional.avg_pool2d(look.features[-1], step).flatten(1).T
        canvas = (look.pixels.shape[1], look.pixels.shape[2])
        owner = torch.zeros_like(cells[:, 0])
        places = geometry.positions(cells, owner, [look.view], grid, canvas)
        return VisualTokens(look, cells, means, places, torch.ones(len(cells)))

    return make


@pytest.fixture
def read(adapter: LLMAdapter) -> Reader:
    """A prompt of one turn."""

    def make(text: str) -> Prompt:
        return adapter.read([(Turn("user", text),)])[0]

    return make
