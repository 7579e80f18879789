"""Budgets in native tiles: how many views they take, and how much of a target they can show."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import geometry
from ..contracts import Shape
from ..data.facts import Facts
from ..data.samples import Kind, LabelledSample, meet
from ..values import Size, View


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A class in a scene: its shapes, and how many of their pixels each finest tile holds."""

    kind: Kind
    shapes: Sequence[Shape]
    held: Mapping[View, int]


def targets(sample: LabelledSample, side: int) -> list[Target]:
    """The classes of which at least a pixel is in a scene, tiled `side` scene pixels a side."""
    facts = Facts(sample)
    tiles = geometry.tiles(facts.size, side, 1)
    found = []
    for kind in facts.in_order(present=True):
        shapes = [sample.shapes[place] for place in facts.members[kind.name]]
        held = pixels_in(tiles, shapes)
        if any(held.values()):
            found.append(Target(kind, shapes, held))
    return found


def pixels_in(tiles: Sequence[View], shapes: Sequence[Shape]) -> dict[View, int]:
    """How many pixels of the union of some shapes each native view holds.

    A pixel belongs to a shape that covers at least half of it.
    """
    held = {}
    for tile in tiles:
        height, width = tile.size.height, tile.size.width
        wanted = np.zeros((height, width), dtype=bool)
        for shape in shapes:
            if meet(shape.box, tile.box):
                wanted |= shape.draw(tile, max(height, width))[:height, :width].numpy() >= 0.5
        held[tile] = int(wanted.sum())
    return held


def tiles_for(share: float, tiles: int) -> int:
    """A share of so many tiles, rounded: none for a share of 0, and else at least one."""
    return max(1, round(share * tiles)) if share else 0


def views_for(order: Sequence[View], finest: Collection[View], wanted: int) -> int:
    """How many views beyond the overview it takes until `wanted` of the `finest` were looked at.

    `order` is all that was looked at, the overview first; where it holds fewer, it takes them all.
    """
    if not wanted:
        return 0
    counted = itertools.accumulate(view in finest for view in order)
    return next((beyond for beyond, held in enumerate(counted) if held == wanted), len(order) - 1)


def enough(size: Size, side: int, wanted: int) -> int:
    """So many views beyond the overview hold `wanted` finest tiles, in whatever order they come."""
    if not wanted:
        return 0
    coarser = [len(geometry.tiles(size, side, scale)) for scale in geometry.rungs(size, side)[:-1]]
    return sum(coarser) + wanted
