from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geomag import geometry
from geomag.values import Box, Look, Size, View
from geomag_tiny.encoder import Encoder
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


def saying(
    head: MaskHead,
    content: float,
    rows: list[float] | None = None,
    columns: list[float] | None = None,
) -> MaskHead:
    """A head that finds every cell alike, and draws the same curves for any query."""
    last = head.kernels[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        last.bias[head.weights - 1] = content
        curves = last.bias[head.weights :].view(2, -1)
        for place, curve in enumerate((rows, columns)):
            numbers = torch.tensor([50.0] if curve is None else curve)
            curves[place, : len(numbers)] = numbers
    return head


def logits_of(head: MaskHead, look: Look) -> torch.Tensor:
    with torch.no_grad():
        return head([look], [torch.randn(1, 24)])[0].logits[0]


@pytest.mark.parametrize(
    ("content", "row", "column"),
    [(3, 5, 7), (5, -4, 7), (5, 7, -4), (-3, 5, 5), (2, 2, 2), (-6, -5, 30)],
)
def test_a_cell_is_marked_where_content_row_and_column_agree(
    look: Looker, head: MaskHead, content: float, row: float, column: float
) -> None:
    """ "And" of logits: no more than the lowest of them, and not much less."""
    found = logits_of(saying(head, content, [row], [column]), look())
    lowest = min(content, row, column)
    assert (found <= lowest).all()
    assert (found >= lowest - 1.1).all()  # the logarithm of three
    exact = -torch.tensor([-content, -row, -column], dtype=torch.float64).logsumexp(0)
    torch.testing.assert_close(found, exact.float().expand(16, 16), atol=1e-4, rtol=1e-4)


def test_all_three_learn_where_they_are_lowest(look: Looker, head: MaskHead) -> None:
    for lowest in range(3):
        values = [9.0, 9.0, 9.0]
        values[lowest] = -2.0
        saying(head, values[0], values[1:2], values[2:])
        head.zero_grad()
        head([look()], [torch.randn(1, 24)])[0].logits.sum().backward()
        bias = head.kernels[-1].bias.grad
        curves = bias[head.weights :].view(2, -1)[:, 0]
        learnt = [float(value) for value in (bias[head.weights - 1], *curves)]
        assert learnt[lowest] == pytest.approx(256, rel=0.01)
        assert sum(learnt) == pytest.approx(256, rel=0.01)


VIEWS = [
    geometry.overview(Size(64, 64), 64),
    geometry.overview(Size(512, 256), 64),  # shrunk, and padded at the right
    geometry.overview(Size(40, 300), 64),
    geometry.tiles(Size(200, 150), 64, 1)[4],
    geometry.tiles(Size(200, 150), 64, 1)[-1],  # an edge view, of 8 x 22 pixels
    geometry.tiles(Size(1100, 1100), 64, 4)[-1],
]


@pytest.mark.parametrize("view", VIEWS)
def test_curves_run_over_the_scene_whichever_view_shows_it(
    look: Looker, head: MaskHead, view: View
) -> None:
    """A slope, from -8 at one end of the scene to 8 at the other."""
    shown = look(torch.rand(3, view.size.height, view.size.width), view=view)
    box, scene = view.box, view.scene
    places = torch.arange(16) * 4 + 2.0  # the middles of cells, in pixels of the view
    down = (places * box.height / view.size.height + box.top) / scene.height
    across = (places * box.width / view.size.width + box.left) / scene.width
    cells = (-(-view.size.height // 4), -(-view.size.width // 4))
    rows = logits_of(saying(head, 50, rows=[0, 8]), shown)[: cells[0], : cells[1]]
    columns = logits_of(saying(head, 50, columns=[0, 8]), shown)[: cells[0], : cells[1]]
    wanted = (16 * down - 8)[: cells[0], None].expand(cells)
    torch.testing.assert_close(rows, wanted, atol=1e-3, rtol=1e-3)
    wanted = (16 * across - 8)[: cells[1]].expand(cells)
    torch.testing.assert_close(columns, wanted, atol=1e-3, rtol=1e-3)


def test_before_anything_is_learnt_no_place_is_ruled_out(look: Looker, head: MaskHead) -> None:
    last = head.kernels[-1]
    curves = last.bias[head.weights :].view(2, -1)
    assert curves[:, 0].tolist() == [OPEN, OPEN]
    assert not curves[:, 1:].any()
    assert last.bias[head.weights - 1] == RARE
    found = logits_of(head, look())
    assert float(found.mean()) == pytest.approx(RARE, abs=1.5)


@pytest.mark.parametrize("cell", [(0, 0), (1, 1), (2, 1)])
def test_curves_can_tell_thirds_apart_in_views_they_were_not_learnt_in(
    look: Looker, head: MaskHead, cell: tuple[int, int]
) -> None:
    """A third of either side of a scene, learnt from the overview and drawn in the nine tiles."""
    scene = Size(192, 192)
    saying(head, 50, [OPEN], [OPEN])
    overview = frozen(look(view=geometry.overview(scene, 64)))
    middles = (torch.arange(16) + 0.5) / 16 * 3
    inside = [(middles >= place) & (middles < place + 1) for place in cell]
    truth = (inside[0][:, None] & inside[1]).float()
    optimizer = torch.optim.Adam([head.kernels[-1].bias], lr=0.3)
    for _ in range(100):
        logits = head([overview], [torch.randn(1, 24)])[0].logits[0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert bool(((logits > 0) == (truth > 0)).all())
    for place, view in enumerate(geometry.tiles(scene, 64, 1)):
        share = float((logits_of(head, look(view=view)) > 0).float().mean())
        assert (share > 0.75) if divmod(place, 3) == cell else (share < 0.25), view
