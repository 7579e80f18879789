"""The four operators that mmcv compiles and this plugin uses, and what stands in for each of them.

mmcv's own is taken where it was compiled for the tensor's device, and works on the numbers' type;
else, as on the meta device, in double precision and where mmcv has no ops, plain torch computes the
same. Sixteen bits are widened first: not every kernel knows them.

Letters: N images, C channels, h w cells, Q queries, R regions, P points.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_IMAGES = 64
"""Images that the kernel of deformable attention takes at once."""
_HOSTS = ("point_sample", "roi_align", "nms")
"""What mmcv has for the CPU too; deformable attention it has for accelerators alone."""


def deformable_attention(
    values: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor
) -> Tensor:
    """Multi-scale deformable attention (Zhu et al. 2021, equation 3): `[N, Q, heads x width]`.

    `values [N, cells, heads, width]` are all cells of levels of `shapes`, one level after the
    other; `places [N, Q, heads, levels, points, 2]` (x, y) are shares of a level's width and
    height, `weights [N, Q, heads, levels, points]`. Beyond the border is zero.
    """
    dtype = values.dtype
    values = _widened(values)
    places, weights = places.to(values.dtype), weights.to(values.dtype)
    ops = _compiled("deformable_attention", values)
    if ops is None:
        return _deformable_attention(values, shapes, places, weights).to(dtype)
    sizes = torch.tensor(list(shapes), device=values.device)
    starts = torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]])
    images = len(values)
    # The kernel wants a step that divides the images.
    step = max(n for n in range(1, min(images, _MOST_IMAGES) + 1) if images % n == 0)
    attend = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply
    attended: Tensor = attend(
        values.contiguous(), sizes, starts, places.contiguous(), weights.contiguous(), step
    )
    return attended.to(dtype)


def point_sample(maps: Tensor, points: Tensor) -> Tensor:
    """`maps [N, C, h, w]` at `points [N, P, 2]` (x, y) in [0, 1], bilinear: `[N, C, P]`.

    mmcv has no kernel of its own for it: its `point_sample` is a grid sample too.
    """
    dtype = maps.dtype
    maps = _widened(maps)
    points = points.to(maps.dtype)
    ops = _compiled("point_sample", maps)
    sample = _point_sample if ops is None else ops.point_sample
    sampled: Tensor = sample(maps, points)
    return sampled.to(dtype)


def roi_align(
    maps: Tensor, regions: Tensor, size: int, scale: float = 1.0, samples: int = 2
) -> Tensor:
    """RoIAlign (He et al. 2017), aligned to the centres of cells: `[R, C, size, size]`.

    `regions [R, 5]` are the image, and left, top, right, bottom in units of which a cell of `maps
    [N, C, h, w]` has `1 / scale`. Each bin is the mean of `samples` x `samples` points. Regions get
    no gradient.
    """
    dtype = maps.dtype
    maps = _widened(maps)
    regions = regions.detach().to(maps.dtype)
    ops = _compiled("roi_align", maps)
    if ops is None:
        return _roi_align(maps, regions, size, scale, samples).to(dtype)
    sides = (size, size)
    aligned: Tensor = ops.roi_align(
        maps.contiguous(), regions.contiguous(), sides, scale, samples, "avg", True
    )
    return aligned.to(dtype)


def nms(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """The rows of `boxes [R, 4]` that are left, best first, when of two whose intersection over
    union is above `overlap` the one of the lower score goes.

    On the meta device, where no box is known, all of them.
    """
    boxes, scores = _widened(boxes.detach()), _widened(scores.detach())
    if boxes.is_meta:
        return torch.arange(len(boxes), device=boxes.device)
    ops = _compiled("nms", boxes)
    if ops is None:
        return _nms(boxes, scores, overlap)
    # By rank, not by score: of equals the first stays, as without the compiled op.
    order = scores.argsort(descending=True, stable=True)
    ranks = torch.arange(len(order), 0, -1, device=boxes.device, dtype=boxes.dtype)
    left: Tensor = ops.nms(boxes[order], ranks, overlap)[1]
    return order[left]


@cache
def _mmcv() -> ModuleType | None:
    try:
        return importlib.import_module("mmcv.ops")
    except ImportError:
        return None


def _compiled(name: str, like: Tensor) -> ModuleType | None:
    """mmcv's ops, where they have `name` for tensors such as `like`."""
    ops = _mmcv()
    if ops is None or like.dtype != torch.float32:
        return None
    if like.is_cuda:
        return ops if ops.get_compiling_cuda_version() != "not available" else None
    return ops if like.device.type == "cpu" and name in _HOSTS else None


def _widened(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _deformable_attention(
    values: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor
) -> Tensor:
    images, queries, heads, levels, points, _ = places.shape
    grids = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # levels, N x heads, Q, P, 2
    parts = values.split([height * width for height, width in shapes], dim=1)
    sampled = [
        F.grid_sample(
            part.permute(0, 2, 3, 1).reshape(images * heads, -1, height, width),
            grid,
            align_corners=False,
        )
        for part, (height, width), grid in zip(parts, shapes, grids, strict=True)
    ]
    shares = weights.permute(0, 2, 1, 3, 4).reshape(images * heads, 1, queries, levels, points)
    attended = (torch.stack(sampled, 3) * shares).sum((3, 4))  # N x heads, width, Q
    return attended.view(images, -1, queries).transpose(1, 2)


def _point_sample(maps: Tensor, points: Tensor) -> Tensor:
    grid = (2 * points - 1)[:, :, None]
    return F.grid_sample(maps, grid, align_corners=False)[..., 0]


def _roi_align(maps: Tensor, regions: Tensor, size: int, scale: float, samples: int) -> Tensor:
    channels, height, width = maps.shape[1:]
    image = regions[:, 0].long()
    left, top, right, bottom = (regions[:, 1:] * scale - 0.5).unbind(1)
    steps = (torch.arange(size * samples, device=maps.device) + 0.5) / samples
    rows = top[:, None] + (bottom - top)[:, None] / size * steps  # [R, size x samples]
    columns = left[:, None] + (right - left)[:, None] / size * steps
    cells = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    total = cells.new_zeros(len(regions), rows.shape[1], columns.shape[1], channels)
    for row, down in _neighbours(rows, height):
        for column, across in _neighbours(columns, width):
            place = (image[:, None] * height + row)[:, :, None] * width + column[:, None]
            share = down[:, :, None] * across[:, None]
            total = total + cells[place] * share[..., None]
    return F.avg_pool2d(total.permute(0, 3, 1, 2), samples)


def _neighbours(places: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """The two cells beside each place along an axis, and how much each of them counts.

    Up to one cell beyond the border, a place has the border's value; beyond that it has none.
    """
    inside = ((places >= -1) & (places <= length)).to(places.dtype)
    places = places.clamp(0, length - 1)
    before = places.floor().clamp(max=max(length - 2, 0))
    after = (before + 1).clamp(max=length - 1)
    share = places - before
    return [(before.long(), (1 - share) * inside), (after.long(), share * inside)]


def _nms(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order]
    corners = torch.maximum(ranked[:, None, :2], ranked[None, :, :2])
    ends = torch.minimum(ranked[:, None, 2:], ranked[None, :, 2:])
    shared = (ends - corners).clamp(min=0).prod(2)
    area = (ranked[:, 2:] - ranked[:, :2]).prod(1)
    rivals = (shared / (area[:, None] + area[None] - shared) > overlap).cpu()
    left = torch.ones(len(ranked), dtype=torch.bool)
    for place in range(len(ranked)):
        if left[place]:
            left[place + 1 :] &= ~rivals[place, place + 1 :]
    return order[left.to(order.device)]
