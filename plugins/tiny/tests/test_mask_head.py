from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geomag.values import Box, Look, Size, View
from geomag_tiny.encoder import Encoder
from geomag_tiny.mask_head import MaskHead

Looker = Callable[..., Look]


@pytest.fixture
def head(encoder: Encoder) -> MaskHead:
    return MaskHead(encoder.embed_dims, encoder.strides, 24)


def frozen(look: Look) -> Look:
    return Look(
        look.view, look.pixels, look.valid, tuple(level.detach() for level in look.features)
    )


def fitted(head: MaskHead, looks: list[Look], queries: torch.Tensor, truth: torch.Tensor) -> float:
    """Learns masks `[looks, K, h, w]` by heart; returns the lowest intersection over union."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(80):
        logits = torch.stack([masks.logits for masks in head(looks, [queries] * len(looks))])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = logits > 0
    wanted = truth > 0.5
    union = (drawn | wanted).sum((2, 3))
    return float(((drawn & wanted).sum((2, 3)) / union.clamp_min(1)).min())


def test_learns_to_draw_what_a_query_means(look: Looker, head: MaskHead) -> None:
    pixels = torch.full((3, 64, 64), 0.3)
    pixels[0, 8:20, 8:20] = 1.0
    pixels[2, 40:48, 32:56] = 1.0
    truth = torch.zeros(1, 2, 16, 16)
    truth[0, 0, 2:5, 2:5] = truth[0, 1, 10:12, 8:14] = 1
    queries = torch.randn(2, 24)
    assert fitted(head, [frozen(look(pixels))], queries, truth) > 0.8


def test_knows_where_a_look_lies_in_the_scene(look: Looker, head: MaskHead) -> None:
    """The same pixels, left and right in a scene; the query means what is at the left."""
    pixels = torch.rand(3, 64, 64)
    scene = Size(64, 128)
    left, right = (
        frozen(look(pixels, view=View(Box(start, 0, start + 64, 64), Size(64, 64), scene)))
        for start in (0, 64)
    )
    truth = torch.stack([torch.ones(1, 16, 16), torch.zeros(1, 16, 16)])
    query = torch.randn(1, 24)
    fitted(head, [left, right], query, truth)
    drawn = head([left, right], [query] * 2)
    assert drawn[0].logits.mean() > drawn[1].logits.mean() + 2


def test_samples_do_not_mix(look: Looker, head: MaskHead) -> None:
    looks = [look(), look(side=96), look(torch.rand(3, 40, 64)), look()]
    queries = [torch.randn(count, 24) for count in (2, 1, 2, 0)]
    together = head(looks, queries)
    for one, query, masks in zip(looks, queries, together, strict=True):
        alone = head([one], [query])[0]
        torch.testing.assert_close(masks.logits, alone.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(masks.score, alone.score, atol=1e-5, rtol=1e-5)
        assert masks.query.tolist() == list(range(len(query)))
    assert head([], []) == []


def test_no_query_no_mask(look: Looker, head: MaskHead) -> None:
    masks = head([look()], [torch.zeros(0, 24)])[0]
    assert masks.logits.shape == (0, 16, 16)
    assert masks.score.shape == (0,)


def test_nothing_is_drawn_where_there_is_no_data(look: Looker, head: MaskHead) -> None:
    half = look(torch.rand(3, 64, 24))
    masks = head([half], [torch.randn(1, 24)])[0]
    assert (masks.logits[..., 6:] == -20).all()
    assert (masks.logits[..., :6] > -20).all()


def test_presence_rises_with_the_mask(look: Looker, head: MaskHead) -> None:
    query = torch.zeros(2, 24)
    logits = torch.full((1, 2, 16, 16), -5.0)
    logits[0, 1, :3, :3] = 5.0
    score = head._score(logits, query[None])[0]
    assert score[0] < 0.2 < 0.8 < score[1]
