from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from geomag import Predictor
from geomag.class_prompts import class_prompts
from geomag.errors import PromptError
from geomag.model import GeoMag
from tests.stand_ins import Noise
from tests.test_inference import CONFIG, SIZE, errs


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(GeoMag(**CONFIG))


def test_every_class_is_asked_by_itself_and_looks_are_shared(predictor: Predictor) -> None:
    scene = Noise(SIZE)
    found = predictor.open(scene).segment(
        ["ship", "ground_track_field", "water"], max_views=math.inf
    )
    assert found.classes == ("ship", "ground_track_field", "water")
    assert [one.prompt for one in found.answers] == [
        "every ship",
        "every ground track field",
        "all water",
    ]
    alone = predictor.open(Noise(SIZE)).ask("every ground track field", max_views=math.inf)
    assert np.array_equal(found.answers[1].masks[0].to_dense(), alone.masks[0].to_dense())
    assert len(scene.reads) == len(set(scene.reads)) == found.cost.views == found.cost.new_views
    assert found.cost.pixels_read == sum(view.size.area for view in scene.reads)
    drawn = np.stack([one.masks[0].probability() for one in found.answers])
    expected = np.where(drawn.max(0) > 0.5, 1 + drawn.argmax(0), 0)
    assert np.array_equal(found.to_dense(), expected)
    assert 0 < (expected > 0).mean() < 1


def test_a_mapping_says_what_to_ask(predictor: Predictor) -> None:
    asked = {"boats": "all ships and boats", "rest": "Segment the ground."}
    found = predictor.open(Noise(SIZE)).segment(asked, max_views=0)
    assert found.classes == ("boats", "rest")
    assert [one.prompt for one in found.answers] == list(asked.values())
    assert [one.cost.views for one in found.answers] == [1, 1]
    assert found.cost.share <= 1


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("ship", "expected a list of names"),
        (None, "expected a list of names"),
        ({"ship"}, "expected a list of names"),
        ([], "there is none"),
        ({}, "there is none"),
        ([f"class {number}" for number in range(300)], "there are 300, and .* 254"),
        (["ship", 3], "number 2, 3, is no text but of type int"),
        (["ship", None], "number 2, None, is no text"),
        (["ship", " \t"], r"number 2, ' \\t', is empty"),
        (["ship", "__"], "number 2, '__', has no letters"),
        (["ship", "a\x00b"], "cannot be shown"),
        (["ship", "a \udcff"], "cannot be shown"),
        (["ship", "car", "ship "], "number 3, 'ship', stands there twice"),
        (["ship", "Ships"], "number 2, 'Ships', asks what 'ship' asks, 'every ship'"),
        (["ship [SEG]"], r"contains \[SEG\]"),
        ({"ship": ""}, "has an empty prompt"),
        ({"ship": None}, "has None as its prompt"),
        ({"ship": "every ship [BOX]"}, r"contains \[BOX\]"),
        ({3: "every ship"}, "is no text but of type int"),
        ({"ship": "every ship", "boat": "Every ship"}, "'boat', asks what 'ship' asks"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(
    predictor: Predictor, classes: Any, words: str
) -> None:
    scene = Noise(SIZE)
    session = predictor.open(scene)
    errs(PromptError, words, lambda: session.segment(classes))
    assert not scene.reads


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(PromptError) as raised:
        class_prompts(["ship", "", 7, "ship", "[SEG]"])
    for words in ("number 2, ''", "number 3, 7", "number 4, 'ship'", "number 5, '[SEG]'"):
        assert words in str(raised.value)
    with pytest.raises(PromptError, match="and 30 more"):
        class_prompts([""] * 50)


def test_limits_are_those_of_ask(predictor: Predictor) -> None:
    session = predictor.open(Noise(SIZE))
    errs(PromptError, "max_views -1", lambda: session.segment(["ship"], max_views=-1))
    found = session.segment(["ship"], max_views=2, max_tokens=5)
    assert found.answers[0].cost.views == 3
    assert found.answers[0].cost.tokens <= 5
