from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from geomag.data.coco import CocoInstances
from geomag.data.drawn import DrawnScenes
from geomag.data.frames import Frame, FramedShape
from geomag.data.mosaics import Joined, Mosaics
from geomag.data.samples import Bitmap, Kind, LabelledSample, Polygons, native
from geomag.errors import DataError
from geomag.geometry import overview
from geomag.scenes.array import ArrayScene
from geomag.values import Box, Size

KINDS = tuple(Kind(name, 9.0) for name in ("car", "pond", "quay"))


class Listed(Dataset[LabelledSample]):
    """The samples it is given."""

    def __init__(self, samples: list[LabelledSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> LabelledSample:
        return self.samples[index]


def painted(count: int = 12, seed: int = 0, whole: bool = False) -> Listed:
    """Scenes of odd sizes; every shape is a rectangle in the one colour that tells its class,
    scene and number. With `whole`, the one shape of a scene is all of it."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        height, width = (int(side) for side in random.integers(30, 90, 2))
        picture = np.full((height, width, 3), 255, np.uint8)
        shapes: list[Any] = []
        for place in range(1 if whole else 4):
            # In columns of their own, so that none lies on another.
            strip = width // 4
            top, left = int(random.integers(0, height - 5)), place * strip
            bottom, right = int(random.integers(top + 3, height + 1)), left + strip - 1
            if whole:
                top, left, bottom, right = 0, 0, height, width
            picture[top:bottom, left:right] = (place % 3, number, place)
            ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            mask = np.zeros((height, width), bool)
            mask[top:bottom, left:right] = True
            shapes.append(Bitmap(mask) if place % 2 else Polygons([ring], Size(height, width)))
        samples.append(
            LabelledSample(
                scene=ArrayScene(picture, 0.5),
                shapes=tuple(shapes),
                labels=tuple(KINDS[place % 3].name for place in range(len(shapes))),
                exchanges=(),
                name=f"painted {number}",
                kinds=KINDS,
            )
        )
    return Listed(samples)


def drawn(sample: LabelledSample) -> np.ndarray:
    """Coverage of each shape, `[I, side, side]`."""
    size = sample.scene.info.size
    side = max(size.height, size.width)
    return np.stack([shape.draw(overview(size, side), side).numpy() for shape in sample.shapes])


def said(sample: LabelledSample) -> Any:
    return sample.labels, sample.exchanges, [shape.box for shape in sample.shapes]


@pytest.mark.parametrize("seed", range(4))
def test_the_square_is_filled_without_gap_or_overlap(seed: int) -> None:
    """Every part is labelled whole: together the labels have to cover each pixel once."""
    sample = Mosaics(painted(whole=True), 1, (256,), seed)[0]
    assert sample.scene.info.size == Size(256, 256)
    assert (drawn(sample).sum(0) == 1).all()
    # Nothing is white: that is, nothing was left unpainted.
    assert (native(sample.scene)[0] != 255).any(2).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_row_is_as_high_as_its_lowest_part_and_widths_are_kept(seed: int) -> None:
    dataset = painted(whole=True)
    colours = native(Mosaics(dataset, 1, (256,), seed)[0].scene)[0]
    sizes = [one.scene.info.size for one in dataset.samples]
    top = 0
    while top < 256:
        row, left = colours[top, :, 1], 0
        heights = []
        while left < 256:
            size = sizes[row[left]]
            assert (row[left : left + size.width] == row[left]).all()
            heights.append(size.height)
            left += size.width
        bottom = min(top + min(heights), 256)
        assert (colours[top:bottom] == colours[top]).all()
        top = bottom


@pytest.mark.parametrize("seed", range(6))
def test_pixels_and_labels_agree(seed: int) -> None:
    # More scenes than fit, so that each colour is there once.
    sample = Mosaics(painted(60, seed), 1, (300,), seed)[0]
    colours, valid = native(sample.scene)
    assert valid.all()
    assert len(sample.shapes) > 40
    left_over = (colours != 255).any(2)
    for mask, label in zip(drawn(sample), sample.labels, strict=True):
        assert ((mask == 0) | (mask == 1)).all()
        (colour,) = np.unique(colours[mask == 1], axis=0)
        assert KINDS[colour[0]].name == label
        assert ((colours == colour).all(2) == (mask == 1)).all()
        left_over &= mask == 0
    assert not left_over.any()


def test_it_follows_from_seed_and_index() -> None:
    one, again = (Mosaics(painted(), 4, (128, 200, 256), seed=3) for _ in range(2))
    for index in (2, 0, 3, 1):
        assert said(one[index]) == said(again[index])
        assert (native(one[index].scene)[0] == native(again[index].scene)[0]).all()
    assert one[0].name == "mosaic-3-0"
    assert len({one[index].scene.info.size for index in range(4)}) > 1
    first, other = (Mosaics(painted(), 2, (128,), seed) for seed in (3, 4))
    assert said(first[0]) != said(first[1])
    assert said(first[0]) != said(other[0])


def test_what_is_asked_is_true_of_the_mosaic() -> None:
    dataset = painted()
    sample = Mosaics(dataset, 1, (100,))[0]
    assert sample.kinds == KINDS
    assert sample.scene.info.resolution == 0.5
    assert {one.task for one in sample.exchanges} <= {"class", "absent"}
    assert len(sample.exchanges) == len(KINDS)
    for exchange in sample.exchanges:
        for place in exchange.relevant:
            assert sample.labels[place] in exchange.conversation[0].text
    asked = Mosaics(dataset, 1, (100,), tasks=("count",))[0].exchanges
    assert {one.task for one in asked} == {"count"}


def test_what_is_not_counted_in_a_part_is_not_counted_in_the_mosaic() -> None:
    (sample,) = painted(1).samples
    crowded = LabelledSample(
        sample.scene, sample.shapes, sample.labels, (), "crowd", KINDS, uncounted=frozenset({"car"})
    )
    made = Mosaics(Listed([crowded]), 1, (100,), tasks=("count",))[0]
    assert made.uncounted == {"car"}
    assert not any("car" in one.conversation[0].text for one in made.exchanges)


def test_what_is_not_valid_in_a_part_is_not_valid_in_the_mosaic() -> None:
    picture = np.full((20, 30, 4), 200, np.uint8)
    picture[5:10, 7:, 3] = 0
    sample = LabelledSample(ArrayScene(picture), (), (), (), "hole", KINDS)
    made = Mosaics(Listed([sample]), 1, (60,))[0]
    valid = native(made.scene)[1]
    assert (valid == np.tile(picture[..., 3] > 0, (3, 2))).all()


def test_parts_may_be_larger_than_the_mosaic() -> None:
    sample = Mosaics(painted(), 1, (7,))[0]
    assert sample.scene.info.size == Size(7, 7)
    assert all(shape.box.right <= 7 and shape.box.bottom <= 7 for shape in sample.shapes)


def test_it_is_built_from_a_config_and_survives_the_way_to_a_worker() -> None:
    scenes = {"type": "DrawnScenes", "length": 3, "size": 96}
    made = DATASETS.build({"type": "Mosaics", "dataset": scenes, "length": 2, "sides": [150]})
    again = pickle.loads(pickle.dumps(made))
    assert len(made) == len(again) == 2
    assert said(made[1]) == said(again[1])
    joined = DATASETS.build({"type": "Joined", "datasets": [scenes, made]})
    assert len(joined) == 5


@pytest.mark.parametrize("index", [-1, 2, 100])
def test_there_are_no_others(index: int) -> None:
    with pytest.raises(IndexError, match=f"mosaic {index} of 2"):
        Mosaics(painted(), 2, (64,))[index]
    assert len(list(Mosaics(painted(), 2, (64,)))) == 2


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Mosaics(Listed([]), 1), "at least one sample"),
        (lambda: Mosaics(painted(), 0), "0 mosaics with sides of 2048 pixels"),
        (lambda: Mosaics(painted(), 3, (64, 0)), "3 mosaics with sides of 64, 0 pixels"),
        (lambda: Mosaics(painted(), 3, ()), "expected positive numbers"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(made: Callable[[], Mosaics], words: str) -> None:
    with pytest.raises(DataError) as caught:
        made()
    assert words in str(caught.value)


def test_a_shape_that_cannot_be_placed_is_named() -> None:
    (sample,) = painted(1).samples
    size = sample.scene.info.size
    frame = Frame(size, Box(0, 0, size.width, size.height), size)
    framed = FramedShape(sample.shapes[0], frame)
    odd = LabelledSample(sample.scene, (framed,), ("car",), (), "odd one", KINDS)
    with pytest.raises(DataError) as caught:
        Mosaics(Listed([odd]), 1, (64,))[0]
    assert "odd one: a FramedShape" in str(caught.value)
    assert "Polygons, Bitmap" in str(caught.value)


def test_joined_sets_follow_one_another() -> None:
    parts = [painted(2), Listed([]), painted(3, seed=1)]
    joined = Joined(parts)
    assert len(joined) == 5
    expected = [*parts[0].samples, *parts[2].samples]
    assert [joined[place] for place in range(5)] == expected
    assert list(joined) == expected
    for place in (5, 17, -1):
        with pytest.raises(IndexError, match=f"sample {place} of 5"):
            joined[place]
    assert len(Joined([DrawnScenes(2), {"type": "DrawnScenes", "length": 4}])) == 6


def test_nwpu_mosaics_show_the_objects_of_their_parts(nwpu: Path) -> None:
    parts = CocoInstances(nwpu, "annotations/instances_val.json", tasks=())
    sample = Mosaics(parts, 1, (1024,))[0]
    assert sample.shapes
    assert len(sample.exchanges) == 10
    assert all(shape.area > 0 for shape in sample.shapes)
