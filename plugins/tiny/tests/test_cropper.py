from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geomag import geometry
from geomag.values import Level, Look, Plan, Prompt, SceneInfo, Size
from geomag_tiny.cropper import Cropper
from geomag_tiny.encoder import Encoder

Looker = Callable[..., Look]
Reader = Callable[[str], Prompt]
WIDTH = 48
PLAN = Plan(Level.PIXEL, 64)


@pytest.fixture
def cropper(encoder: Encoder) -> Cropper:
    return Cropper(encoder.embed_dims, encoder.strides, WIDTH, width=32)


def test_learns_to_find_what_the_prompt_names(look: Looker, cropper: Cropper, read: Reader) -> None:
    pixels = torch.full((3, 64, 64), 0.3)
    pixels[0, 8:16, 8:16] = 1.0
    pixels[2, 40:48, 48:56] = 1.0
    seen = look(pixels)
    frozen = Look(seen.view, seen.pixels, seen.valid, tuple(f.detach() for f in seen.features))
    red, blue = torch.zeros(2, 8, 8)
    red[1, 1] = blue[5, 6] = 1
    prompts = [read("the red one"), read("the blue one")]
    optimizer = torch.optim.AdamW(cropper.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        maps = [cropper.relevance([frozen], prompt)[0] for prompt in prompts]
        loss = sum(
            torch.nn.functional.binary_cross_entropy(found, truth)
            for found, truth in zip(maps, (red, blue), strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    assert [int(found.argmax()) for found in maps] == [1 * 8 + 1, 5 * 8 + 6]


def test_says_little_before_it_has_learned(look: Looker, cropper: Cropper, read: Reader) -> None:
    opinion = cropper.relevance([look()], read("ships"))[0]
    assert opinion is not None
    assert opinion.shape == (8, 8)
    assert float(opinion.detach().mean()) < 0.1


def test_what_is_not_valid_is_not_relevant(look: Looker, cropper: Cropper, read: Reader) -> None:
    half = look(torch.rand(3, 64, 24))
    opinion = cropper.relevance([half], read("ships"))[0]
    assert opinion is not None
    assert opinion[:, :3].all()
    assert not opinion[:, 3:].any()


def test_looks_are_judged_one_by_one(look: Looker, cropper: Cropper, read: Reader) -> None:
    prompt = read("ships")
    looks = [look(), look(side=96), look(torch.rand(3, 40, 64))]
    together = cropper.relevance(looks, prompt)
    for one, found in zip(looks, together, strict=True):
        torch.testing.assert_close(cropper.relevance([one], prompt)[0], found)
    assert cropper.relevance([], prompt) == []


def test_ranks_the_relevant_first_and_stops(look: Looker, cropper: Cropper) -> None:
    whole = geometry.overview(Size(256, 256), 64)
    seen = look(view=whole)
    views = geometry.candidates([seen], PLAN, SceneInfo(Size(256, 256)))
    opinion = torch.zeros(8, 8)
    opinion[7, 7], opinion[0, 0] = 0.9, 0.4
    ranked = cropper.rank([seen], [opinion], views, PLAN)
    assert ranked == [views[-1], views[0]]
    assert cropper.rank([seen], [torch.zeros(8, 8)], views, PLAN) == []
    assert cropper.rank([seen], [None], views, PLAN) == views


def test_every_rung_has_its_turn_the_coarser_one_first(look: Looker, cropper: Cropper) -> None:
    size = Size(1024, 1024)
    whole = look(view=geometry.overview(size, 64))
    near = look(view=geometry.tiles(size, 64, 4)[5])
    views = geometry.candidates([whole, near], PLAN, SceneInfo(size))
    opinion = torch.full((8, 8), 0.2)
    opinion[0, 7] = 0.3
    ranked = cropper.rank([whole, near], [opinion, torch.full((8, 8), 0.9)], views, PLAN)
    assert set(ranked) == set(views)
    assert [geometry.rung(view) for view in ranked] == [1, 0] * 15 + [0]
    # What is known of the corner speaks for it among the views of its rung.
    assert ranked[0] == geometry.tiles(size, 64, 4)[3]


@pytest.mark.parametrize("strides", [(4,), (8, 16, 32), (4, 4, 8)])
def test_fits_encoders_of_other_strides(strides: tuple[int, ...], read: Reader) -> None:
    dims = (8,) * len(strides)
    other = Cropper(dims, strides, WIDTH, width=16)
    whole = geometry.overview(Size(64, 64), 64)
    features = tuple(torch.rand(8, 64 // stride, 64 // stride) for stride in strides)
    one = Look(whole, torch.rand(3, 64, 64), torch.ones(64, 64, dtype=torch.bool), features)
    opinion = other.relevance([one], read("ships"))[0]
    assert opinion is not None
    assert opinion.shape == (64 // other.stride,) * 2
