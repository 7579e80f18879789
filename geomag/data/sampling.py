"""Which views training looks at: drawn from the pyramid that prediction descends."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ..contracts import Shape
from ..geometry import overview, rungs, tiles
from ..values import Box, Exchange, Size, View
from .samples import meet

WEIGHTS = {"target": 0.5, "near miss": 0.25, "random": 0.25}
"""What the views after the first closer one show; that one shows a target where there is any."""
SMALL = 0.5
"""A target is drawn with weight side ** -SMALL: small ones oftener than large ones."""
_TRIES = 8
_LISTED = 64


def draw_views(
    scene: Size,
    side: int,
    closer: int,
    shapes: Sequence[Shape],
    exchanges: Sequence[Exchange],
    random: Random,
) -> tuple[View, ...]:
    """The overview and `closer` more views, in raster order from coarse to fine.

    Where the pyramid has fewer views, some are there twice, so that every sample is the same work.
    """
    whole = overview(scene, side)
    drawing = _Drawing(scene, side, shapes, exchanges, random)
    found: list[View] = []
    for place in range(closer if drawing.scales else 0):
        for _ in range(_TRIES):
            view = drawing.view("target" if place == 0 else drawing.purpose())
            if view is not None and view not in found:
                found.append(view)
                break
        else:
            found.extend(drawing.unseen(found))
    found += [random.choice([whole, *found]) for _ in range(closer - len(found))]
    return (whole, *sorted(found, key=lambda view: (-view.scale, view.box.top, view.box.left)))


class _Drawing:
    def __init__(
        self,
        scene: Size,
        side: int,
        shapes: Sequence[Shape],
        exchanges: Sequence[Exchange],
        random: Random,
    ) -> None:
        self.scales = rungs(scene, side)
        self._scene, self._side, self._shapes, self._random = scene, side, shapes, random
        self._asked = [exchange.relevant for exchange in exchanges if exchange.relevant]
        self._wanted = {index for asked in self._asked for index in asked}

    def purpose(self) -> str:
        return self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]

    def view(self, purpose: str) -> View | None:
        """A view for a purpose; None where there happens to be none."""
        scale = self._random.choice(self.scales)
        if purpose == "random" or not self._shapes:
            return self._at(self._point(Box(0, 0, self._scene.width, self._scene.height)), scale)
        if purpose == "target" and self._asked:
            return self._at(self._point(self._target()), scale)
        return self._near_miss(scale)

    def unseen(self, seen: Sequence[View]) -> list[View]:
        """One more view, where few are left to choose from."""
        scale = self._random.choice(self.scales)
        step = self._side * scale
        if self._scene.area > _LISTED * step * step:
            return []
        left = [view for view in tiles(self._scene, self._side, scale) if view not in seen]
        return [self._random.choice(left)] if left else []

    def _near_miss(self, scale: int) -> View | None:
        """Beside a target but without one, or an object that nobody asked for."""
        others = [i for i in range(len(self._shapes)) if i not in self._wanted]
        if others and (not self._asked or self._random.random() < 0.5):
            view = self._at(self._point(self._shapes[self._random.choice(others)].box), scale)
            return view if not self._shows_target(view) else None
        if not self._asked:
            return None
        box = self._at(self._point(self._target()), scale).box
        around = Box(
            max(box.left - 1, 0),
            max(box.top - 1, 0),
            min(box.right + 1, self._scene.width),
            min(box.bottom + 1, self._scene.height),
        )
        views = tiles(self._scene, self._side, scale, around)
        empty = [view for view in views if not self._shows_target(view)]
        return self._random.choice(empty) if empty else None

    def _target(self) -> Box:
        asked = self._random.choice(self._asked)
        weights = [max(self._shapes[index].area, 1.0) ** (-SMALL / 2) for index in asked]
        return self._shapes[self._random.choices(asked, weights)[0]].box

    def _shows_target(self, view: View) -> bool:
        return any(meet(self._shapes[index].box, view.box) for index in self._wanted)

    def _point(self, box: Box) -> tuple[float, float]:
        # Of a middle part: at the border of its box an object is hardly there.
        x = box.left + box.width * self._random.uniform(0.2, 0.8)
        y = box.top + box.height * self._random.uniform(0.2, 0.8)
        return min(x, self._scene.width - 0.5), min(y, self._scene.height - 0.5)

    def _at(self, point: tuple[float, float], scale: int) -> View:
        x, y = point
        within = Box(x, y, x + 1e-6, y + 1e-6)
        return tiles(self._scene, self._side, scale, within)[0]
