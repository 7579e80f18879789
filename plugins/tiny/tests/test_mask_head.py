from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geomag import geometry
from geomag.values import Box, Look, Size, View
from geomag_tiny import mask_head
from geomag_tiny.encoder import Encoder
from geomag_tiny.mask_head import _STEEP as STEEP
from geomag_tiny.mask_head import OPEN, RARE, MaskHead

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


def saying(head: MaskHead, content: float, rows: float = 0.0, columns: float = 0.0) -> MaskHead:
    """A head that finds every cell alike, and has the same slopes for any query: so much more at
    the end of a side than at its start."""
    last = head.kernels[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        last.bias[-1] = content
        head.curves.weight.zero_()
        head.curves.bias.zero_()
        head.curves.bias.view(2, -1)[:, 0] = torch.tensor([rows, columns]) / 2 / STEEP
    return head


def logits_of(head: MaskHead, look: Look) -> torch.Tensor:
    with torch.no_grad():
        return head([look], [torch.randn(1, 24)])[0].logits[0]


@pytest.mark.parametrize("content", [-6, 0, 3, 9])
def test_a_cell_is_marked_where_content_and_place_agree(
    look: Looker, head: MaskHead, content: float
) -> None:
    """ "And" of logits: no more than the lowest of them, and not much less."""
    found = logits_of(saying(head, content), look())
    assert (found <= min(content, OPEN)).all()
    assert (found >= min(content, OPEN) - 1.1).all()  # the logarithm of three
    exact = -torch.tensor([-content, -OPEN, -OPEN], dtype=torch.float64).logsumexp(0)
    torch.testing.assert_close(found, exact.float().expand(16, 16), atol=1e-4, rtol=1e-4)


def test_content_and_place_learn_where_they_are_lowest(look: Looker, head: MaskHead) -> None:
    """At the far end of a slope the place decides, at the near end the content does."""
    saying(head, 0.0, rows=30.0)
    near = head([look()], [torch.randn(1, 24)])[0].logits[0, -1].sum()
    near.backward()
    assert float(head.kernels[-1].bias.grad[-1]) == pytest.approx(16, rel=0.1)
    head.zero_grad()
    far = head([look()], [torch.randn(1, 24)])[0].logits[0, 0].sum()
    far.backward()
    assert float(head.kernels[-1].bias.grad[-1]) == pytest.approx(0, abs=0.1)
    assert float(head.curves.bias.grad.abs().sum()) > 16


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell is a thing of its own."""

    def cells(content: torch.Tensor) -> tuple[torch.Tensor, int]:
        return torch.arange(content.numel()), content.numel()

    monkeypatch.setattr(mask_head, "_regions", cells)


VIEWS = [
    geometry.overview(Size(64, 64), 64),
    geometry.overview(Size(512, 256), 64),  # shrunk, and padded at the right
    geometry.overview(Size(40, 300), 64),
    geometry.tiles(Size(200, 150), 64, 1)[4],
    geometry.tiles(Size(200, 150), 64, 1)[-1],  # an edge view, of 8 x 22 pixels
    geometry.tiles(Size(1100, 1100), 64, 4)[-1],
]


def both(slope: torch.Tensor, cells: int) -> torch.Tensor:
    """A slope and a level curve together."""
    return -torch.logaddexp(-(slope[:cells] + OPEN), torch.tensor(-OPEN))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("view", VIEWS)
def test_curves_run_over_the_scene_whichever_view_shows_it(
    look: Looker, head: MaskHead, view: View
) -> None:
    """A slope, from 12 below the highest logit at one end of the scene to that at the other."""
    shown = look(torch.rand(3, view.size.height, view.size.width), view=view)
    box, scene = view.box, view.scene
    places = torch.arange(16) * 4 + 2.0  # the middles of cells, in pixels of the view
    down = (places * box.height / view.size.height + box.top) / scene.height
    across = (places * box.width / view.size.width + box.left) / scene.width
    cells = (-(-view.size.height // 4), -(-view.size.width // 4))
    rows = logits_of(saying(head, 50, rows=12), shown)[: cells[0], : cells[1]]
    columns = logits_of(saying(head, 50, columns=12), shown)[: cells[0], : cells[1]]
    wanted = both(12 * down - 12, cells[0])[:, None].expand(cells)
    torch.testing.assert_close(rows, wanted, atol=1e-3, rtol=1e-3)
    wanted = both(12 * across - 12, cells[1]).expand(cells)
    torch.testing.assert_close(columns, wanted, atol=1e-3, rtol=1e-3)


def test_before_anything_is_learnt_no_place_is_ruled_out(look: Looker, head: MaskHead) -> None:
    assert not any(parameter.any() for parameter in head.curves.parameters())
    assert head.kernels[-1].bias[-1] == RARE
    found = logits_of(head, look())
    assert float(found.mean()) == pytest.approx(RARE, abs=1.5)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("cell", [(0, 0), (1, 1), (2, 1)])
def test_curves_can_tell_thirds_apart_in_views_they_were_not_learnt_in(
    look: Looker, head: MaskHead, cell: tuple[int, int]
) -> None:
    """A third of either side of a scene, learnt from the overview and drawn in the nine tiles."""
    scene = Size(192, 192)
    saying(head, 50)
    overview = frozen(look(view=geometry.overview(scene, 64)))
    middles = (torch.arange(16) + 0.5) / 16 * 3
    inside = [(middles >= place) & (middles < place + 1) for place in cell]
    truth = (inside[0][:, None] & inside[1]).float()
    optimizer = torch.optim.Adam([head.curves.bias], lr=0.3 / STEEP)
    for _ in range(300):
        logits = head([overview], [torch.randn(1, 24)])[0].logits[0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert bool(((logits > 0) == (truth > 0)).all())
    for place, view in enumerate(geometry.tiles(scene, 64, 1)):
        share = float((logits_of(head, look(view=view)) > 0).float().mean())
        assert (share > 0.75) if divmod(place, 3) == cell else (share < 0.25), view


def test_no_query_rules_out_every_place() -> None:
    curves = 3 * torch.randn(2, 3, mask_head._CURVE)
    places = torch.linspace(0, 1, 65).expand(2, 65)
    highest = mask_head._drawn(curves, places).amax(2)
    torch.testing.assert_close(highest, torch.full((2, 3), OPEN), atol=0.3, rtol=0)


def test_what_hangs_together_is_at_one_place() -> None:
    """Two things that touch at a corner, on a slope: each is judged at its middle."""
    content = torch.full((1, 1, 8, 8), -2.0)
    content[..., 0:2, 1:4] = 1.0
    content[..., 2:8, 4:6] = 3.0
    slope = torch.arange(8.0)[:, None].expand(1, 1, 8, 8).clone().requires_grad_()
    found = mask_head._together(slope, content)
    expected = slope.detach().clone()
    expected[..., 0:2, 1:4] = 0.5
    expected[..., 2:8, 4:6] = 4.5
    torch.testing.assert_close(found, expected)
    found[0, 0, 0, 1].backward()
    assert slope.grad is not None
    assert float(slope.grad[0, 0, 0:2, 1:4].sum()) == pytest.approx(1)
    assert int((slope.grad != 0).sum()) == 6


def test_queries_and_looks_do_not_share_what_hangs_together() -> None:
    content = torch.ones(2, 3, 4, 4)
    places = torch.arange(6.0).view(2, 3, 1, 1).expand(2, 3, 4, 4)
    torch.testing.assert_close(mask_head._together(places, content), places)
