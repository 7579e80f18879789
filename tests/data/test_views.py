from __future__ import annotations

import math
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from geomag.data.coco import CocoInstances
from geomag.data.drawn import DrawnScenes
from geomag.data.samples import LabelledSample, Polygons
from geomag.data.sampling import draw_views
from geomag.data.views import ViewSampled, collate
from geomag.data.words import noun
from geomag.errors import DataError
from geomag.geometry import overview, rungs, tiles, to_scene
from geomag.values import Box, Exchange, Level, Reply, Size, TrainingSample, Turn

SIDE = 64
DRAWN = DrawnScenes(12, size=(180, 300), seed=2)
DATASET = ViewSampled(DRAWN, side=SIDE, closer_views=3, exchanges=5, seed=7)
SAMPLES = [DATASET[number] for number in range(36)]


def equal(one: TrainingSample, other: TrainingSample) -> bool:
    return (
        one.views == other.views
        and one.exchanges == other.exchanges
        and torch.equal(one.pixels, other.pixels)
        and torch.equal(one.masks, other.masks)
        and one.labels == other.labels
    )


def test_every_sample_has_the_same_shape_of_work() -> None:
    for sample in SAMPLES:
        assert len(sample.views) == 4
        assert sample.pixels.shape == (4, 3, SIDE, SIDE)
        assert sample.valid.shape == (4, SIDE, SIDE)
        assert sample.masks.shape[0] == 4
        assert sample.masks.shape[2:] == (SIDE // 2, SIDE // 2)
        assert (sample.pixels.dtype, sample.masks.dtype) == (torch.uint8, torch.uint8)
        assert sample.valid.dtype == torch.bool
        assert len(sample.exchanges) == 5
        assert not sample.pixels.mul(~sample.valid[:, None]).any()


def test_views_are_those_that_prediction_would_offer() -> None:
    for sample in SAMPLES:
        size = sample.info.size
        offered = {view for scale in rungs(size, SIDE) for view in tiles(size, SIDE, scale)}
        assert sample.views[0] == overview(size, SIDE)
        assert set(sample.views[1:]) <= offered
        assert len(set(sample.views)) == 4
        order = [(-view.scale, view.box.top, view.box.left) for view in sample.views]
        assert order == sorted(order)


def test_exchanges_name_the_rows_of_masks_and_nothing_else_is_kept() -> None:
    for sample in SAMPLES:
        named = set()
        for one in sample.exchanges:
            assert one.reply.text.count("[SEG]") == len(one.instances)
            assert one.reply.text.count("[BOX]") == len(one.reply.boxes) == len(one.boxed)
            named |= {row for group in (*one.instances, one.boxed, one.relevant) for row in group}
        assert named == set(range(sample.masks.shape[1]))
        # The overview shows all of them.
        assert all(bool(mask.any()) for mask in sample.masks[0])


def test_labels_name_the_classes_of_the_rows() -> None:
    """As the prompts do, which say the class of what they mean."""
    checked: Counter[str] = Counter()
    dataset = ViewSampled(DRAWN, side=SIDE, exchanges=5, tasks={"class": 1.0})
    for number in range(24):
        sample = dataset[number]
        assert len(sample.labels) == sample.masks.shape[1]
        for one in sample.exchanges:
            for row in one.instances[0]:
                assert noun(sample.labels[row]).one in one.conversation[-1].text.lower(), row
                checked[sample.labels[row]] += 1
        checked["several classes"] += len(set(sample.labels)) > 1
    assert len(checked) > 3
    assert checked["several classes"] > 3


def test_rows_that_are_left_out_take_their_labels_along() -> None:
    """Of a scene with several classes, an exchange about the last one alone."""
    whole = DRAWN[0]
    assert len(set(whole.labels)) > 1
    for kind in set(whole.labels):
        places = tuple(place for place, label in enumerate(whole.labels) if label == kind)
        one = Exchange((Turn("user", "a"),), Reply("b"), Level.PIXEL, (places,))
        asked_of = Given(replace(whole, kinds=(), expressions=(), exchanges=(one,)))
        sample = ViewSampled(asked_of, side=SIDE, exchanges=1, augment=False)[0]
        assert sample.labels == (kind,) * len(places)


def test_masks_lie_on_their_objects() -> None:
    """Augmentation and all: what a red expression means is red in every view."""
    checked = 0
    only = {"referring": 1.0}
    dataset = ViewSampled(DRAWN, side=SIDE, closer_views=3, exchanges=5, tasks=only)
    for number in range(60):
        sample = dataset[number]
        for one in sample.exchanges:
            if not one.instances or " red " not in one.conversation[-1].text:
                continue
            for row in one.instances[0]:
                for place in range(4):
                    mask = sample.masks[place, row].repeat_interleave(2, 0).repeat_interleave(2, 1)
                    inside = sample.pixels[place][:, mask > 250].float()
                    if inside.shape[1] >= 8:
                        red, green, blue = inside.median(1).values.tolist()
                        assert red > 1.3 * max(green, blue)
                        checked += 1
    assert checked > 12


def test_boxes_are_written_in_the_finest_look_that_holds_them() -> None:
    looks = Counter()
    dataset = ViewSampled(DRAWN, side=SIDE, closer_views=3, tasks={"grounding": 1.0})
    for number in range(60):
        sample = dataset[number]
        for one in sample.exchanges:
            for row, written in zip(one.boxed, one.reply.boxes, strict=True):
                view = sample.views[written.look]
                mask = sample.masks[written.look, row]
                rows, columns = torch.nonzero(mask, as_tuple=True)
                assert abs(int(rows.min()) * 2 - written.box.top) <= 2
                assert abs(int(columns.max()) * 2 + 2 - written.box.right) <= 2
                found = to_scene(written.box, view)
                for place, other in enumerate(sample.views):
                    box = other.box
                    holds = box.left < found.left and box.right > found.right
                    holds = holds and box.top < found.top and box.bottom > found.bottom
                    assert not holds or other.scale >= view.scale, place
                looks[written.look > 0] += 1
    assert looks[True] > 10
    assert looks[False] > 5


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    again = ViewSampled(DRAWN, side=SIDE, closer_views=3, exchanges=5, seed=7)
    assert equal(again[20], SAMPLES[20])
    assert not equal(again[8], SAMPLES[20])
    other = ViewSampled(DRAWN, side=SIDE, closer_views=3, exchanges=5, seed=8)
    assert not equal(other[20], SAMPLES[20])


def test_workers_draw_the_same_samples() -> None:
    loader = DataLoader(
        DATASET, batch_size=2, sampler=[20, 3, 12, 35], num_workers=2, collate_fn=collate
    )
    batches = list(loader)
    assert [set(batch) for batch in batches] == [{"samples"}] * 2
    drawn = [sample for batch in batches for sample in batch["samples"]]
    assert all(equal(one, SAMPLES[n]) for one, n in zip(drawn, [20, 3, 12, 35], strict=True))


def test_without_augmentation_the_scene_is_seen_as_it_is() -> None:
    plain = ViewSampled(DRAWN, side=SIDE, closer_views=1, augment=False)
    for number in (0, 12):
        sample, scene = plain[number], DRAWN[0].scene
        assert sample.info == scene.info
        seen = scene.read(sample.views[1], SIDE)
        assert torch.equal(sample.pixels[1], (seen.pixels * 255).round().byte())
    assert plain[0].exchanges != plain[12].exchanges


class Given(Dataset[LabelledSample]):
    """One sample that is at hand."""

    def __init__(self, sample: LabelledSample) -> None:
        self._sample = sample

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> LabelledSample:
        return self._sample


def written(*texts: str) -> Given:
    """Somebody else's data: exchanges, but no kinds to compose others from."""
    exchanges = tuple(
        Exchange((Turn("user", text),), Reply("Yes."), Level.REGION) for text in texts
    )
    return Given(replace(DRAWN[0], kinds=(), expressions=(), exchanges=exchanges))


def test_exchanges_of_others_are_kept_turned_and_repeated_to_the_number() -> None:
    dataset = ViewSampled(written("Is it at the top left?", "a"), side=SIDE, exchanges=3)
    texts = Counter(
        one.conversation[0].text for number in range(40) for one in dataset[number].exchanges
    )
    assert set(texts) == {"a"} | {
        f"Is it at the {place}?"
        for place in ("top left", "top right", "bottom left", "bottom right")
    }
    assert sum(texts.values()) == 120
    with pytest.raises(DataError, match="nothing to ask"):
        ViewSampled(written(), side=SIDE)[0]


def square(left: float, top: float, side: float, scene: Size) -> Polygons:
    corners = [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    return Polygons([np.array(corners)], scene)


def asked(*places: int) -> Exchange:
    return Exchange((Turn("user", "a"),), Reply("b"), Level.PIXEL, (places,), relevant=places)


def test_views_show_targets_near_misses_and_other_places() -> None:
    scene = Size(500, 500)
    shapes = [square(300, 300, 20, scene), square(100, 100, 20, scene)]
    shown: Counter[str] = Counter()
    for seed in range(200):
        views = draw_views(scene, 64, 2, shapes, [asked(0)], Random(seed))[1:]
        native = [view.box for view in views if view.scale == 1]
        targets = [box for box in native if meets(box, shapes[0].box)]
        beside = [box for box in native if meets(grown(box, 1), shapes[0].box)]
        shown["target"] += bool(targets) or any(view.scale > 1 for view in views)
        shown["beside"] += len(beside) > len(targets)
        shown["other object"] += any(meets(box, shapes[1].box) for box in native)
    assert shown["target"] == 200
    assert shown["beside"] > 10
    assert shown["other object"] > 10


def meets(one: Box, other: Box) -> bool:
    return max(one.left, other.left) < min(one.right, other.right) and max(
        one.top, other.top
    ) < min(one.bottom, other.bottom)


def grown(box: Box, by: float) -> Box:
    return Box(box.left - by, box.top - by, box.right + by, box.bottom + by)


def test_small_targets_are_looked_at_oftener() -> None:
    scene = Size(300, 600)
    shapes = [square(40, 40, 8, scene), square(400, 100, 120, scene)]
    small = 0
    for seed in range(300):
        views = draw_views(scene, 128, 1, shapes, [asked(0, 1)], Random(seed))
        small += meets(views[1].box, shapes[0].box)
    # Side 8 against 120: as often as the root of their ratio says, nearly four to one.
    assert 0.7 < small / 300 < 0.88


@pytest.mark.parametrize("size", [Size(1, 1), Size(64, 20), Size(65, 3), Size(70, 130)])
def test_small_scenes_have_as_many_views_as_any(size: Size) -> None:
    for seed in range(20):
        views = draw_views(size, 64, 3, [], [], Random(seed))
        assert len(views) == 4
        offered = {view for scale in rungs(size, 64) for view in tiles(size, 64, scale)}
        assert set(views) <= offered | {overview(size, 64)}
        assert len(set(views)) == min(4, 1 + len(offered))


def test_a_scene_with_many_rungs_is_looked_at_on_all_of_them() -> None:
    size = Size(5000, 4000)
    scales = Counter(
        view.scale
        for seed in range(60)
        for view in draw_views(size, 64, 2, [square(9, 9, 9, size)], [asked(0)], Random(seed))[1:]
    )
    assert set(scales) == set(rungs(size, 64)) == {16, 4, 1}
    assert min(scales.values()) > 10


def test_samples_are_few_tensors_and_cheap_to_send() -> None:
    for sample in SAMPLES[:5]:
        tensors = [sample.pixels, sample.valid, sample.masks]
        size = sum(tensor.numel() for tensor in tensors)
        assert len(pickle.dumps(sample)) < size + 20_000


def test_nwpu_samples_are_sound(nwpu: Path) -> None:
    dataset = CocoInstances(
        nwpu, "annotations/instances_val.json", referring="annotations/referring_val.json"
    )
    sampled = ViewSampled(dataset, side=128)
    tasks: Counter[str] = Counter()
    for number in range(0, 200, 8):
        sample = sampled[number]
        tasks.update(one.task for one in sample.exchanges)
        assert sample.valid.any(dim=(1, 2)).all()
        for mask in sample.masks[0]:
            assert int(mask.sum()) > 0
    assert {"class", "referring", "absent"} <= set(tasks)
    assert not math.isnan(float(sample.pixels.float().mean()))
