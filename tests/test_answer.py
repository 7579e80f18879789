from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from geomag.answer import Answer, Cost
from geomag.errors import OutputError
from geomag.export import layers
from geomag.export.picture import draw
from geomag.export.shown import SeenView, Shown, plain
from geomag.geometry import overview, tiles
from geomag.masks import SceneMask
from geomag.scenes import open_scene
from geomag.tile import Tile
from geomag.values import Box, Level, Size, View

COST = Cost(views=2, new_views=1, pixels_read=900, share=0.5, tokens=12, seconds=0.25)


def array(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def mask_of(dense: np.ndarray, score: float = 0.8, query: int = 0) -> SceneMask:
    size = Size(*dense.shape)
    view = View(Box(0, 0, size.width, size.height), size, size)
    return SceneMask(size, (Tile(view, dense.astype(np.uint8) * 255),), query, score)


def answer(
    text: str = "Here they are.",
    masks: tuple[SceneMask, ...] = (),
    boxes: tuple[Box, ...] = (),
    level: Level = Level.PIXEL,
    size: tuple[int, int] = (40, 60),
) -> Answer:
    scene = open_scene(array(*size))
    whole = overview(scene.info.size, 32)
    near = tiles(scene.info.size, 32, 1)[0]
    views = (SeenView(whole, np.full((3, 4), 0.25, np.float32)), SeenView(near, None))
    return Answer(Shown("every ship", text, level, masks, boxes, views), scene, COST)


@pytest.fixture
def found() -> Answer:
    dense = np.zeros((40, 60), bool)
    dense[3:9, 10:30] = True
    return answer(masks=(mask_of(dense), mask_of(~dense, 0.1, 1)), boxes=(Box(1, 2, 30, 40),))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Here are 3 airplanes. [SEG]", "Here are 3 airplanes."),
        ("[SEG]", ""),
        ("One [SEG] , and another [SEG] .", "One, and another."),
        ("Here: [BOX]", "Here."),
        ("Here: [BOX].", "Here."),
        ("A  ship\n[BOX]and a car [SEG]!", "A ship and a car!"),
        ("There are 3.", "There are 3."),
    ],
)
def test_texts_lose_their_markers(said: str, shown: str) -> None:
    assert plain(said) == shown


def test_refused_means_that_nothing_is_pointed_at() -> None:
    nowhere, there = np.zeros((40, 60), bool), np.ones((40, 60), bool)
    assert answer().refused
    assert answer(masks=(mask_of(nowhere),)).refused
    assert not answer(masks=(mask_of(nowhere), mask_of(there))).refused
    assert not answer(boxes=(Box(0, 0, 3, 3),)).refused
    assert answer(level=Level.REGION).refused
    assert not answer(level=Level.IMAGE).refused


def test_json_holds_everything(found: Answer, tmp_path: Path) -> None:
    assert found.save(tmp_path / "new" / "answer.json") == [tmp_path / "new" / "answer.json"]
    saved = json.loads((tmp_path / "new" / "answer.json").read_text())
    assert saved["prompt"] == "every ship"
    assert saved["text"] == "Here they are."
    assert saved["scene"] == {"name": "array", "height": 40, "width": 60, "resolution": None}
    assert saved["level"] == "pixel"
    assert saved["refused"] is False
    assert saved["boxes"] == [[1, 2, 30, 40]]
    assert [mask["score"] for mask in saved["masks"]] == [0.8, 0.1]
    assert saved["masks"][0]["box"] == [10, 3, 30, 9]
    assert saved["masks"][0]["area"] == 120
    assert [look["relevance"] for look in saved["looks"]] == [0.25, None]
    assert saved["looks"][1] == {"box": [0, 0, 32, 32], "size": [32, 32], "relevance": None}
    assert saved["cost"]["pixels_read"] == 900
    for mask, kept in zip(found.masks, saved["masks"], strict=True):
        assert np.array_equal(coco.decode(kept["rle"]).astype(bool), mask.to_dense())


def test_an_ending_chooses_the_form_and_none_a_folder_of_all(found: Answer, tmp_path: Path) -> None:
    assert found.save(str(tmp_path / "A.PNG")) == [tmp_path / "A.PNG"]
    with Image.open(tmp_path / "A.PNG") as picture:
        assert picture.format == "PNG"
    found.save(tmp_path / "ships")
    assert sorted(path.name for path in (tmp_path / "ships").iterdir()) == [
        "answer.json",
        "answer.png",
    ]


def test_other_endings_are_refused_with_the_list(found: Answer, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.shp is not written; expected \.json, \.png"):
        found.save(tmp_path / "answer.shp")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_nothing_behind(found: Answer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here before")
    (tmp_path / "folder.json").mkdir()
    for path in ("file/answer.json", "folder.json"):
        with pytest.raises(OutputError) as raised:
            found.save(tmp_path / path)
        assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]
    assert (tmp_path / "file").read_text() == "here before"


def test_a_failure_while_writing_keeps_the_old_file(
    found: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answer.json"
    path.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        found.save(path)
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["answer.json"]


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (40, 60), (700, 2000), (3000, 50)])
def test_scenes_of_all_shapes_have_a_picture(size: tuple[int, int]) -> None:
    dense = np.ones(size, bool)
    shown = answer("x" * 3000, (mask_of(dense),), (Box(0, 0, size[1], size[0]),), size=size)
    picture = draw(shown.scene, shown.shown)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert max(picture.shape) < 3000


def test_the_picture_shows_masks_where_they_are() -> None:
    size = (800, 800)
    dense = np.zeros(size, bool)
    dense[100:300, 400:700] = True
    with_mask, without = answer(masks=(mask_of(dense),), size=size), answer(size=size)
    scene = with_mask.scene
    changed = (draw(scene, with_mask.shown) != draw(scene, without.shown)).any(2)
    # The picture has a margin of 16 pixels; the outline may stand over by 3.
    inside = changed[16 : 16 + 800, 16 : 16 + 800]
    assert inside[105:295, 405:695].all()
    inside[97:303, 397:703] = False
    assert not inside.any()


def test_a_large_scene_is_drawn_from_tiles_alone() -> None:
    size = Size(100_000, 100_000)
    whole = overview(size, 256)
    levels = np.zeros((256, 256), np.uint8)
    levels[:128] = 255
    mask = SceneMask(size, (Tile(whole, levels),), 0, 1.0)
    bits = layers.mask_bits(mask, layers.stage(size))
    assert bits.shape == (1600, 1600)
    assert bits[:790].all()
    assert not bits[810:].any()


def test_labelled_shapes_are_outlined_in_white() -> None:
    class Corner:
        box = Box(0, 0, 400, 400)
        area = 160_000.0

        def draw(self, view: View, side: int, stride: int = 1) -> torch.Tensor:
            canvas = torch.zeros(side, side)
            canvas[:400, :400] = 1
            return canvas

    shown = answer(size=(800, 800))
    labelled = draw(shown.scene, shown.shown, [Corner()]).astype(int)
    plain_picture = draw(shown.scene, shown.shown)
    # The outline is smoothed, so it is lighter, but not everywhere white.
    edge = np.s_[16 + 399, 16 + 100 : 16 + 300]
    assert labelled[edge].mean() > plain_picture[edge].mean() + 50
    middle = np.s_[16 + 40 : 16 + 380, 16 + 40 : 16 + 380]
    assert np.array_equal(labelled[middle], plain_picture[middle])
