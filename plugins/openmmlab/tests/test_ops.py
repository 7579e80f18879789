"""The operators against their definitions, spelled out one number at a time, and against mmcv's
where those are compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from geomag_openmmlab import ops

SHAPES = [(3, 4), (2, 2)]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def without_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_mmcv", lambda: None)


@pytest.fixture
def compiled() -> None:
    if ops._mmcv() is None:
        pytest.skip("mmcv has no compiled ops here")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def attention(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    cells = sum(height * width for height, width in SHAPES)
    values = torch.randn(2, cells, 2, 3, dtype=dtype)
    places = torch.rand(2, 5, 2, len(SHAPES), 4, 2, dtype=dtype) * 1.4 - 0.2
    return values, places, torch.rand(2, 5, 2, len(SHAPES), 4, dtype=dtype)


def regions(scale: float = 1.0) -> Tensor:
    """Inside, across each border, far outside, without width, and of a single cell."""
    found = torch.tensor(
        [
            [0, 1.3, 0.7, 6.1, 5.9],
            [1, -3.0, -2.0, 2.5, 3.0],
            [1, 5.0, 4.0, 14.3, 12.1],
            [0, 40.0, 40.0, 50.0, 50.0],
            [1, 2.0, 2.0, 2.0, 7.0],
            [0, 6.0, 6.0, 7.0, 7.0],
        ]
    )
    found[:, 1:] /= scale
    return found


def boxes(count: int = 60) -> tuple[Tensor, Tensor]:
    corners = torch.rand(count, 2) * 20
    return torch.cat([corners, corners + torch.rand(count, 2) * 15], dim=1), torch.rand(count)


# -- by their definitions --------------------------------------------------------------------------


def bilinear(grid: Tensor, y: float, x: float) -> Tensor:
    """`grid [C, h, w]` at a place counted in cells from the first one's centre; zero outside."""
    total = torch.zeros(len(grid), dtype=grid.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < grid.shape[1] and 0 <= column < grid.shape[2]:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                total += grid[:, row, column] * share
    return total


@pytest.mark.usefixtures("without_ops")
def test_deformable_attention_is_a_weighted_sum_of_bilinear_samples() -> None:
    values, places, weights = attention(torch.float64)
    attended = ops.deformable_attention(values, SHAPES, places, weights)
    assert attended.shape == (2, 5, 6)
    for image, query, head in torch.cartesian_prod(*map(torch.arange, (2, 5, 2))).tolist():
        wanted, start = torch.zeros(3, dtype=torch.float64), 0
        for level, (height, width) in enumerate(SHAPES):
            part = values[image, start : start + height * width, head].T.view(3, height, width)
            start += height * width
            for point in range(4):
                x, y = places[image, query, head, level, point].tolist()
                sample = bilinear(part, y * height - 0.5, x * width - 0.5)
                wanted += weights[image, query, head, level, point] * sample
        torch.testing.assert_close(attended[image, query, 3 * head : 3 * head + 3], wanted)


@pytest.mark.usefixtures("without_ops")
def test_points_are_sampled_between_centres_of_cells() -> None:
    maps, points = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 7, 2).double()
    sampled = ops.point_sample(maps, points)
    assert sampled.shape == (2, 3, 7)
    for image in range(2):
        for place, (x, y) in enumerate(points[image].tolist()):
            wanted = bilinear(maps[image], y * 4 - 0.5, x * 5 - 0.5)
            torch.testing.assert_close(sampled[image, :, place], wanted)


@pytest.mark.usefixtures("without_ops")
@pytest.mark.parametrize(("scale", "samples"), [(1.0, 2), (0.5, 1), (0.25, 3)])
def test_roi_align_averages_samples_of_each_bin(scale: float, samples: int) -> None:
    maps, size = torch.randn(2, 3, 8, 9, dtype=torch.float64), 2
    aligned = ops.roi_align(maps, regions(scale), size, scale, samples)
    assert aligned.shape == (6, 3, size, size)
    for place, (image, left, top, right, bottom) in enumerate(regions().tolist()):
        for row, column in torch.cartesian_prod(torch.arange(size), torch.arange(size)).tolist():
            wanted = torch.zeros(3, dtype=torch.float64)
            for down in range(samples):
                for across in range(samples):
                    y = top - 0.5 + (row + (down + 0.5) / samples) * (bottom - top) / size
                    x = left - 0.5 + (column + (across + 0.5) / samples) * (right - left) / size
                    if -1 <= y <= 8 and -1 <= x <= 9:
                        inside = min(max(y, 0), 7), min(max(x, 0), 8)
                        wanted += bilinear(maps[int(image)], *inside) / samples**2
            torch.testing.assert_close(aligned[place, :, row, column], wanted)


def overlap(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / (areas - width * height)


@pytest.mark.usefixtures("without_ops")
def test_nms_keeps_what_no_better_box_covers() -> None:
    given, scores = boxes()
    left = ops.nms(given, scores, 0.3).tolist()
    kept: list[int] = []
    for place in sorted(range(len(given)), key=lambda row: -float(scores[row])):
        better = [given[row].tolist() for row in kept]
        if all(overlap(given[place].tolist(), box) <= 0.3 for box in better):
            kept.append(place)
    assert left == kept
    assert 0 < len(left) < len(given)


@pytest.mark.usefixtures("without_ops")
def test_nms_of_nothing_and_of_equals() -> None:
    assert ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    same = torch.tensor([[0.0, 0, 4, 4]]).expand(3, 4)
    assert ops.nms(same, torch.ones(3), 0.5).tolist() == [0]
    assert ops.nms(torch.zeros(2, 4), torch.ones(2), 0.5).tolist() == [0, 1]


@pytest.mark.usefixtures("without_ops")
def test_gradients_are_those_of_the_definitions() -> None:
    values, places, weights = (item.requires_grad_() for item in attention(torch.float64))
    with torch.no_grad():  # at the centre of a cell the slope changes
        places += 1e-3
    torch.autograd.gradcheck(
        lambda *given: ops.deformable_attention(given[0], SHAPES, *given[1:]),
        (values, places, weights),
    )
    maps = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda given: ops.roi_align(given, regions(), 2), (maps,))
    points = torch.rand(2, 3, 2)
    torch.autograd.gradcheck(lambda given: ops.point_sample(given, points), (maps,))


# -- beside mmcv's ---------------------------------------------------------------------------------


def both(
    monkeypatch: pytest.MonkeyPatch, call: Callable[..., Tensor], *given: Tensor
) -> list[list[Tensor]]:
    """Values, and gradients of what is given, with mmcv's ops and without."""
    found = []
    for hidden in (False, True):
        with monkeypatch.context() as patch:
            if hidden:
                patch.setattr(ops, "_mmcv", lambda: None)
            leaves = [item.clone().requires_grad_() for item in given]
            value = call(*leaves)
            weights = torch.linspace(-1, 1, value.numel()).view(value.shape)
            gradients = torch.autograd.grad((value * weights).sum(), leaves)
            found.append([value, *gradients])
    return found


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_roi_align_is_mmcvs(monkeypatch: pytest.MonkeyPatch, scale: float, samples: int) -> None:
    def call(maps: Tensor) -> Tensor:
        return ops.roi_align(maps, regions(scale), 7, scale, samples)

    compiled, plain = both(monkeypatch, call, torch.randn(2, 3, 8, 9))
    torch.testing.assert_close(plain, compiled, **CLOSE)


@pytest.mark.usefixtures("compiled")
def test_point_sample_is_mmcvs(monkeypatch: pytest.MonkeyPatch) -> None:
    given = torch.randn(2, 3, 8, 9), torch.rand(2, 20, 2) * 1.2 - 0.1
    compiled, plain = both(monkeypatch, ops.point_sample, *given)
    torch.testing.assert_close(plain, compiled, **CLOSE)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("count", [0, 1, 60, 300])
def test_nms_is_mmcvs(monkeypatch: pytest.MonkeyPatch, count: int, threshold: float) -> None:
    given, scores = boxes(count)
    scores = (scores * 8).round() / 8  # many equals
    compiled = ops.nms(given, scores, threshold)
    monkeypatch.setattr(ops, "_mmcv", lambda: None)
    assert ops.nms(given, scores, threshold).tolist() == compiled.tolist()


@pytest.mark.usefixtures("compiled")
def test_deformable_attention_is_mmcvs(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmcv's kernel where there is an accelerator, and what it computes elsewhere."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    def theirs(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        sizes = torch.tensor(SHAPES)
        found: Tensor = multi_scale_deformable_attn_pytorch(values, sizes, places, weights)
        return found

    def ours(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        return ops.deformable_attention(values, SHAPES, places, weights)

    given = attention()
    plain = both(monkeypatch, ours, *given)[1]
    torch.testing.assert_close(both(monkeypatch, theirs, *given)[1], plain, **CLOSE)
    if torch.cuda.is_available() and ops._compiled("deformable_attention", given[0].cuda()):
        moved = both(monkeypatch, lambda *some: ours(*map(Tensor.cuda, some)).cpu(), *given)[0]
        torch.testing.assert_close(moved, plain, **CLOSE)


# -- wherever the tensors are ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_type_of_numbers_stays(dtype: torch.dtype) -> None:
    exact = ops.deformable_attention(*(attention()[:1]), SHAPES, *attention()[1:])
    assert exact.dtype == torch.float32
    values, places, weights = attention()
    found = ops.deformable_attention(values.to(dtype), SHAPES, places, weights)
    assert found.dtype == dtype
    maps = torch.randn(2, 3, 8, 9)
    for call in (
        lambda given: ops.roi_align(given, regions(), 2),
        lambda given: ops.point_sample(given, torch.full((2, 3, 2), 0.4)),
    ):
        assert call(maps.to(dtype)).dtype == dtype
        torch.testing.assert_close(call(maps.to(dtype)).float(), call(maps), atol=2e-2, rtol=2e-2)
    given, scores = boxes()
    order = ops.nms(given, scores, 0.5)
    assert ops.nms(given.to(dtype), scores.to(dtype), 0.5).dtype == order.dtype


def test_shapes_are_known_on_the_meta_device() -> None:
    values, places, weights = (item.to("meta") for item in attention())
    assert ops.deformable_attention(values, SHAPES, places, weights).shape == (2, 5, 6)
    maps = torch.empty(2, 3, 8, 9, device="meta")
    assert ops.point_sample(maps, torch.empty(2, 7, 2, device="meta")).shape == (2, 3, 7)
    assert ops.roi_align(maps, regions().to("meta"), 4).shape == (6, 3, 4, 4)
    given, scores = (item.to("meta") for item in boxes())
    assert len(ops.nms(given, scores, 0.5)) == 60
