"""Scene pixels: the pyramid of views, what may be looked at next, and the way between frames.

The pyramid depends on the scene alone, so that looks can be shared between prompts. Above native
resolution there is a rung every `ZOOM` times, up to half of the overview's; on each rung a
grid of cells starts at the top left corner, so that the cells of one rung tile those of the rung
above. A view shows its cell and, on all sides, half of the `overlap` more.

"Scene" frames count scene pixels, "canvas" frames count pixels of the square a view is read onto.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import ConfigError
from .values import Box, Look, Plan, SceneInfo, Size, View

ZOOM = 4


def overview(scene: Size, side: int) -> View:
    """The whole scene, its longer side seen at `side` pixels and never enlarged."""
    shrink = min(1.0, side / max(scene.height, scene.width))
    size = Size(max(1, round(scene.height * shrink)), max(1, round(scene.width * shrink)))
    return View(Box(0, 0, scene.width, scene.height), size, scene)


def check_overlap(overlap: int, side: int) -> None:
    """Lets pass what neighbouring views of `side` pixels can share.

    Raises:
        ConfigError: it is odd, negative, or half of the side.
    """
    if overlap % 2 or not 0 <= overlap < side / 2:
        raise ConfigError(
            f"overlap={overlap}: expected an even number from 0 to below half of a view's side "
            f"({side})"
        )


def rungs(scene: Size, side: int) -> tuple[int, ...]:
    """Scene pixels per view pixel below the overview, coarse to fine: (..., 16, 4, 1).

    Empty where the overview is native already. The first rung is at least twice as close as the
    overview. For a longer side of at least four overview sides, all views above native together
    show at most 8 % as many pixels as the native tiles (up to 13 % with the padding of odd shapes).
    """
    ratio = max(scene.height, scene.width) / side
    if ratio <= 1:
        return ()
    scales = [1]
    while scales[-1] * ZOOM <= ratio / 2:
        scales.append(scales[-1] * ZOOM)
    return tuple(reversed(scales))


def planned_rungs(plan: Plan, info: SceneInfo) -> tuple[int, ...]:
    """The rungs a plan descends: down to the coarsest that is fine enough for `stop_below`."""
    side, unit = plan.overview_side, info.resolution or 1.0
    scales = rungs(info.size, side)
    if plan.stop_below is None:
        return scales
    if overview(info.size, side).scale * unit <= plan.stop_below:
        return ()
    coarser = [scale for scale in scales if scale * unit > plan.stop_below]
    return scales[: len(coarser) + 1]


def rung(view: View) -> int:
    """How many steps of zoom a view lies above native; the overview lies above all others."""
    # Edge views are rounded up to whole pixels, which makes their scale a little finer.
    return math.ceil(math.log(view.scale, ZOOM) - 1e-9)


def tiles(
    scene: Size, side: int, scale: int, within: Box | None = None, overlap: int = 0
) -> list[View]:
    """The views of one rung in raster order, those whose cells lie inside `within` (scene pixels)
    where given.

    Neighbours share `overlap` view pixels, an even number below half of `side`. At the edges of the
    scene views are narrower than `side`; their scale is kept, not their shape.
    """
    step = (side - overlap) * scale
    area = within or Box(0, 0, scene.width, scene.height)
    rows = range(int(area.top // step), math.ceil(area.bottom / step))
    columns = range(int(area.left // step), math.ceil(area.right / step))
    return [_tile(scene, side, scale, overlap, row, column) for row in rows for column in columns]


def _tile(scene: Size, side: int, scale: int, overlap: int, row: int, column: int) -> View:
    top, bottom = _stretch(row, side, scale, overlap, scene.height)
    left, right = _stretch(column, side, scale, overlap, scene.width)
    size = Size(math.ceil((bottom - top) / scale), math.ceil((right - left) / scale))
    return View(Box(left, top, right, bottom), size, scene)


def _stretch(place: int, side: int, scale: int, overlap: int, length: int) -> tuple[int, int]:
    """Where a view begins and ends along an axis of the scene."""
    step, margin = (side - overlap) * scale, overlap // 2 * scale
    return max(place * step - margin, 0), min((place + 1) * step + margin, length)


def candidates(looks: Sequence[Look], plan: Plan, info: SceneInfo) -> list[View]:
    """The views one zoom step closer than some look, inside it and not yet seen.

    Unique, in raster order, coarse before fine. Where a look saw nodata only, nothing is offered.
    """
    scales = planned_rungs(plan, info)
    side, overlap = plan.overview_side, plan.overlap
    seen = {look.view for look in looks}
    found: list[View] = []
    for look in looks:
        scale, cell = _below(look.view, scales, side, overlap)
        if scale is None:
            continue
        children = tiles(info.size, side, scale, cell, overlap)
        height, width = look.view.size.height, look.view.size.width
        if not bool(look.valid[:height, :width].all()):
            margin = overlap // 2 * scale
            children = [
                view
                for view in children
                if bool(_part(look.valid, look, _inner(view, margin)).any())
            ]
        found.extend(view for view in children if view not in seen)
    # An edge view can be the same on two rungs, and then has the same children from both.
    return sorted(dict.fromkeys(found), key=_raster)


def relevance_of(
    views: Sequence[View],
    looks: Sequence[Look],
    relevance: Sequence[Tensor | None],
    measure: Callable[[Tensor], Tensor] = torch.max,
) -> list[float | None]:
    """The highest relevance found under each view, in the finest look that holds the whole view.

    None where that look has no opinion or no look holds it. `relevance[i]` is `[h', w']` over the
    canvas of `looks[i]`. `measure` sums up the part under a view: `torch.mean` tells how much there
    is, not how likely there is any.
    """
    order = sorted(range(len(looks)), key=lambda index: looks[index].view.scale)
    boxes = np.array([_corners(looks[index].view.box) for index in order])
    result: list[float | None] = []
    for view in views:
        left, top, right, bottom = _corners(view.box)
        holds = (boxes[:, :2] <= (left, top)).all(1) & (boxes[:, 2:] >= (right, bottom)).all(1)
        if not holds.any():
            result.append(None)
            continue
        index = order[int(holds.argmax())]
        opinion = relevance[index]
        result.append(
            None if opinion is None else float(measure(_part(opinion, looks[index], view.box)))
        )
    return result


def raster_order(looks: Sequence[Look]) -> list[int]:
    """The places of the looks from coarse to fine, then top to bottom, then left to right.

    What is made of the looks then depends on which there are, not on the order they were found in.
    """
    return sorted(range(len(looks)), key=lambda index: _raster(looks[index].view))


def to_scene(box: Box, view: View) -> Box:
    """A box in canvas pixels of a view to scene pixels, clipped to the view."""
    across = view.box.width / view.size.width
    down = view.box.height / view.size.height
    return Box(
        left=view.box.left + min(max(box.left, 0), view.size.width) * across,
        top=view.box.top + min(max(box.top, 0), view.size.height) * down,
        right=view.box.left + min(max(box.right, 0), view.size.width) * across,
        bottom=view.box.top + min(max(box.bottom, 0), view.size.height) * down,
    )


def to_canvas(box: Box, view: View) -> Box:
    """A box in scene pixels to canvas pixels of a view, clipped to the view."""
    across = view.size.width / view.box.width
    down = view.size.height / view.box.height
    return Box(
        left=min(max((box.left - view.box.left) * across, 0), view.size.width),
        top=min(max((box.top - view.box.top) * down, 0), view.size.height),
        right=min(max((box.right - view.box.left) * across, 0), view.size.width),
        bottom=min(max((box.bottom - view.box.top) * down, 0), view.size.height),
    )


def positions(
    cells: Tensor,
    owner: Tensor,
    views: Sequence[View],
    grid: tuple[int, int],
    canvas: tuple[int, int],
) -> Tensor:
    """Where cells lie in the scene.

    `cells [T, 4]` (top, left, bottom, right) on a feature grid over a canvas, both (height, width);
    `owner [T]` says which of the views each belongs to. Returns `[T, 4]`: centre y, centre x,
    height and width as fractions of the scene's sides.
    """
    rows, columns = canvas[0] / grid[0], canvas[1] / grid[1]
    frames = cells.new_tensor([_frame(view) for view in views], dtype=torch.float32)[owner]
    limit, zoom, origin = frames.split(2, dim=1)
    step = cells.new_tensor([rows, columns, rows, columns], dtype=torch.float32)
    corners = torch.minimum(cells * step, limit.repeat(1, 2))
    top_left, bottom_right = (corners * zoom.repeat(1, 2) + origin.repeat(1, 2)).split(2, dim=1)
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=1)


def _frame(view: View) -> tuple[float, ...]:
    """A view's size, and from its canvas to fractions of the scene: zoom and origin; y before x."""
    size, scene, box = view.size, view.scene, view.box
    zoom = box.height / size.height / scene.height, box.width / size.width / scene.width
    return size.height, size.width, *zoom, box.top / scene.height, box.left / scene.width


def _below(view: View, scales: Sequence[int], side: int, overlap: int) -> tuple[int | None, Box]:
    """The rung below a view's own, and the cell to look at there; for an edge view that is the same
    on several rungs, the one below them all."""
    own, cell = -1, view.box
    for place, scale in enumerate(scales):
        step, margin = (side - overlap) * scale, overlap // 2 * scale
        row, column = (
            round((start + margin) / step) if start else 0
            for start in (view.box.top, view.box.left)
        )
        if _tile(view.scene, side, scale, overlap, row, column) == view:
            own = place
            cell = Box(
                left=column * step,
                top=row * step,
                right=min((column + 1) * step, view.scene.width),
                bottom=min((row + 1) * step, view.scene.height),
            )
    return (scales[own + 1] if own + 1 < len(scales) else None), cell


def _inner(view: View, margin: int) -> Box:
    """A view without what it shows beyond its cell, but for the edges of the scene."""
    box, scene = view.box, view.scene
    return Box(
        left=box.left + margin if box.left else 0,
        top=box.top + margin if box.top else 0,
        right=box.right - margin if box.right < scene.width else scene.width,
        bottom=box.bottom - margin if box.bottom < scene.height else scene.height,
    )


def _part(values: Tensor, look: Look, inside: Box) -> Tensor:
    """The cells of a map `[h', w']` over a look's canvas that a box inside it touches."""
    box = to_canvas(inside, look.view)
    rows = values.shape[0] / look.pixels.shape[-2]
    columns = values.shape[1] / look.pixels.shape[-1]
    top = min(int(box.top * rows), values.shape[0] - 1)
    left = min(int(box.left * columns), values.shape[1] - 1)
    # Rounding guards against a border that lies on a cell's edge but for the last bit.
    bottom = max(top + 1, math.ceil(round(box.bottom * rows, 6)))
    right = max(left + 1, math.ceil(round(box.right * columns, 6)))
    return values[top:bottom, left:right]


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _raster(view: View) -> tuple[float, float, float, float, float]:
    return -view.scale, view.box.top, view.box.left, view.box.bottom, view.box.right
