from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image
from pycocotools import mask

from geomag.data.coco import HELD_EVERY, CocoInstances
from geomag.data.samples import Bitmap, Polygons
from geomag.errors import DataError, SceneError
from geomag.geometry import overview
from geomag.values import Box

HEIGHT, WIDTH = 40, 60


def written(folder: Path, **changes: Any) -> Path:
    """A data set of two images: two cars, of which one in two parts, and a pond; and nothing."""
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / name)
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[20:30, 5:25] = 1
    packed = mask.encode(np.asfortranarray(bitmap))
    loose = {"size": [HEIGHT, WIDTH], "counts": [0, 80, HEIGHT * WIDTH - 80]}
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 3, "name": "pond"}, {"id": 1, "name": "car"}],
        "annotations": [
            annotation(1, 1, [[0, 0, 10, 0, 10, 4, 0, 4]]),
            annotation(2, 3, packed | {"counts": packed["counts"].decode()}),
            annotation(3, 1, [[50, 30, 54, 30, 54, 40, 50, 40], [56, 30, 60, 30, 60, 40, 56, 40]]),
            annotation(4, 1, loose, iscrowd=1),
            annotation(5, 1, [[5, 5, 6, 6]]),
        ],
    }
    (folder / "labels.json").write_text(json.dumps(content | changes))
    return folder


def annotation(number: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": 7, "category_id": category, "segmentation": segmentation,
        "iscrowd": 0, **more,
    }  # fmt: skip


def test_polygons_parts_and_both_kinds_of_run_lengths_are_read(tmp_path: Path) -> None:
    sample = CocoInstances(written(tmp_path), "labels.json")[0]
    assert sample.labels == ("car", "pond", "car", "car")
    assert [type(shape) for shape in sample.shapes] == [Polygons, Bitmap, Polygons, Bitmap]
    assert [shape.area for shape in sample.shapes] == [40, 200, 80, 80]
    drawn = [shape.draw(overview(sample.scene.info.size, 64), 64) for shape in sample.shapes]
    assert [round(float(one.sum()), 3) for one in drawn] == [40, 200, 80, 80]
    assert drawn[2][35, 52] == drawn[2][35, 58] == 1
    assert drawn[2][35, 55] == 0
    # Run lengths count down the columns.
    assert drawn[3][39, 1] == 1
    assert sample.uncounted == {"car"}


def test_outlines_through_pixel_centres_include_their_pixels(tmp_path: Path) -> None:
    """Traced masks name the pixels on the border: 3 to 7 is five of them, not four."""
    traced = annotation(1, 1, [[3, 2, 7, 2, 7, 9, 3, 9]], bbox=[3, 2, 5, 8])
    plane = annotation(2, 1, [[3, 2, 7, 2, 7, 9, 3, 9]], bbox=[3, 2, 4, 7])
    folder = written(tmp_path, annotations=[traced, plane])
    one, other = CocoInstances(folder, "labels.json")[0].shapes
    assert (one.area, other.area) == (40, 28)
    assert one.box == Box(3, 2, 8, 10)


def test_kinds_tell_what_the_data_set_holds(tmp_path: Path) -> None:
    kinds = CocoInstances(written(tmp_path), "labels.json")[1].kinds
    assert [(kind.name, kind.scenes) for kind in kinds] == [("pond", 1), ("car", 1)]
    assert kinds[0].side == pytest.approx(200**0.5)


def test_test_prompts_cover_every_class_of_every_image(tmp_path: Path) -> None:
    dataset = CocoInstances(written(tmp_path), "labels.json")
    assert [[one.task for one in sample.exchanges] for sample in (dataset[0], dataset[1])] == [
        ["class", "class"], ["absent", "absent"],
    ]  # fmt: skip
    assert dataset[0].exchanges[1].instances == ((0, 2, 3),)


def test_classes_are_the_users_own_and_in_their_order(tmp_path: Path) -> None:
    dataset = CocoInstances(written(tmp_path), "labels.json", classes=["car"])
    assert [kind.name for kind in dataset[0].kinds] == ["car"]
    assert dataset[0].labels == ("car", "car", "car")
    reordered = CocoInstances(tmp_path, "labels.json", classes=["car", "pond"])
    assert [kind.name for kind in reordered[0].kinds] == ["car", "pond"]


def test_expressions_follow_their_annotations(tmp_path: Path) -> None:
    entries = [
        {"image_id": 7, "expression": "2 cars", "ann_ids": [3, 1]},
        {"image_id": 7, "expression": "1 pond", "ann_ids": [2]},
    ]
    (written(tmp_path) / "said.json").write_text(json.dumps(entries))
    dataset = CocoInstances(tmp_path, "labels.json", classes=["car"], referring="said.json")
    assert [(one.text, one.members) for one in dataset[0].expressions] == [("2 cars", (1, 0))]
    assert dataset[1].expressions == ()


def test_it_is_found_by_name_and_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    dataset = DATASETS.build(
        {"type": "CocoInstances", "root": str(written(tmp_path)), "annotations": "labels.json"}
    )
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == len(dataset) == 2
    assert again[0].exchanges == dataset[0].exchanges


def many(folder: Path, count: int) -> Path:
    """So many images, a pond of its own size in each; the last one has a car."""
    (folder / "images").mkdir()
    names = [f"{number:02}.png" for number in range(count)]
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / name)
    content = {
        "images": [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "pond"}, {"id": 1, "name": "car"}],
        "annotations": [
            annotation(number, 3, [[0, 0, number + 1, 0, number + 1, 9, 0, 9]], image_id=number)
            for number in range(count)
        ] + [annotation(count, 1, [[0, 0, 4, 0, 4, 4, 0, 4]], image_id=count - 1)],
    }  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(content))
    (folder / "said.json").write_text(
        json.dumps([{"image_id": 10, "expression": "1 pond", "ann_ids": [10]}])
    )
    return folder


def test_fit_and_held_are_all_and_share_nothing(tmp_path: Path) -> None:
    many(tmp_path, 23)
    parts = {
        part: CocoInstances(tmp_path, "labels.json", referring="said.json", part=part)
        for part in ("all", "fit", "held")
    }
    names = {part: [sample.name for sample in dataset] for part, dataset in parts.items()}
    assert {part: len(dataset) for part, dataset in parts.items()} == {
        "all": 23, "fit": 20, "held": 3,
    }  # fmt: skip
    assert sorted(names["fit"] + names["held"]) == names["all"]
    assert names["held"] == names["all"][::HELD_EVERY] == ["00.png", "10.png", "20.png"]
    whole = {sample.name: sample for sample in parts["all"]}
    for part in ("fit", "held"):
        for sample in parts[part]:
            assert [shape.area for shape in sample.shapes] == [
                shape.area for shape in whole[sample.name].shapes
            ]
            assert sample.expressions == whole[sample.name].expressions
    assert [one.text for one in parts["held"][1].expressions] == ["1 pond"]


def test_kinds_tell_what_a_part_holds(tmp_path: Path) -> None:
    many(tmp_path, 22)
    for part, scenes in {"all": [22, 1], "fit": [19, 1], "held": [3, 1]}.items():
        dataset = CocoInstances(tmp_path, "labels.json", part=part)
        kinds = dataset[0].kinds
        assert [(kind.name, kind.scenes) for kind in kinds] == list(
            zip(("pond", "car"), scenes, strict=True)
        )
        ponds = [sample.shapes[0].area ** 0.5 for sample in dataset]
        assert kinds[0].side == pytest.approx(np.median(ponds))
        assert kinds[1].side == (None if part == "held" else 4)


def test_a_part_of_another_name_is_refused(tmp_path: Path) -> None:
    fails("part is 'train', expected one of all, fit, held", tmp_path, "labels.json", part="train")


def test_pixels_are_kept_where_asked_for_and_never_sent(tmp_path: Path) -> None:
    folder = written(tmp_path)
    kept = CocoInstances(folder, "labels.json", keep_pixels=True)
    assert kept[0].scene is kept[0].scene
    assert kept[0].scene is not kept[1].scene
    seen = kept[0].scene.read(overview(kept[0].scene.info.size, 60), 60)
    again = pickle.loads(pickle.dumps(kept))
    (folder / "images" / "a.png").write_bytes(b"gone")
    assert (
        kept[0].scene.read(overview(kept[0].scene.info.size, 60), 60).pixels == seen.pixels
    ).all()
    with pytest.raises(SceneError):
        again[0].scene.read(overview(kept[0].scene.info.size, 60), 60)
    folder = written(tmp_path)
    loose = CocoInstances(folder, "labels.json")
    assert loose[0].scene is not loose[0].scene


def fails(words: str, *arguments: Any, **more: Any) -> None:
    with pytest.raises(DataError) as caught:
        CocoInstances(*arguments, **more)[0]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_data_is_one_line_with_the_path_and_the_origin(tmp_path: Path) -> None:
    fails(str(tmp_path / "no"), tmp_path / "no", "labels.json", origin="the moon")
    fails("it comes from the moon", tmp_path / "no", "labels.json", origin="the moon")
    written(tmp_path)
    fails("said.json", tmp_path, "labels.json", referring="said.json")
    fails("pictures", tmp_path, "labels.json", images="pictures")


def test_what_contradicts_itself_is_named(tmp_path: Path) -> None:
    fails("did you mean 'pond'", written(tmp_path), "labels.json", classes=["ponds"])
    bad = annotation(8, 4, [[0, 0, 9, 0, 9, 9]])
    fails("annotation 8", written(tmp_path, annotations=[bad]), "labels.json")
    bad = annotation(8, 1, None)
    fails("no segmentation", written(tmp_path, annotations=[bad]), "labels.json")
    fails("KeyError 'id'", written(tmp_path, images=[{"file_name": "a.png"}]), "labels.json")
    (tmp_path / "labels.json").write_text("[]")
    fails("COCO layout", tmp_path, "labels.json")
    (tmp_path / "labels.json").write_text("{")
    fails("JSON", tmp_path, "labels.json")
    image = {"id": 7, "file_name": "a.png", "height": 41, "width": WIDTH}
    written(tmp_path, images=[image], annotations=[])
    fails("its labels 41 x 60", tmp_path, "labels.json")
    (written(tmp_path) / "said.json").write_text(
        json.dumps([{"image_id": 99, "expression": "a", "ann_ids": []}])
    )
    fails("image_id 99", tmp_path, "labels.json", referring="said.json")


def test_nwpu_val_asks_88_class_105_referring_and_602_absent_prompts(nwpu: Path) -> None:
    dataset = CocoInstances(
        nwpu, "annotations/instances_val.json", referring="annotations/referring_val.json"
    )
    counts = Counter(one.task for sample in dataset for one in sample.exchanges)
    assert len(dataset) == 69
    assert counts == {"class": 88, "referring": 105, "absent": 602}


def test_nwpu_areas_agree_with_the_files_own(nwpu: Path) -> None:
    content = json.loads((nwpu / "annotations/instances_val.json").read_text())
    dataset = CocoInstances(nwpu, "annotations/instances_val.json")
    theirs = sorted(item["area"] for item in content["annotations"])
    ours = sorted(shape.area for sample in dataset for shape in sample.shapes)
    ratio = np.array(ours) / np.array(theirs)
    assert np.median(ratio) == pytest.approx(1, abs=0.005)
    assert np.abs(np.log(np.percentile(ratio, (5, 95)))).max() < 0.02
    item = content["annotations"][0]
    sample = next(one for one in dataset if one.name == content["images"][0]["file_name"])
    boxes = [shape.box for shape in sample.shapes]
    left, top, width, height = item["bbox"]
    assert Box(left, top, left + width, top + height) in boxes
