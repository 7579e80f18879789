from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from geomag.data.directions import POSITIONS, cell_of
from geomag.data.instructions import TASKS, compose, examine
from geomag.data.samples import Expression, Kind, LabelledSample, Polygons
from geomag.scenes.array import ArrayScene
from geomag.values import BOX, SEG, Exchange, Level, Size

SIZE = Size(300, 400)
KINDS = (Kind("storage_tank", 20), Kind("ship", 30), Kind("water"), Kind("airplane", 40))


def square(y: float, x: float, side: float = 12) -> Polygons:
    top, left = y * SIZE.height - side / 2, x * SIZE.width - side / 2
    corners = [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    return Polygons([np.array(corners)], SIZE)


def scene(**changes: object) -> LabelledSample:
    """Two ships at the top left, one at the right, three tanks at the bottom, some water."""
    places = [("ship", 0.1, 0.1), ("ship", 0.2, 0.15), ("ship", 0.5, 0.9)]
    places += [("storage_tank", 0.9, x) for x in (0.4, 0.5, 0.6)] + [("water", 0.5, 0.5)]
    sample = LabelledSample(
        scene=ArrayScene(np.zeros((SIZE.height, SIZE.width), np.uint8)),
        shapes=tuple(square(y, x, 12 + 4 * n) for n, (_, y, x) in enumerate(places)),
        labels=tuple(name for name, _, _ in places),
        exchanges=(),
        name="a",
        kinds=KINDS,
        expressions=(Expression("2 gray ship at the top left", (0, 1)),),
        uncounted=frozenset({"water"}),
    )
    return replace(sample, **changes)


def asked(exchange: Exchange) -> str:
    return exchange.conversation[-1].text


def composed(task: str, count: int = 60, sample: LabelledSample | None = None) -> list[Exchange]:
    subject = sample or scene()
    return [
        one for n in range(count) for one in compose(subject, 1, Random(n), {task: 1})
    ]  # fmt: skip


def test_tests_ask_everything_once_in_the_first_phrasing() -> None:
    found = examine(scene())
    assert [(one.task, asked(one), one.reply.text) for one in found] == [
        ("class", "every storage tank", "Here are the storage tanks. [SEG]"),
        ("class", "every ship", "Here are the ships. [SEG]"),
        ("class", "all water", "Here is the water. [SEG]"),
        ("referring", "2 gray ship at the top left", "Here they are. [SEG]"),
        ("absent", "every airplane", "There is no airplane here."),
    ]
    assert [one.instances for one in found] == [((3, 4, 5),), ((0, 1, 2),), ((6,),), ((0, 1),), ()]
    assert found[-1].extent == 40
    assert found[0].extent == pytest.approx(28)


def test_tests_may_ask_more() -> None:
    found = examine(scene(), ("presence", "count", "caption", "classification", "conversation"))
    texts = {asked(one): one.reply.text for one in found}
    assert texts["Is there a ship?"] == "Yes."
    assert texts["Is there any water?"] == "Yes."
    assert texts["Is there an airplane?"] == "No."
    assert texts["How many ships are there?"] == "There are 3."
    assert texts["How many airplanes are there?"] == "There are none."
    assert "How many water are there?" not in texts
    assert texts["Describe the scene."] == (
        "An aerial scene with 3 ships, 3 storage tanks at the bottom and water."
    )
    assert texts["Which kinds of objects are in the scene?"] == "ship, storage tank, water."
    assert texts["Describe the scene and segment what you name."] == (
        "There are 3 ships [SEG], 3 storage tanks [SEG] and water [SEG]."
    )


@pytest.mark.parametrize("task", TASKS)
def test_every_task_keeps_the_shape_of_an_exchange(task: str) -> None:
    # What is in a part of a scene cannot be told where single objects are not labelled.
    plain = scene(labels=("ship",) * 7, uncounted=frozenset())
    found = composed(task, sample=plain if task == "region" else None)
    assert found
    for one in found:
        assert one.task == task
        assert one.reply.text.count(SEG) == len(one.instances)
        assert one.reply.text.count(BOX) == len(one.boxed)
        assert [turn.speaker for turn in one.conversation] == ["user", "model", "user"][
            -len(one.conversation) :
        ]
        named = {place for group in (*one.instances, one.boxed) for place in group}
        assert named <= set(one.relevant)
        assert all(group for group in one.instances)
        assert (one.extent is None) == (one.level is Level.IMAGE)
        assert "_" not in asked(one) + one.reply.text
        assert "{" not in asked(one) + one.reply.text


def test_what_is_not_there_is_refused_without_a_mask() -> None:
    found = composed("absent", 300)
    places = set()
    for one in found:
        assert one.instances == one.relevant == ()
        assert one.reply.text.startswith("There is no ")
        if " at the " in one.reply.text:
            name, place = one.reply.text[:-1].removeprefix("There is no ").split(" at the ")
            places.add((name, place))
            assert f"{name} at the {place}" in asked(one)
        else:
            assert "airplane" in one.reply.text
    # Ships are at the top left and the right; whoever says "left" may mean the upper left.
    assert {place for name, place in places if name == "ship"} == {
        "center", "top right", "bottom left", "bottom", "bottom right",
    }  # fmt: skip
    assert ("storage tank", "bottom") not in places


def test_expressions_mean_what_they_say() -> None:
    sample = scene()
    texts = set()
    for one in composed("referring", 300):
        texts.add(asked(one))
        members = one.instances[0]
        for cell, place in POSITIONS.items():
            if asked(one).rstrip(".?").endswith(f"at the {place}"):
                for member in members:
                    assert cell_of(sample.shapes[member].box, SIZE) == cell
    texts = " / ".join(texts)
    assert "the 2 ships at the top left" in texts
    assert "the rightmost ship" in texts
    # The tanks differ too little in size, and two of the ships in place.
    assert "the largest storage tank" not in texts
    assert "the topmost ship" in texts
    assert "water" not in texts


def test_boxes_come_in_reading_order_and_never_too_many() -> None:
    crowd = scene(shapes=tuple(square(0.9, 0.02 * n) for n in range(1, 8)), labels=("ship",) * 7)
    found = composed("grounding", 100, replace(crowd, expressions=()))
    assert all(len(one.boxed) <= 4 for one in found)
    # Places in the sample are no order: the highest box comes first, then the leftmost.
    mixed = scene(shapes=tuple(square(y, 0.5) for y in (0.9, 0.1, 0.5)), labels=("ship",) * 3)
    found = composed("grounding", 100, replace(mixed, expressions=()))
    assert {one.boxed for one in found if len(one.boxed) == 3} == {(1, 2, 0)}


def test_crowds_are_neither_counted_nor_boxed() -> None:
    sample = scene(uncounted=frozenset({"ship", "water", "storage_tank"}), expressions=())
    for task in ("count", "grounding"):
        found = [one for one in composed(task, 100, sample) if one.task == task]
        assert found
        assert not any(one.relevant for one in found)
    assert all("ships" in one.reply.text for one in composed("caption", 5, sample))
    assert not any("3" in one.reply.text for one in composed("caption", 5, sample))


def test_rare_classes_are_asked_for_oftener() -> None:
    scenes = {"water": 1, "storage_tank": 3, "ship": 9, "airplane": 1}
    sample = scene(kinds=tuple(replace(kind, scenes=scenes[kind.name]) for kind in KINDS))
    counts = Counter(one.instances for one in composed("class", 400, sample))
    assert counts[((6,),)] > counts[((3, 4, 5),)] > counts[((0, 1, 2),)] > 0


def test_the_same_seed_composes_the_same_and_others_vary() -> None:
    assert compose(scene(), 5, Random(3)) == compose(scene(), 5, Random(3))
    assert len({asked(one) for one in composed("class", 100)}) > 12


def test_always_as_many_as_asked_even_where_little_can_be_said() -> None:
    empty = scene(shapes=(), labels=(), expressions=(), uncounted=frozenset())
    for count in (1, 4, 30):
        assert len(compose(empty, count, Random(0))) == count
    assert compose(replace(empty, kinds=()), 4, Random(0)) == ()


def test_a_scene_that_no_task_suits_is_asked_for_its_classes() -> None:
    empty = scene(shapes=(), labels=(), expressions=(), uncounted=frozenset())
    found = compose(empty, 3, Random(0), {"referring": 1, "caption": 1})
    assert [one.task for one in found] == ["absent"] * 3


def test_nothing_is_asked_twice_while_there_is_something_else() -> None:
    found = compose(scene(), 6, Random(5))
    assert len({(one.task, one.reply.text, one.relevant) for one in found}) == 6
