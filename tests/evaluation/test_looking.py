"""Budgets in tiles, and asking within them, on a few squares."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from geomag import geometry
from geomag.data.facts import Facts
from geomag.data.instructions import segment
from geomag.data.samples import Kind, LabelledSample, Polygons
from geomag.errors import DataError
from geomag.evaluation.budgets import enough, pixels_in, targets, tiles_for, views_for
from geomag.evaluation.looking import (
    Arm,
    Question,
    Reordered,
    ToNative,
    ViewCost,
    answers,
    controls,
    following,
    rebuilt,
    to_native,
    view_cost,
)
from geomag.evaluation.outcomes import compare
from geomag.evaluation.pairs import grouped, summary
from geomag.model import GeoMag
from geomag.scenes.array import ArrayScene
from geomag.values import Level, Look, Plan, Prompt, SceneInfo, Size, Turn, View
from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds

SIDE = 8
SIZE = Size(40, 40)
KINDS = tuple(Kind(name, 4.0) for name in ("ship", "pier", "buoy"))
ALL = (0.0, 0.25, 0.5, 1.0)


def square(left: float, top: float, side: float, size: Size = SIZE) -> Polygons:
    right, bottom = left + side, top + side
    ring = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    return Polygons([ring], size)


def sample(size: Size = SIZE) -> LabelledSample:
    """Two ships and a pier; the second ship lies across a tile's border."""
    picture = np.random.default_rng(0).integers(0, 255, (size.height, size.width, 3), np.uint8)
    shapes = (square(1, 1, 4, size), square(22, 1, 4, size), square(32, 32, 8, size))
    labels = ("ship", "ship", "pier")
    scene = ArrayScene(cv2.GaussianBlur(picture, (0, 0), 2), name="mosaic")
    made = LabelledSample(scene, shapes, labels, (), "mosaic", KINDS)
    exchanges = [segment(Facts(made), kind) for kind in KINDS[:2]]
    return replace(made, exchanges=tuple(exchanges))


def model_with(**parts: object) -> GeoMag:
    torch.manual_seed(0)
    slots: dict[str, object] = {
        "vision_encoder": dict(type=Shades),
        "llm_adapter": dict(type=Parrot),
        "granularity_controller": dict(type=Closest, stop_below=2.0),
        "cropper": dict(type=Moody),
        "mask_head": dict(type=Thresholds),
    }
    return GeoMag(**(slots | parts), overview_side=SIDE).eval()  # type: ignore[arg-type]


def views(size: Size, scale: int) -> list[View]:
    return geometry.tiles(size, SIDE, scale)


# -- budgets -----------------------------------------------------------------------------------


def test_views_until_so_many_finest_tiles() -> None:
    size = Size(256, 256)
    overview, coarse, fine = geometry.overview(size, SIDE), views(size, 4), views(size, 1)
    order = [overview, coarse[0], fine[0], fine[1], coarse[1], fine[2]]
    held = set(fine)
    assert [views_for(order, held, wanted) for wanted in range(4)] == [0, 2, 3, 5]
    assert views_for(order, held, 4) == 5  # the cropper had seen enough
    assert views_for([overview], {overview}, 1) == 0  # a scene that is native at once


def test_shares_of_tiles_are_rounded_and_never_nothing() -> None:
    assert [tiles_for(share, 256) for share in (0, 0.06, 0.12, 0.25, 0.5, 1)] == [
        *(0, 15, 31, 64, 128, 256)
    ]
    assert tiles_for(0.06, 4) == 1


def test_coarser_views_come_on_top_of_a_budget() -> None:
    assert enough(Size(4096, 4096), 256, 15) == 16 + 15
    assert enough(Size(2048, 2048), 256, 16) == 4 + 16
    assert enough(Size(1536, 1536), 256, 9) == 9
    assert enough(Size(2048, 2048), 256, 0) == 0


def test_tiles_hold_the_pixels_that_are_at_least_half_covered() -> None:
    shapes = [square(1, 1, 4), square(22, 1, 4), square(22, 1, 4), square(34.5, 34.5, 2)]
    held = pixels_in(views(SIZE, 1), shapes)
    places = {(int(view.box.left), int(view.box.top)): pixels for view, pixels in held.items()}
    # Columns 22 and 23 lie in the third tile, 24 and 25 in the fourth; what overlaps counts once.
    # The last square covers one pixel, half of four around it, and a quarter of four corners.
    expected = {(0, 0): 16, (16, 0): 8, (24, 0): 8, (32, 32): 5}
    assert {place: pixels for place, pixels in places.items() if pixels} == expected
    assert sum(held.values()) == compare([], shapes, SIZE).truth


def test_a_class_without_a_pixel_is_no_target() -> None:
    faint = replace(sample(), shapes=(square(1, 1, 4), square(22, 1, 4), square(5, 5, 0.3)))
    assert [target.kind.name for target in targets(sample(), SIDE)] == ["ship", "pier"]
    assert [target.kind.name for target in targets(faint, SIDE)] == ["ship"]


# -- asking --------------------------------------------------------------------------------------


def test_the_next_class_goes_round() -> None:
    assert [following(KINDS, kind).name for kind in KINDS] == ["pier", "buoy", "ship"]
    with pytest.raises(DataError, match="no other class than 'ship'"):
        following(KINDS[:1], KINDS[0])


def test_plans_go_down_to_native_and_keep_the_rest() -> None:
    planned = Plan(Level.REGION, SIDE, 2.0, 3, 17)
    told = SimpleNamespace(plan=lambda prompt, info: planned)
    prompt = Prompt((Turn("user", "every ship"),), torch.zeros(1, 4))
    plan = ToNative(told).plan(prompt, SceneInfo(SIZE))  # type: ignore[arg-type]
    assert plan == Plan(Level.REGION, SIDE, None, math.inf, 17)


def test_a_rebuilt_model_shares_all_but_what_is_replaced() -> None:
    model = model_with()
    model.max_new_tokens, model.encode_chunk = 7, 3
    other = rebuilt(model, cropper=Moody(opinion=False))
    assert other.vision_encoder is model.vision_encoder
    assert other.cropper is not model.cropper
    assert (other.overview_side, other.encode_chunk, other.max_new_tokens) == (SIDE, 3, 7)
    assert not other.training


def test_elsewhere_is_judged_by_the_one_and_ordered_by_the_other() -> None:
    looks: Sequence[Look] = ()
    judging = SimpleNamespace(relevance=lambda looks, prompt: ["judged"])
    ordering = SimpleNamespace(rank=lambda *arguments: ["ordered"])
    cropper = Reordered(judging, ordering)  # type: ignore[arg-type]
    assert cropper.relevance(looks, None) == ["judged"]  # type: ignore[arg-type, comparison-overlap]
    assert cropper.rank(looks, (), (), None) == ["ordered"]  # type: ignore[arg-type, comparison-overlap]


def test_budgets_count_finest_tiles_and_nest() -> None:
    """130 pixels a side have 17 x 17 finest tiles, and 5 x 5 four times as coarse."""
    scene = sample(Size(130, 130))
    found = list(answers(scene, [Arm("as is", to_native(model_with()), ALL)]))
    assert [(one.label, one.share) for one in found] == [*itertools.product(("ship", "pier"), ALL)]
    for ship in (found[:4], found[4:]):
        assert [one.wanted for one in ship] == [one.finest for one in ship] == [0, 72, 144, 289]
        assert ship[0].views == 1
        assert ship[0].covered == 0
        assert ship[-1].views == 1 + 25 + 289
        assert ship[-1].covered == ship[-1].target == (32 if ship[0].label == "ship" else 64)
        assert [one.covered for one in ship] == sorted(one.covered for one in ship)
        # The coarser rungs and the overview come on top; the finest show every pixel once.
        assert ship[-1].encoded == 130**2 + 33**2 + SIDE**2
        assert ship[-1].scene == 130**2


def test_one_that_has_seen_enough_is_noted() -> None:
    timid = to_native(model_with(cropper=dict(type=Moody, keep=0.1)))
    found = list(answers(sample(), [Arm("as is", timid, (1.0,))]))
    assert all(one.finest < one.wanted == 25 for one in found)
    assert summary(found, found).stopped_early == len(found) == 2


class Backwards:
    """Has no opinion, and begins at the end."""

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[None]:
        return [None] * len(looks)

    def rank(
        self, looks: object, relevance: object, candidates: Sequence[View], plan: Plan
    ) -> Sequence[View]:
        return candidates[::-1]


def test_controls_take_away_one_thing_each() -> None:
    arms = controls(to_native(model_with()), Backwards(), 0.25)
    found = grouped(list(answers(sample(), arms)))
    named = ["as is", "random", "random places", "prompt swapped", "image blanked"]
    assert [name for name, _ in found] == named
    ship, pier = found["prompt swapped", 0.25]
    assert (ship.label, ship.prompt, pier.prompt) == ("ship", "every pier", "every buoy")
    assert ship.target == found["as is", 0.25][0].target == 32
    assert all(one.finest == 6 for pairs in found.values() for one in pairs)
    # The last six tiles of 5 x 5 show the pier and no ship.
    for name in ("random", "random places"):
        assert [one.covered for one in found[name, 0.25]] == [0, 64]
    assert [one.covered for one in found["as is", 0.25]] == [8, 0]
    # A grey scene looks the same everywhere, so that its masks are everything or nothing.
    assert found["image blanked", 0.25][0].iou in (0, 32 / SIZE.area)
    assert found["as is", 0.25][0].iou not in (0, 32 / SIZE.area)


def test_costs_are_those_of_an_answer_for_which_nothing_was_seen() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    class Convolved(Shades):
        """Costs something."""

        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Conv2d(3, 3, 1)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return super().forward(self.mix(pixels))

    model = to_native(model_with(vision_encoder=dict(type=Convolved)))
    scene = sample()
    cost = view_cost(model, scene.scene)
    assert cost.flops == 2 * 9 * SIDE**2
    assert cost.seconds > 0
    first = next(iter(answers(scene, [Arm("as is", model, (0.5,))], cost=ViewCost(cost.flops, 10))))
    turns = scene.exchanges[0].conversation
    with FlopCounterMode(display=False) as counter:
        Question(model, scene.scene, turns, {}, 0.5).answer(first.views - 1)
    assert first.flops == counter.get_total_flops()
    assert first.seconds is not None
    assert 0 <= first.seconds - 10 * first.views < 10
