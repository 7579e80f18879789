"""Drawn scenes: land cover with ships, airplanes, storage tanks and vehicles, and the exact truth.

For tests, and for a demonstration on a machine without imagery. A scene depends on the seed and its
index alone. Objects are outlines, drawn with the coverage that their masks have.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..scenes.array import ArrayScene
from ..values import Box, Size
from .coverage import covered
from .directions import POSITIONS, cell_of, may_be_at
from .instructions import TEST_TASKS, examine
from .samples import Expression, Kind, LabelledSample, Polygons
from .words import noun

Picture = NDArray[np.float32]
_COLOURS = {
    "white": (238, 238, 234), "gray": (140, 142, 146), "black": (38, 38, 42), "red": (190, 52, 44),
    "blue": (52, 84, 168), "yellow": (222, 190, 62),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Model:
    """One kind of object: its typical side and its lengths in pixels, its colours, its place."""

    side: float
    lengths: tuple[float, float]
    colours: tuple[str, ...]
    place: str
    most: int


_MODELS = {
    "ship": _Model(20, (26, 80), ("white", "gray", "red", "black"), "water", 8),
    "airplane": _Model(19, (26, 64), ("white", "gray", "blue"), "field", 7),
    "storage tank": _Model(20, (16, 44), ("white", "gray", "yellow"), "field", 9),
    "vehicle": _Model(10, (11, 20), ("red", "white", "black", "blue", "yellow"), "road", 12),
}


@DATASETS.register_module()
class DrawnScenes(Dataset[LabelledSample]):
    """`length` scenes with sides in `size` pixels, either one number or (least, most)."""

    def __init__(
        self,
        length: int = 1000,
        size: int | tuple[int, int] = (512, 768),
        seed: int = 0,
        tasks: Sequence[str] = TEST_TASKS,
    ) -> None:
        self._length = length
        self._least, self._most = (size, size) if isinstance(size, int) else size
        self._seed = seed
        self._tasks = tuple(tasks)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> LabelledSample:
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        random = np.random.default_rng((self._seed, index))
        size = Size(*random.integers(self._least, self._most + 1, 2).tolist())
        picture, land = _landscape(size, random)
        objects = _objects(land, random)
        for item in objects:
            _paint(picture, item, random)
        scene = ArrayScene(cv2.convertScaleAbs(picture), name=f"drawn-{self._seed}-{index}")
        facts = LabelledSample(
            scene=scene,
            shapes=tuple(Polygons([item.ring], size) for item in objects),
            labels=tuple(item.kind for item in objects),
            exchanges=(),
            name=scene.info.name,
            kinds=tuple(Kind(name, model.side) for name, model in _MODELS.items()),
            expressions=_expressions(objects, size),
        )
        return replace(facts, exchanges=examine(facts, self._tasks))


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    kind: str
    colour: str
    ring: NDArray[np.float64]
    length: float
    angle: float

    @property
    def box(self) -> Box:
        return Box(*self.ring.min(0).tolist(), *self.ring.max(0).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class _Land:
    """Where objects may stand: masks `[H, W]`, and the roads as start, end and width."""

    size: Size
    water: NDArray[np.bool_]
    field: NDArray[np.bool_]
    roads: list[tuple[NDArray[np.float64], NDArray[np.float64], float]]


def _landscape(size: Size, random: np.random.Generator) -> tuple[Picture, _Land]:
    picture = _fields(size, random)
    noise = np.frombuffer(random.bytes(size.area), np.uint8).astype(np.float32) - 127.5
    noise = cv2.cvtColor(noise.reshape(size.height, size.width) / 74, cv2.COLOR_GRAY2RGB)
    coarse = cv2.GaussianBlur(noise, (0, 0), 1.6)

    forest = _smooth(size, random, 90) > random.uniform(0.3, 1.2)
    cv2.copyTo(cv2.add(coarse * 46, (46, 74, 42, 0)), forest.astype(np.uint8), picture)
    roads, paved = [], np.zeros((size.height, size.width), np.uint8)
    gray = (float(random.uniform(98, 132)),) * 3
    for _ in range(int(random.integers(1, 4))):
        middle = random.uniform(0.2, 0.8, 2) * (size.width, size.height)
        angle, width = random.uniform(0, math.pi), float(random.uniform(16, 24))
        reach = np.array((math.cos(angle), math.sin(angle))) * (size.width + size.height)
        start, end = ((middle + way).astype(int).tolist() for way in (-reach, reach))
        for canvas, colour in ((picture, gray), (paved, (1.0,))):
            cv2.line(canvas, start, end, colour, round(width))
        cv2.line(picture, start, end, (190.0,) * 3, 1)
        roads.append((middle - reach, middle + reach, width))
    water = np.zeros((size.height, size.width), np.bool_)
    if random.random() < 0.7:
        # A slope under the noise makes one large body of water, not puddles.
        down, across = random.uniform(-1.6, 1.6, 2).astype(np.float32)
        y = np.linspace(-1, 1, size.height, dtype=np.float32)[:, None] * down
        x = np.linspace(-1, 1, size.width, dtype=np.float32)[None] * across
        water = _smooth(size, random, 150) * np.float32(0.7) + y + x > random.uniform(-0.2, 0.8)
        deep = (_tone(44, 78, 96) + random.uniform(-14, 14, 3)).tolist()
        cv2.copyTo(cv2.add(coarse * 8, (*deep, 0)), water.astype(np.uint8), picture)
    cv2.scaleAdd(noise, 8, picture, picture)
    return picture, _Land(size, water, ~(water | forest | (paved > 0)), roads)


def _fields(size: Size, random: np.random.Generator) -> Picture:
    """Rectangular fields at a common angle, some with furrows; drawn at half size for speed."""
    angle = random.uniform(0, math.pi)
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    y = np.arange(0, size.height, 2, dtype=np.float32)[:, None]
    x = np.arange(0, size.width, 2, dtype=np.float32)[None]
    along, beside = x * cosine + y * sine, y * cosine - x * sine
    row = np.floor(along / np.float32(random.uniform(110, 220))).astype(np.int32)
    column = np.floor(beside / np.float32(random.uniform(70, 160))).astype(np.int32)
    number = (row * 31 + column * 17) % 23
    colours = np.array([_tone(126, 138, 84), _tone(158, 146, 98), _tone(108, 124, 70),
                        _tone(176, 164, 124), _tone(142, 118, 88)])  # fmt: skip
    furrows = np.where(random.random(23) < 0.4, 7, 0).astype(np.float32)
    shade = np.sin(beside * np.float32(random.uniform(0.6, 1.0))) * furrows[number]
    picture = colours[random.integers(0, 5, 23)][number] + shade[..., None]
    return np.asarray(cv2.resize(picture, (size.width, size.height)), np.float32)


def _tone(*colour: float) -> NDArray[np.float32]:
    return np.array(colour, np.float32)


def _smooth(size: Size, random: np.random.Generator, cell: int) -> NDArray[np.float32]:
    """Noise of about unit variance that changes over `cell` pixels."""
    grid = random.standard_normal((size.height // cell + 4, size.width // cell + 4), np.float32)
    smooth = cv2.resize(grid, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32)


def _objects(land: _Land, random: np.random.Generator) -> list[_Object]:
    placed: list[_Object] = []
    for kind, model in _MODELS.items():
        # An empty scene is rare: there is always a road for a vehicle.
        if random.random() > (0.55 if placed or kind != "vehicle" else 0.9):
            continue
        common = random.uniform(0, 2 * math.pi) if random.random() < 0.5 else None
        for _ in range(int(random.integers(1, model.most + 1))):
            for _ in range(12):
                item = _placed(kind, model, land, common, random)
                if _stands(item, model.place, land) and _apart(item, placed):
                    placed.append(item)
                    break
    return placed


def _placed(
    kind: str, model: _Model, land: _Land, angle: float | None, random: np.random.Generator
) -> _Object:
    length = float(np.exp(random.uniform(*np.log(model.lengths))))
    colour = model.colours[random.integers(len(model.colours))]
    center = random.uniform(0, 1, 2) * (land.size.width, land.size.height)
    turn = random.uniform(0, 2 * math.pi) if angle is None else angle
    if model.place == "road":
        start, end, width = land.roads[random.integers(len(land.roads))]
        ahead = (end - start) / np.linalg.norm(end - start)
        lane = np.array((-ahead[1], ahead[0])) * width / 4 * random.choice((-1, 1))
        center = start + (end - start) * random.uniform() + lane
        turn = math.atan2(ahead[1], ahead[0])
    cosine, sine = math.cos(turn), math.sin(turn)
    rotation = np.array(((cosine, sine), (-sine, cosine)))  # for rows (x, y) on its left
    ring = _outline(kind, random) * length @ rotation + center
    return _Object(kind, colour, ring, length, turn)


def _outline(kind: str, random: np.random.Generator) -> NDArray[np.float64]:
    """The outline of an object of length 1 that points along x."""
    if kind == "storage tank":
        angles = np.linspace(0, 2 * math.pi, 32, endpoint=False)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1) / 2
    if kind == "vehicle":
        upper = [(-0.5, 0.2), (-0.46, 0.24), (0.42, 0.24), (0.5, 0.17)]
    elif kind == "ship":
        beam = random.uniform(0.11, 0.17)
        upper = [(-0.5, beam * 0.8), (-0.42, beam), (0.18, beam), (0.36, beam * 0.62), (0.5, 0)]
    else:
        sweep, span = random.uniform(0.1, 0.24), random.uniform(0.42, 0.5)
        upper = [
            (-0.5, 0.025), (-0.5, 0.17), (-0.43, 0.17), (-0.36, 0.05), (-0.1, 0.055),
            (-0.02 - sweep, span), (0.05 - sweep, span), (0.16, 0.055), (0.42, 0.045), (0.5, 0),
        ]  # fmt: skip
    lower = [(x, -y) for x, y in reversed(upper) if y]
    return np.array(upper + lower)


def _stands(item: _Object, place: str, land: _Land) -> bool:
    limit = (land.size.width - 1, land.size.height - 1)
    if (item.ring < 1).any() or (item.ring > limit).any():
        return False
    x, y = item.ring.astype(np.int64).T
    if place == "road":
        return not bool(land.water[y, x].any())
    return bool((land.water if place == "water" else land.field)[y, x].all())


def _apart(item: _Object, others: Sequence[_Object]) -> bool:
    center = item.ring.mean(0)
    return all(
        np.linalg.norm(center - other.ring.mean(0)) > (item.length + other.length) / 2 + 3
        for other in others
    )


def _paint(picture: Picture, item: _Object, random: np.random.Generator) -> None:
    colour = _tone(*_COLOURS[item.colour]) + random.uniform(-10, 10, 3).astype(np.float32)
    shadow = item.ring + item.length * 0.05 + 1
    _fill(picture, shadow, _tone(20, 22, 26), 0.45)
    _fill(picture, item.ring, colour, 1.0)
    # Details lie inside the outline, so that the mask stays exact.
    for share, offset, tone in _DETAILS[item.kind]:
        middle = item.ring.mean(0)
        ahead = np.array((math.cos(item.angle), math.sin(item.angle))) * item.length * offset
        _fill(picture, (item.ring - middle) * share + middle + ahead, colour * tone, 0.8)


# For each kind: smaller copies of the outline, their offset along it and their brightness.
_DETAILS = {
    "ship": ((0.34, -0.2, 0.6), (0.16, 0.12, 0.75)),
    "airplane": ((0.3, 0.02, 0.8),),
    "storage tank": ((0.8, 0.0, 0.9), (0.2, 0.0, 0.7)),
    "vehicle": ((0.55, -0.05, 0.7),),
}


def _fill(picture: Picture, ring: NDArray[Any], colour: Picture, opacity: float) -> None:
    low = np.floor(ring.min(0)).astype(np.int64).clip(0)
    high = np.minimum(np.ceil(ring.max(0)).astype(np.int64), picture.shape[1::-1])
    share = covered(ring - low, *(high - low).tolist())[..., None].astype(np.float32) * opacity
    part = picture[low[1] : high[1], low[0] : high[0]]
    part += share * (colour - part)


def _expressions(objects: Sequence[_Object], size: Size) -> tuple[Expression, ...]:
    """Phrases by colour, kind and place that mean these objects and no others."""
    alike: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(objects):
        alike[item.kind, item.colour].append(index)
    found = []
    for (kind, colour), members in alike.items():
        places = defaultdict(list)
        for index in members:
            places[cell_of(objects[index].box, size)].append(index)
        for cell, group in places.items():
            others = [index for index in members if index not in group]
            if not any(may_be_at(objects[index].box, size, cell) for index in others):
                form = noun(kind).form(len(group))
                text = f"{len(group)} {colour} {form} at the {POSITIONS[cell]}"
                found.append(Expression(text, tuple(group)))
        if len(members) == 1:
            found.append(Expression(f"the {colour} {kind}", tuple(members)))
    return tuple(found)
