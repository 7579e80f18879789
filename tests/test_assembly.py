from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geomag import geometry
from geomag.assembly import assemble
from geomag.masks import SceneMask
from geomag.values import Box, Look, LookMasks, Size, View

SIDE = 16
EIGHT = np.ones((3, 3))


def look_at(view: View, valid: np.ndarray | None = None) -> Look:
    canvas = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    canvas[: view.size.height, : view.size.width] = True
    if valid is not None:
        canvas &= torch.from_numpy(valid)
    return Look(view, torch.zeros(3, SIDE, SIDE), canvas, ())


def drawn(
    masks: Sequence[np.ndarray], queries: Sequence[int], scores: Sequence[float]
) -> LookMasks:
    """Certain masks on the canvas of a look."""
    logits = torch.full((len(masks), SIDE, SIDE), -20.0)
    for place, mask in enumerate(masks):
        logits[place, : mask.shape[0], : mask.shape[1]][torch.from_numpy(mask)] = 20.0
    return LookMasks(logits, torch.tensor(queries, dtype=torch.long), torch.tensor(scores))


def part_of(dense: np.ndarray, view: View) -> np.ndarray:
    """What a view shows of a mask of the scene: pixels that are at least half covered."""
    box = view.box
    cut = dense[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    rows = np.minimum(np.arange(cut.shape[0]) * view.size.height // cut.shape[0], SIDE)
    columns = np.minimum(np.arange(cut.shape[1]) * view.size.width // cut.shape[1], SIDE)
    covered, whole = np.zeros((2, view.size.height, view.size.width))
    np.add.at(covered, (rows[:, None], columns[None]), cut)
    np.add.at(whole, (rows[:, None], columns[None]), 1)
    return covered >= whole / 2


def instances(dense: np.ndarray, view: View, query: int = 0) -> LookMasks:
    """What a perfect head draws: every connected part that shows, as an instance."""
    labels, count = ndimage.label(part_of(dense, view), EIGHT)
    masks = [labels == place + 1 for place in range(count)]
    return drawn(masks, [query] * count, [0.9] * count)


def shapes(seed: int, size: Size) -> np.ndarray:
    """Random blobs, some with holes, of all sizes."""
    noise = np.random.default_rng(seed).normal(size=(size.height, size.width))
    return ndimage.gaussian_filter(noise, 1 + seed % 4) > 0.04


def assert_one_mask_a_shape(found: Sequence[SceneMask], dense: np.ndarray) -> None:
    labels, count = ndimage.label(dense, EIGHT)
    expected = {(labels == place + 1).tobytes() for place in range(count)}
    assert {mask.to_dense().tobytes() for mask in found} == expected
    assert len(found) == count


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_shapes_cut_by_view_borders_are_whole_again(seed: int, height: int, width: int) -> None:
    size = Size(height, width)
    dense = shapes(seed, size)
    views = geometry.tiles(size, SIDE, 1)
    masks = [instances(dense, view) for view in views]
    found = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert_one_mask_a_shape(found, dense)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_coarser_looks_change_nothing_where_finer_ones_cover_everything(seed: int) -> None:
    size = Size(70, 50)
    dense = shapes(seed, size)
    views = [geometry.overview(size, SIDE), *geometry.tiles(size, SIDE, 1)]
    masks = [instances(dense, view) for view in views]
    found = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert_one_mask_a_shape(found, dense)


@given(st.integers(0, 10_000), st.randoms())
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_looks_does_not_matter(seed: int, random: np.random.Generator) -> None:
    size = Size(64, 64)
    dense = shapes(seed, size)
    native = geometry.tiles(size, SIDE, 1)
    views = [geometry.overview(size, SIDE), *random.sample(native, 7)]
    pairs = [(look_at(view), instances(dense, view)) for view in views]
    first = assemble(*zip(*pairs, strict=True), None, 0.5)
    random.shuffle(pairs)
    second = assemble(*zip(*pairs, strict=True), None, 0.5)
    assert [mask.to_dense().tobytes() for mask in first] == [
        mask.to_dense().tobytes() for mask in second
    ]


@given(st.integers(0, 10_000), st.data())
@settings(max_examples=40, deadline=None)
def test_instances_together_show_what_the_finest_looks_show(seed: int, data: st.DataObject) -> None:
    size = Size(64, 64)
    dense = shapes(seed, size)
    native = geometry.tiles(size, SIDE, 1)
    near = data.draw(st.lists(st.sampled_from(native), unique=True))
    views = [geometry.overview(size, SIDE), *near]
    looks = [look_at(view) for view in views]
    apart = assemble(looks, [instances(dense, view) for view in views], None, 0.5)
    union = np.zeros((64, 64), bool)
    for mask in apart:
        assert not mask.empty
        union |= mask.to_dense()
    for view in near:
        box = view.box
        rows, columns = slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))
        assert np.array_equal(union[rows, columns], dense[rows, columns])


def two_looks() -> list[View]:
    """An overview of 64 x 64 at a quarter, and its top left quarter of a quarter at full size."""
    size = Size(64, 64)
    return [geometry.overview(size, SIDE), geometry.tiles(size, SIDE, 1)[0]]


def rectangle(left: int, top: int, right: int, bottom: int, side: int = 64) -> np.ndarray:
    dense = np.zeros((side, side), bool)
    dense[top:bottom, left:right] = True
    return dense


def test_an_instance_that_leaves_the_finer_look_goes_on_in_the_coarser() -> None:
    views = two_looks()
    long = rectangle(3, 4, 40, 8)
    masks = [instances(long, view) for view in views]
    (mask,) = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert np.array_equal(mask.to_dense()[:16, :16], long[:16, :16])
    assert mask.to_dense()[:, 20:36].any(0).all()


def test_what_a_finer_look_tells_apart_stays_apart() -> None:
    views = two_looks()
    blob = part_of(rectangle(0, 0, 16, 12), views[0])
    left, right = rectangle(1, 1, 6, 10, 16), rectangle(8, 1, 14, 10, 16)
    masks = [drawn([blob], [0], [0.9]), drawn([left, right], [0, 0], [0.8, 0.7])]
    found = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert [round(mask.score, 3) for mask in found] == [0.8, 0.7]
    assert np.array_equal(found[0].to_dense()[:16, :16], left)
    assert np.array_equal(found[1].to_dense()[:16, :16], right)


def test_an_instance_that_a_finer_look_does_not_see_is_no_answer() -> None:
    views = two_looks()
    blob = part_of(rectangle(4, 4, 12, 12), views[0])
    masks = [drawn([blob], [0], [0.9]), drawn([], [], [])]
    assert assemble([look_at(view) for view in views], masks, None, 0.5) == ()


def test_instances_of_different_queries_are_never_one() -> None:
    size = Size(16, 32)
    views = geometry.tiles(size, SIDE, 1)
    bar = rectangle(0, 4, 16, 8, 16)
    masks = [drawn([bar], [0], [0.9]), drawn([bar, bar], [1, 1], [0.8, 0.7])]
    found = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert [mask.query for mask in found] == [0, 1, 1]


def test_two_parts_of_one_look_are_one_where_its_neighbour_joins_them() -> None:
    size = Size(16, 32)
    views = geometry.tiles(size, SIDE, 1)
    upper, lower = rectangle(4, 2, 16, 5, 16), rectangle(4, 9, 16, 12, 16)
    bend = rectangle(0, 2, 6, 12, 16)
    masks = [drawn([upper, lower], [0, 0], [0.5, 0.6]), drawn([bend], [0], [0.9])]
    (mask,) = assemble([look_at(view) for view in views], masks, None, 0.5)
    assert np.array_equal(mask.to_dense(), np.hstack([upper | lower, bend]))
    assert round(mask.score, 3) == 0.9


def test_semantic_heads_give_one_mask_a_query_even_where_it_is_empty() -> None:
    views = two_looks()
    nothing = np.zeros((16, 16), bool)
    there = part_of(rectangle(30, 30, 50, 50), views[0])
    masks = [
        drawn([there, nothing], [0, 1], [0.7, 0.9]),
        drawn([nothing, nothing], [0, 1], [0.95, 0.9]),
    ]
    found = assemble([look_at(view) for view in views], masks, 2, 0.5)
    assert [mask.query for mask in found] == [0, 1]
    assert [round(mask.score, 3) for mask in found] == [0.7, 0.0]
    assert not found[0].empty
    assert found[1].empty
    assert found[1].to_rle()["size"] == [64, 64]


def test_the_score_comes_from_looks_that_something_is_left_in() -> None:
    views = two_looks()
    blob = part_of(rectangle(4, 4, 12, 12), views[0])
    masks = [drawn([blob], [0], [0.9]), drawn([np.zeros((16, 16), bool)], [0], [0.8])]
    (mask,) = assemble([look_at(view) for view in views], masks, 1, 0.5)
    assert mask.empty
    assert mask.score == 0


def test_no_queries_no_masks() -> None:
    views = two_looks()
    for queries in (0, None):
        assert (
            assemble([look_at(view) for view in views], [drawn([], [], [])] * 2, queries, 0.5) == ()
        )


def test_nothing_is_drawn_on_nodata_or_padding() -> None:
    size = Size(10, 12)
    view = geometry.overview(size, SIDE)
    valid = np.ones((SIDE, SIDE), bool)
    valid[:5] = False
    everywhere = drawn([np.ones((SIDE, SIDE), bool)], [0], [0.9])
    (mask,) = assemble([look_at(view, valid)], [everywhere], 1, 0.5)
    assert mask.box == Box(0, 5, 12, 10)
    assert mask.area == 60


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=20, deadline=None)
def test_coarse_logits_are_spread_over_the_canvas_as_torch_does(seed: int, stride: int) -> None:
    size = Size(13, 15)
    view = geometry.overview(size, SIDE)
    side = SIDE // stride
    logits = torch.randn(1, side, side, generator=torch.Generator().manual_seed(seed)) * 3
    masks = LookMasks(logits, torch.tensor([0]), torch.tensor([1.0]))
    (mask,) = assemble([look_at(view)], [masks], 1, 0.5)
    expected = torch.nn.functional.interpolate(
        logits.sigmoid()[None], size=(SIDE, SIDE), mode="bilinear", align_corners=False
    )[0, 0, :13, :15].numpy()
    # Half of a 255th from rounding, and what is faint everywhere is nowhere.
    faint = expected.max() < 0.1 + 1 / 510
    assert np.abs(mask.probability() - expected).max() <= (0.11 if faint else 0.5 / 255 + 1e-5)
