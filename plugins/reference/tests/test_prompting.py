from __future__ import annotations

import pytest
import torch

from geomag.errors import ConfigError
from geomag_reference import prompting
from geomag_reference.prompting import Confidence, Prompting

from .prompted import look, resized


@pytest.fixture(autouse=True)
def quick() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("side", [16, 64, 100])
def test_images_are_framed_as_pillow_does(side: int) -> None:
    """Smoothed where they shrink, along the sides that do."""
    pixels = torch.rand(2, 3, 48, 64)
    expected = torch.stack([resized(image, side, side) for image in pixels])
    found = prompting.framed(pixels, side, side)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-5)
    rough = prompting.framed(pixels.bfloat16(), side, side)
    torch.testing.assert_close(rough, expected, atol=0.02, rtol=0)


def test_only_colour_is_seen() -> None:
    with pytest.raises(ConfigError, match="images of 4 bands"):
        prompting.framed(torch.rand(1, 4, 8, 8), 8, 8)


@pytest.mark.parametrize(
    ("canvas", "stride"),
    [
        ((1024, 1024), 4),
        ((1008, 1008), 4),
        ((2016, 2016), 8),
        ((512, 512), 2),
        ((256, 256), 1),
        ((64, 64), 1),
        ((1022, 1022), 2),
        ((504, 1008), 4),
        ((1009, 1009), 1),
    ],
)
def test_stride_is_that_of_the_decoder_where_it_divides(
    canvas: tuple[int, int], stride: int
) -> None:
    assert prompting.stride_of(look(None, *canvas), 256) == stride


@pytest.mark.parametrize("canvas", [(64, 64), (96, 96), (56, 56), (1008, 1008)])
def test_logits_lie_where_the_canvas_does(canvas: tuple[int, int]) -> None:
    """Slopes over the square, in fractions of its sides, are the same slopes over the canvas."""
    cells = (torch.arange(32) + 0.5) / 32
    slopes = torch.stack([cells[:, None].expand(32, 32), cells.expand(32, 32)])
    found = prompting.over_canvas(slopes.double(), torch.ones(2), look(None, *canvas), 32)
    side = found.logits.shape[-1]
    places = (torch.arange(side) + 0.5) / side
    inside = slice(1, -1)  # interpolation goes no further than the middle of the last cell
    wanted = torch.stack([places[:, None].expand(side, side), places.expand(side, side)])
    expected = wanted[:, inside, inside]
    torch.testing.assert_close(found.logits[:, inside, inside], expected, atol=1e-5, rtol=1e-5)
    assert found.logits.dtype == torch.float32
    assert found.query.tolist() == [0, 1]


def test_score_never_falls_where_the_decoder_is_surer() -> None:
    confidence = Confidence(middle=0.5, steepness=10.0)
    said = torch.linspace(-1, 2, 61)
    with torch.no_grad():
        torch.testing.assert_close(confidence(said), (10 * (said - 0.5)).sigmoid())
        for steepness in (-3.0, 0.0, 1.5):
            confidence.log_steepness.fill_(steepness)
            score = confidence(said)
            assert bool((score.diff() > 0).all())
            assert 0 <= float(score.min()) < 0.5 < float(score.max()) <= 1


def test_score_learns_what_presence_is() -> None:
    """Decoders that say more of what is there, from 3 on, on a scale of their own."""
    confidence = Confidence(middle=0.0, steepness=1.0)
    said = torch.linspace(0, 6, 40)
    present = (said > 3).float()
    optimizer = torch.optim.Adam(confidence.parameters(), lr=0.1)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy(confidence(said), present)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert bool(((confidence(said) > 0.5) == (present > 0)).all())


def test_queries_stand_beside_their_looks() -> None:
    looks = [look() for _ in range(3)]
    queries = [torch.full((rows, 5), float(rows)) for rows in (2, 0, 1)]

    def encode(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return pixels.mean((2, 3)), pixels[:, :, :2, :2]

    rows, (means, corners) = prompting.paired(looks, queries, encode, torch.float64)
    assert rows[:, 0].tolist() == [2, 2, 1]
    assert rows.dtype == means.dtype == corners.dtype == torch.float64
    owners = [looks[place].pixels.double() for place in (0, 0, 2)]
    torch.testing.assert_close(means, torch.stack([item.mean((1, 2)) for item in owners]))
    assert corners.equal(torch.stack([item[:, :2, :2] for item in owners]))
    parts = prompting.shared_out(rows, queries)
    assert [len(part) for part in parts] == [2, 0, 1]
    assert parts[2].tolist() == [[1] * 5]


def test_where_nothing_is_asked_a_query_stands_in() -> None:
    looks, queries = [look(), look()], [torch.rand(0, 5), torch.rand(0, 5)]
    rows, (means,) = prompting.paired(looks, queries, lambda p: (p.mean((2, 3)),), torch.float32)
    assert rows.tolist() == [[0] * 5]
    assert means.shape == (1, 3)
    assert [len(part) for part in prompting.shared_out(rows, queries)] == [0, 0]


def test_a_prompt_is_of_its_query_alone() -> None:
    prompt = Prompting(6, 8)
    queries = torch.randn(3, 6)
    found = prompt(queries)
    assert found.shape == (3, 1, 1, 8)
    torch.testing.assert_close(prompt(queries[1:2])[0], found[1])
    assert not found[0].equal(found[1])
