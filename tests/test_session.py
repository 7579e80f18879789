from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from geomag import Predictor
from geomag.errors import PromptError
from geomag.geometry import ZOOM, overview, rung, tiles
from geomag.model import GeoMag
from geomag.session import LookStore, Session
from geomag.values import Conversation, Look, Prompt, Size, View
from tests.stand_ins import Noise, Parrot
from tests.test_inference import CONFIG, SIDE, SIZE, errs


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(GeoMag(**CONFIG))


class Listener(Parrot):
    """Remembers what it was asked."""

    def read(self, conversations: list[Conversation]) -> list[Prompt]:
        self.heard = conversations
        return super().read(conversations)


def test_costs_are_counted(predictor: Predictor) -> None:
    scene = Noise(SIZE)
    session = predictor.open(scene)
    first = session.ask("every airplane", max_views=3)
    assert first.cost.new_views == first.cost.views == len(scene.reads) == 4
    assert first.cost.pixels_read == sum(view.size.area for view in scene.reads)
    assert first.cost.share == first.cost.pixels_read / SIZE.area
    assert first.cost.tokens > 0
    assert first.cost.seconds > 0
    again = session.ask("every airplane", max_views=3)
    assert (again.cost.new_views, again.cost.pixels_read) == (0, 0)
    assert again.cost.share == first.cost.share
    assert "0 new" in str(again.cost)


def test_a_second_prompt_reads_only_what_is_new(predictor: Predictor) -> None:
    scene = Noise(SIZE)
    session = predictor.open(scene)
    session.ask("every airplane", max_views=2)
    everything = session.ask("every ship", max_views=math.inf)
    assert len(scene.reads) == len(set(scene.reads)) == everything.cost.views
    assert everything.cost.new_views == everything.cost.views - 3
    assert set(tiles(SIZE, SIDE, 1)) <= set(scene.reads)


def test_the_overview_alone_is_one_view(predictor: Predictor) -> None:
    scene = Noise(SIZE)
    assert predictor.open(scene).ask("Describe the scene.", max_views=0).cost.views == 1
    assert scene.reads == [overview(SIZE, SIDE)]


def test_a_list_of_prompts_has_a_list_of_answers(predictor: Predictor) -> None:
    session = predictor.open(Noise(SIZE))
    answers = session.ask(["every airplane", "every ship"], max_views=2)
    assert [answer.prompt for answer in answers] == ["every airplane", "every ship"]
    alone = predictor.open(Noise(SIZE)).ask("every ship", max_views=2)
    assert answers[1].text == alone.text
    assert np.array_equal(answers[1].masks[0].to_dense(), alone.masks[0].to_dense())
    assert session.ask([]) == []


def test_answers_do_not_depend_on_what_is_cached() -> None:
    model = GeoMag(**CONFIG)
    scene = Noise(SIZE)
    forgetful = Session(model, scene, cache_bytes=0)
    first, second = forgetful.ask(["every airplane"] * 2, max_views=6)
    assert second.cost.new_views == second.cost.views
    kept = Session(model, Noise(SIZE)).ask(["every airplane"] * 2, max_views=6)[1]
    for answer in (second, kept):
        assert [seen.view for seen in answer.looks] == [seen.view for seen in first.looks]
        assert np.array_equal(answer.masks[0].to_dense(), first.masks[0].to_dense())


def test_the_looks_not_asked_for_longest_are_let_go() -> None:
    views = tiles(Size(8, 40), SIDE, 1)

    def look(view: View) -> Look:
        return Look(view, torch.zeros(3, 8, 8), torch.ones(8, 8, dtype=torch.bool), ())

    one = 3 * 64 * 4 + 64
    store = LookStore(3 * one)
    for view in views[:3]:
        store[view] = look(view)
    assert store[views[0]].view == views[0]
    store[views[3]] = look(views[3])
    assert list(store) == [views[2], views[0], views[3]]
    store[views[2]] = look(views[2])
    assert len(store) == 3
    store[views[4]] = look(views[4])
    assert views[0] not in store
    assert store.keys() == {views[3], views[2], views[4]}


def test_history_is_handed_over_as_turns() -> None:
    predictor = Predictor(GeoMag(**(CONFIG | {"llm_adapter": {"type": Listener}})))
    session = predictor.open(Noise(SIZE))
    session.ask("And ships?", history=[("every airplane", "Here. [SEG]"), ("Cars?", "No.")])
    (turns,) = predictor.model.llm_adapter.heard
    assert [(turn.speaker, turn.text) for turn in turns] == [
        ("user", "every airplane"),
        ("model", "Here. [SEG]"),
        ("user", "Cars?"),
        ("model", "No."),
        ("user", "And ships?"),
    ]


def test_tokens_and_resolution_are_limits(predictor: Predictor) -> None:
    session = predictor.open(Noise(Size(300, 300)))
    assert session.ask("every ship", max_views=9).cost.tokens > 3
    assert session.ask("every ship", max_views=9, max_tokens=3).cost.tokens == 3
    for resolution, finest in ((100, None), (20, 2), (16, 2), (15.9, 1), (0.1, 0)):
        for views in (None, 400, math.inf):
            looks = session.ask("every ship", max_views=views, resolution=resolution).looks
            assert min((rung(seen.view) for seen in looks[1:]), default=None) == finest


def test_metres_are_those_of_the_ground(predictor: Predictor) -> None:
    scene = np.zeros((300, 300, 3), np.uint8)
    session = predictor.open(scene, resolution=0.5)
    looks = session.ask("every ship", max_views=math.inf, resolution=2.0).looks
    assert {rung(seen.view) for seen in looks[1:]} == {2, 1}


@pytest.mark.parametrize("arguments", [{}, {"max_views": 5}, {"resolution": 4.0}, {"max_views": 0}])
def test_a_forecast_reads_nothing_and_is_never_exceeded(
    predictor: Predictor, arguments: dict[str, Any]
) -> None:
    for size in (Size(1, 1), SIZE, Size(300, 7), Size(129, 130)):
        scene = Noise(size)
        session = predictor.open(scene)
        forecast = session.forecast("every ship", max_tokens=30, **arguments)
        assert not scene.reads
        answer = session.ask("every ship", max_tokens=30, **arguments)
        assert answer.cost.views <= forecast.views
        assert answer.cost.share <= forecast.share
        assert answer.cost.tokens <= forecast.tokens == 30
        closest = min((ZOOM ** rung(seen.view) for seen in answer.looks[1:]), default=math.inf)
        assert closest >= forecast.finest
        assert forecast.overview == answer.looks[0].view.size


def test_a_low_score_is_said(predictor: Predictor) -> None:
    scene = Noise(SIZE)
    assert predictor.open(scene).ask("every ship").note == ""
    answer = Predictor(GeoMag(**CONFIG, presence=0.6)).open(scene).ask("every ship")
    assert answer.masks[0].empty
    assert "presence threshold 0.60" in answer.note
    assert "best 0.50" in answer.note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n\t"}, "prompt is empty"),
        ({"prompt": None}, "expected a text"),
        ({"prompt": 3}, "expected a text"),
        ({"prompt": b"every ship"}, "expected a text"),
        ({"prompt": ["every ship", ""]}, "prompt is empty"),
        ({"prompt": ["every ship", None]}, "expected a text"),
        ({"prompt": "a ship [SEG]"}, r"contains \[SEG\]"),
        ({"history": "every ship"}, "expected pairs"),
        ({"history": [("every ship",)]}, r"history\[0\]"),
        ({"history": [("a", "b"), ("every ship", None)]}, r"history\[1\]"),
        ({"history": [("", "Here.")]}, r"history\[0\]"),
        ({"max_views": -1}, "max_views -1"),
        ({"max_views": 2.5}, r"max_views 2\.5"),
        ({"max_views": math.nan}, "max_views nan"),
        ({"max_views": "4"}, "max_views '4'"),
        ({"max_views": True}, "max_views True"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"max_tokens": 1.5}, r"max_tokens 1\.5"),
        ({"max_tokens": math.inf}, "max_tokens inf"),
        ({"resolution": 0}, "resolution 0"),
        ({"resolution": -1}, "resolution -1"),
        ({"resolution": math.nan}, "resolution nan"),
        ({"resolution": math.inf}, "resolution inf"),
        ({"resolution": "1"}, "resolution '1'"),
        ({"max_views": -1, "max_tokens": 0, "resolution": -1}, "max_views.*max_tokens.*resol"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(
    predictor: Predictor, arguments: dict[str, Any], words: str
) -> None:
    scene = Noise(SIZE)
    session = predictor.open(scene)
    errs(PromptError, words, lambda: session.ask(**({"prompt": "every ship"} | arguments)))
    assert not scene.reads
