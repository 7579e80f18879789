"""What the yardstick answers, behind an encoder that passes the colours of a scene through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geomag.geometry import overview
from geomag.limits import Limits
from geomag.model import Findings
from geomag.scenes.array import ArrayScene
from geomag.values import Pixels, Size, Turn, View
from geomag_baselines.channels import SURE, ClassChannels

from .stand_ins import BLUE, GREEN, RED, painted, reader


class Counted(ArrayScene):
    """Counts how often it is read."""

    reads = 0

    def read(self, view: View, side: int) -> Pixels:
        self.reads += 1
        return super().read(view, side)


def ask(model: ClassChannels, array: NDArray[np.uint8], *texts: str, **more: Any) -> Findings:
    speakers = ("user", "model")
    turns = tuple(Turn(speakers[place % 2], text) for place, text in enumerate(texts))  # type: ignore[arg-type]
    return model.answer(ArrayScene(array), turns, {}, **more)


def marked(found: Findings) -> NDArray[np.bool_]:
    assert len(found.masks) == len(found.reading.queries) == 1
    assert found.reading.text.count("[SEG]") == 1
    return found.masks[0].to_dense()


def fits(mask: NDArray[np.bool_], truth: NDArray[np.bool_], stride: int) -> bool:
    """The same but for the corner pixels that interpolation between cells cuts off."""
    inside = np.pad(truth, 1)
    beside = [
        inside[1 + down : inside.shape[0] - 1 + down, 1 + across : inside.shape[1] - 1 + across]
        for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    corner = truth & (sum(part.astype(int) for part in beside) == 2)
    return bool((mask == truth)[~corner if stride > 1 else ...].all())


def refused(found: Findings) -> bool:
    assert found.reading.text.count("[SEG]") == len(found.reading.queries) == len(found.masks)
    return not found.masks


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (40, 96), (100, 36), (52, 52), (12, 12)])
def test_masks_are_in_scene_coordinates_whatever_the_padding(
    height: int, width: int, stride: int
) -> None:
    """Also at the borders: what is marked ends where the scene does."""
    corner = (RED, (height - 4, width - 8, 4, 8))
    array = painted(height, width, (RED, (0, 4, 4, 4)), corner, (BLUE, (4, 0, 4, 4)))
    model = reader(stride)
    found = ask(model, array, "every ship")
    assert found.masks[0].size == Size(height, width)
    assert fits(marked(found), array[..., RED] > 0, stride)
    assert fits(marked(ask(model, array, "every harbor")), array[..., BLUE] > 0, stride)
    rows, columns = model.vision_encoder.shown[0]
    assert rows % 32 == columns % 32 == 0
    assert columns == math.ceil(max(height, width) / 32) * 32
    assert height <= rows <= columns


def test_sides_are_multiples_of_the_largest_stride() -> None:
    model = reader(64)
    ask(model, painted(40, 80), "every ship")
    rows, columns = model.vision_encoder.shown[0]
    assert (rows % 64, columns) == (0, 128)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize(
    ("height", "width", "tiles"), [(64, 64, 1), (100, 140, 6), (64, 200, 4), (65, 20, 2), (9, 9, 1)]
)
def test_tiles_are_seen_one_by_one_and_answer_as_one(
    height: int, width: int, tiles: int, stride: int
) -> None:
    """Also across the borders between them."""
    across = (RED, (height // 3, 4, 8, width - 8))
    array = painted(height, width, across, (BLUE, (height - 8, 0, 8, 8)))
    model = reader(stride, side=64)
    found = ask(model, array, "every ship")
    assert model.vision_encoder.shown == [(64, 64)] * tiles
    assert len(found.observation.looks) == len(found.masks) == 1
    whole = reader(stride)
    for text in ("every ship", "every harbor", "1 harbor at the bottom left"):
        marks = [marked(ask(one, array, text)) for one in (model, whole)]
        assert (marks[0] == marks[1]).all()
    if stride == 1:
        assert (marked(found) == (array[..., RED] > 0)).all()


def test_tiles_are_those_of_the_scene_as_zoomed() -> None:
    array = painted(200, 280, (RED, (40, 100, 120, 60)))
    model = reader(side=64, zoom=0.5)
    assert fits(marked(ask(model, array, "every ship")), array[..., RED] > 0, 2)
    assert model.vision_encoder.shown == [(64, 64)] * 6


def test_zoom_halves_the_pixels_seen_and_masks_stay_where_they_are() -> None:
    array = painted(128, 192, (RED, (16, 32, 32, 64)))
    whole, half = reader(), reader(zoom=0.5)
    assert (marked(ask(whole, array, "every ship")) == (array[..., RED] > 0)).all()
    found = ask(half, array, "every ship")
    assert [model.vision_encoder.shown[0][1] for model in (whole, half)] == [192, 96]
    assert found.observation.looks[0].view == overview(Size(128, 192), 96)
    assert found.masks[0].size == Size(128, 192)
    assert fits(marked(found), array[..., RED] > 0, 2)


def test_a_scene_that_zoom_makes_smaller_than_a_pixel_is_one_pixel() -> None:
    found = ask(reader(zoom=0.1), painted(3, 90, (RED, (0, 0, 3, 90))), "every ship")
    assert found.observation.looks[0].view.size == Size(1, 9)
    assert marked(found).all()


def test_a_scene_is_read_and_encoded_once_for_all_its_prompts() -> None:
    model, looks = reader(), {}
    scene = Counted(painted(40, 40, (RED, (0, 0, 9, 9))))
    areas = [
        model.answer(scene, (Turn("user", text),), looks).masks[0].area
        for text in ("every ship", "every harbor", "2 ships at the top left")
    ]
    assert areas == [81, 0, 81]
    assert scene.reads == len(model.vision_encoder.shown) == len(looks) == 1


def test_the_whole_scene_is_looked_at_whatever_the_budget() -> None:
    array = painted(700, 40, (RED, (600, 4, 9, 9)))
    for budget in (None, 0, 3, math.inf):
        found = ask(reader(), array, "every ship", limits=Limits(budget))
        assert len(found.observation.looks) == 1
        assert marked(found).sum() == 81


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("every ship", RED),
        ("2 gray ships", RED),
        ("Is there a Ship?", RED),
        ("every baseball diamond", GREEN),
        ("3 baseball diamonds", GREEN),
        ("every harbor", BLUE),
        ("all harbors, please.", BLUE),
        ("the harbor with ships", BLUE),  # the longest name wins
        ("the ships at a baseball diamond", GREEN),
        ("every spaceship", None),
        ("every shipyard", None),
        ("every baseball_diamond", None),  # nobody says that
        ("every bridge", None),
        ("", None),
    ],
)
def test_a_class_is_found_by_its_name_in_one_or_many(text: str, colour: int | None) -> None:
    squares = [(colour, (20 * colour, 20 * colour, 8, 8)) for colour in (RED, GREEN, BLUE)]
    array = painted(64, 64, *squares)
    found = ask(reader(), array, text)
    assert refused(found) == (colour is None)
    if colour is not None:
        assert (marked(found) == (array[..., colour] > 0)).all()


@pytest.mark.parametrize(
    "classes", [("diamond", "baseball_diamond"), ("baseball_diamond", "diamond")]
)
def test_the_longest_name_wins_in_any_order(classes: tuple[str, str]) -> None:
    array = painted(32, 32, (RED, (0, 0, 8, 8)), (GREEN, (16, 16, 8, 8)))
    for text, name in (("every baseball diamond", "baseball_diamond"), ("1 diamond", "diamond")):
        found = ask(reader(classes=classes), array, text)
        assert (marked(found) == (array[..., classes.index(name)] > 0)).all()


def test_an_irregular_plural_is_known() -> None:
    model = reader(classes=("person", "bus"))
    assert [model._named(text) for text in ("all people", "2 buses", "1 person")] == [0, 1, 0]


def test_only_what_was_said_last_is_asked() -> None:
    array = painted(32, 32, (RED, (0, 0, 8, 8)))
    assert not refused(ask(reader(), array, "every bridge", "None.", "every ship"))
    assert refused(ask(reader(), array, "every ship", "Here.", "every bridge"))
    at_left = ("1 ship at the top left", "Here.", "1 ship at the right")
    assert not marked(ask(reader(), array, *at_left)).any()


def test_presence_refuses_what_little_speaks_for() -> None:
    """A class is as sure as the mean of its `SURE` highest logits: here 8 in a mark, else -8."""
    few = painted(32, 32, (RED, (0, 0, 1, SURE // 4)))
    half = painted(32, 32, (RED, (0, 0, 1, SURE // 2)))
    many = painted(32, 32, (RED, (0, 0, 2, SURE // 2)))
    sure = [1 / (1 + math.exp(4)), 0.5, 1 / (1 + math.exp(-8))]
    for array, score in zip((few, half, many), sure, strict=True):
        found = ask(reader(), array, "every ship")
        assert found.masks[0].score == pytest.approx(score, abs=1e-5)
        assert refused(ask(reader(presence=score + 0.01), array, "every ship"))
        assert not refused(ask(reader(presence=score - 0.01), array, "every ship"))
        assert refused(ask(reader(presence=score - 0.01), array, "every bridge"))


def test_a_scene_of_fewer_cells_is_sure_too() -> None:
    found = ask(reader(16), painted(16, 16, (RED, (0, 0, 16, 16))), "every ship")
    assert 0 < found.masks[0].score < 1


def test_a_rule_reads_number_and_place() -> None:
    array = painted(64, 64, (RED, (2, 2, 6, 6)), (RED, (2, 12, 4, 4)), (RED, (40, 40, 10, 10)))
    text = "1 gray large ship at the top left"
    largest = painted(64, 64, (RED, (2, 2, 6, 6)))[..., RED] > 0
    assert (marked(ask(reader(), array, text)) == largest).all()
    assert (marked(ask(reader(rule=False), array, text)) == (array[..., RED] > 0)).all()
    assert (marked(ask(reader(), array, "every ship")) == (array[..., RED] > 0)).all()


def test_a_rule_leaves_the_outlines_of_what_it_keeps() -> None:
    """A mark that fades out from cell to cell: its outline lies in between, rule or not."""
    array = painted(64, 64, (RED, (40, 40, 12, 12)))
    array[4:16, 4:16, RED] = 255
    array[4:16, 16:20, RED] = 120  # just below the threshold
    text = "1 ship at the top left"
    with_rule = marked(ask(reader(4), array, text))
    without = marked(ask(reader(4, rule=False), array, text))
    assert (with_rule[:32, :32] == without[:32, :32]).all()
    assert without[32:].any()
    assert not with_rule[32:].any()


def test_a_rule_asks_where_in_the_scene_also_in_a_smaller_view() -> None:
    array = painted(128, 256, (RED, (8, 200, 16, 16)), (RED, (8, 100, 16, 16)))
    for model in (reader(4), reader(2, zoom=0.5)):
        for text, left in (("1 ship at the top right", 200), ("1 ship at the top", 100)):
            wanted = painted(128, 256, (RED, (8, left, 16, 16)))[..., RED] > 0
            assert fits(marked(ask(model, array, text)), wanted, 2)
        assert not marked(ask(model, array, "1 ship at the top left")).any()


def test_the_threshold_decides_what_is_marked() -> None:
    array = painted(32, 32)
    array[4:12, 4:12, RED] = 140  # a logit of 0.8, a probability of 0.69
    assert marked(ask(reader(), array, "every ship")).sum() == 64
    assert not marked(ask(reader(), array, "every ship", threshold=0.8)).any()
