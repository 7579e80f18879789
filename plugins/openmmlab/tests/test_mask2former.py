from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch import Tensor

from geomag import geometry
from geomag.errors import ConfigError
from geomag.values import Look, MaskTargets, Size
from geomag_openmmlab import geomag_components
from geomag_openmmlab.mask2former import OUTSIDE, Mask2Former

_LACKS = {item.name: item.unavailable for item in geomag_components()}["mask2former"]
pytestmark = pytest.mark.skipif(bool(_LACKS), reason=_LACKS)

DIMS, STRIDES, ASKED = (16, 24, 32), (4, 8, 16), 24
SMALL: dict[str, Any] = {
    "feat_channels": 32,
    "instances": 5,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "heads": 4,
    "feed_forward": 64,
    "encoder_feed_forward": 48,
    "points": 128,
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def head() -> Mask2Former:
    return Mask2Former(DIMS, STRIDES, ASKED, **SMALL).eval()


def look(
    side: int = 64,
    size: tuple[int, int] | None = None,
    dims: Sequence[int] = DIMS,
    strides: Sequence[int] = STRIDES,
    picture: Tensor | None = None,
) -> Look:
    """A scene of `size` on a canvas of `side`, its features random views of its colours."""
    height, width = size or (side, side)
    valid = torch.zeros(side, side, dtype=torch.bool)
    valid[:height, :width] = True
    pixels = (torch.rand(3, side, side) if picture is None else picture) * valid
    features = tuple(
        torch.einsum("dc,chw->dhw", torch.randn(dim, 3), F.avg_pool2d(pixels[None], stride)[0])
        for dim, stride in zip(dims, strides, strict=True)
    )
    return Look(geometry.overview(Size(height, width), side), pixels, valid, features)


def targets(*boxes: tuple[int, int, int, int], query: Sequence[int]) -> MaskTargets:
    """Rectangles in cells of 4 pixels: top, left, bottom, right."""
    masks = torch.zeros(len(boxes), 16, 16)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return MaskTargets(masks, torch.tensor(list(query), dtype=torch.long))


NOTHING = MaskTargets(torch.zeros(0, 16, 16), torch.zeros(0, dtype=torch.long))


# -- learning --------------------------------------------------------------------------------------


def test_learns_several_instances_of_each_query(head: Mask2Former) -> None:
    picture = torch.full((3, 64, 64), 0.2)
    picture[0, 8:24, 8:20] = picture[0, 36:56, 40:60] = picture[2, 8:20, 40:56] = 1
    one, queries = look(picture=picture), [torch.randn(3, ASKED)]
    truth = targets((2, 2, 6, 5), (9, 10, 14, 15), (2, 10, 5, 14), query=[0, 0, 1])
    optimizer = torch.optim.AdamW(head.train().parameters(), lr=2e-3)
    for _ in range(100):
        optimizer.zero_grad()
        head.loss([one], queries, [truth]).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = head.eval()([one], queries)[0]
    assert found.query.tolist() == [0, 0, 1]
    assert found.score.min() > 0.5
    drawn = found.logits > 0
    for query in (0, 1):
        for mask in truth.masks[truth.query == query] > 0:
            both, either = (drawn & mask).sum((1, 2)), (drawn | mask).sum((1, 2))
            assert (both / either)[found.query == query].max() > 0.8


def test_an_object_that_does_not_show_is_no_target(head: Mask2Former) -> None:
    one, queries = look(), [torch.randn(2, ASKED)]
    hidden = targets((2, 2, 6, 5), query=[1])
    hidden.masks.mul_(0.4)
    losses = [head.loss([one], queries, [truth]) for truth in (hidden, NOTHING)]
    torch.testing.assert_close(losses[0], losses[1])
    hidden.masks.mul_(2)
    assert head.loss([one], queries, [hidden]) > losses[0] + 0.1


def test_more_objects_than_slots_are_matched_as_far_as_they_go(head: Mask2Former) -> None:
    boxes = [(row, column, row + 2, column + 2) for row in (0, 4, 8) for column in (0, 4, 8)]
    truth = targets(*boxes, query=[0] * 9)
    assert head.loss([look()], [torch.randn(1, ASKED)], [truth]).isfinite().all()


def test_the_loss_depends_on_no_random_number(head: Mask2Former) -> None:
    one, queries = look(), [torch.randn(2, ASKED)]
    truth, found = targets((2, 2, 6, 5), query=[0]), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(head.train().loss([one], queries, [truth]))
    assert torch.equal(found[0], found[1])


def test_what_lies_in_padding_does_not_count(head: Mask2Former) -> None:
    one, queries = look(size=(64, 32)), [torch.randn(2, ASKED)]
    truth = targets((2, 2, 6, 5), query=[0])
    wider = targets((2, 2, 6, 5), query=[0])
    wider.masks[:, :, 9:] = 1
    losses = [head.loss([one], queries, [item]) for item in (truth, wider)]
    torch.testing.assert_close(losses[0], losses[1])
    outside = head.loss([one], queries, [targets((2, 10, 6, 14), query=[0])])
    torch.testing.assert_close(outside, head.loss([one], queries, [NOTHING]))
    assert (head([one], queries)[0].logits[:, :, 8:] == OUTSIDE).all()


def test_without_a_query_the_loss_is_a_zero_that_keeps_the_graph(head: Mask2Former) -> None:
    loss = head.train().loss([look()], [torch.zeros(0, ASKED)], [NOTHING])
    assert loss.tolist() == [0]
    loss.sum().backward()
    assert all(value.grad is not None for value in head.parameters())
    assert head.loss([], [], []).shape == (0,)


def test_points_lie_on_data_and_follow_from_the_view() -> None:
    from geomag_openmmlab.matching import _places

    one = look(size=(40, 24))
    one.valid[:8] = False
    points = _places(one.valid, one.view, 500)
    columns, rows = (points * 64).long().unbind(1)
    assert one.valid[rows, columns].all()
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) > 300
    assert torch.equal(points, _places(one.valid, one.view, 500))
    other = look(size=(39, 24)).view
    assert not torch.equal(points, _places(one.valid, other, 500))
    assert len(_places(torch.zeros(4, 4, dtype=torch.bool), one.view, 5)) == 0


# -- drawing ---------------------------------------------------------------------------------------


def test_queries_do_not_mix(head: Mask2Former) -> None:
    one, queries = look(), torch.randn(4, ASKED)
    together = head([one], [queries])[0]
    for place in range(4):
        alone = head([one], [queries[place : place + 1]])[0]
        rows = together.query == place
        torch.testing.assert_close(together.logits[rows], alone.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.score[rows], alone.score, atol=1e-5, rtol=1e-5)


def test_knows_where_in_the_scene_a_look_lies(head: Mask2Former) -> None:
    whole = look()
    scene = Size(256, 256)
    moved = [
        Look(view, whole.pixels, whole.valid, whole.features)
        for view in geometry.tiles(scene, 64, 1)[:2]
    ]
    first, second = head.loss(moved, [torch.ones(1, ASKED)] * 2, [NOTHING] * 2)
    assert not torch.isclose(first, second, rtol=1e-6)


def slots(head: Mask2Former, *drawn: tuple[slice, float]) -> tuple[Tensor, Tensor]:
    """Slots that hold squares, with the probability that they hold something."""
    logits = torch.full((2 * head.instances, 16, 16), -5.0)
    objects = torch.zeros(2 * head.instances)
    for place, (square, probability) in enumerate(drawn):
        logits[place, square, square] = 5.0
        objects[place] = probability
    return logits, objects


def test_duplicates_of_a_query_go_and_its_other_instances_stay(head: Mask2Former) -> None:
    near, far = slice(2, 8), slice(9, 14)
    given = [(near, 0.7), (near, 0.9), (far, 0.6), (near, 0.4), (slice(0), 0.9)]
    logits, objects = slots(head, *given, (near, 0.8))
    assert len(given) == head.instances
    assert head._kept(logits, objects, objects).tolist() == [1, 2, 5]
    head.duplicates = 1.0
    assert head._kept(logits, objects, objects).tolist() == [0, 1, 2, 5]
    head.threshold = 0.3
    assert head._kept(logits, objects, objects).tolist() == [0, 1, 2, 3, 5]


def test_slots_look_where_they_drew_and_never_at_padding(head: Mask2Former) -> None:
    masks = torch.full((1, 2, 2, 4), -1.0)
    masks[0, 0, 0, 1:] = 1  # the second slot drew nothing
    padding = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1]).bool().view(1, 1, 8)
    blocked = head.mask_decoder._blocked(masks, (2, 4), padding)
    assert blocked.shape == (SMALL["heads"], 2, 8)
    assert blocked[0].int().tolist() == [[1, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0, 1]]


def test_boxes_are_where_masks_are() -> None:
    from geomag_openmmlab.quality import boxes

    masks = torch.full((2, 6, 8), -1.0)
    masks[0, 2:4, 3:7] = 1
    masks[0, 5, 3] = 1
    assert boxes(masks).tolist() == [[3, 2, 7, 6], [0, 0, 8, 6]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_follows_the_type_of_its_numbers(head: Mask2Former, dtype: torch.dtype) -> None:
    """Looks come as they are."""
    one, queries = look(), [torch.randn(2, ASKED)]
    truth = [targets((2, 2, 6, 5), query=[0])]
    wanted = head.loss([one], queries, truth)
    found = head.to(dtype).loss([one], queries, truth)
    torch.testing.assert_close(found.float(), wanted, atol=0.3, rtol=0.1)
    assert head([one], queries)[0].logits.dtype == dtype


def test_is_counted_on_the_meta_device() -> None:
    with torch.device("meta"):
        head = Mask2Former(DIMS, STRIDES, ASKED, **SMALL)
        features = tuple(
            torch.empty(dim, 64 // stride, 64 // stride)
            for dim, stride in zip(DIMS, STRIDES, strict=True)
        )
        view = geometry.overview(Size(64, 64), 64)
        valid = torch.ones(64, 64, dtype=torch.bool)
        one = Look(view, torch.empty(3, 64, 64), valid, features)
        masks = head([one], [torch.empty(2, ASKED)])[0]
    assert all(value.is_meta for value in head.parameters())
    assert masks.logits.shape == (2 * 5, 16, 16)


@pytest.mark.parametrize("scope", [None, "mmengine"])
def test_says_nothing_whatever_the_default_scope(
    scope: str | None, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with DefaultScope.overwrite_default_scope(scope):
        head = Mask2Former(DIMS, STRIDES, ASKED, **SMALL)
        truth = targets((2, 2, 6, 5), query=[0])
        assert head.loss([look()], [torch.randn(1, ASKED)], [truth]).isfinite().all()
        current = DefaultScope.get_current_instance()
        assert (current.scope_name if current else None) == scope
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# -- levels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strides", "side", "made"),
    [
        ((16,), 64, (4, 8, 16, 32)),
        ((14,), 42, (7, 14, 28, 56)),
        ((8, 16, 32), 64, (4, 8, 16, 32)),
        ((4, 8, 8, 8), 64, (4, 8, 16, 32)),
        ((2, 4, 8, 16, 32), 64, (2, 4, 8, 16, 32)),
    ],
)
def test_makes_the_levels_that_an_encoder_lacks(
    strides: tuple[int, ...], side: int, made: tuple[int, ...]
) -> None:
    dims = tuple(8 + place for place in range(len(strides)))
    head = Mask2Former(dims, strides, ASKED, **SMALL)
    assert head.pyramid.strides == made
    one = look(side, dims=dims, strides=strides)
    levels = head.pyramid([level[None] for level in one.features])
    assert [level.shape[1] for level in levels] == list(head.pyramid.dims)
    assert [level.shape[-1] for level in levels] == [-(-side // stride) for stride in made]
    queries = [torch.randn(1, ASKED)]
    assert head([one], queries)[0].logits.shape[-1] == side // made[0]
    head.loss([one], queries, [targets((2, 2, 6, 5), query=[0])]).sum().backward()
    assert all(value.grad is not None for value in head.parameters())


def test_numbers_that_do_not_fit_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"feat_channels=20.*heads=8; instances=0 and points=3"):
        Mask2Former(DIMS, STRIDES, ASKED, feat_channels=20, instances=0, points=3)
