"""The order the components are asked in: budgets nest, unlimited is all, looks are shared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from geomag.errors import ContractError
from geomag.limits import Limits
from geomag.model import Findings, GeoMag
from geomag.values import Level, Look, LookMasks, MaskTargets, Plan, Prompt, Size, Turn, View
from tests.stand_ins import (
    Closest,
    Moody,
    Noise,
    Parrot,
    Shades,
    Thresholds,
    odd_sizes,
    pyramid_views,
)

SIDE = 8


def model_with(**changes: object) -> GeoMag:
    torch.manual_seed(0)
    slots: dict[str, object] = {
        "vision_encoder": dict(type=Shades),
        "llm_adapter": dict(type=Parrot),
        "granularity_controller": dict(type=Closest),
        "cropper": dict(type=Moody),
        "mask_head": dict(type=Thresholds),
    }
    return GeoMag(**(slots | changes), overview_side=SIDE).eval()  # type: ignore[arg-type]


def ask(
    model: GeoMag,
    scene: Noise,
    max_views: float | None = None,
    looks: dict[View, Look] | None = None,
    text: str = "every field",
) -> Findings:
    return model.answer(
        scene, (Turn("user", text),), {} if looks is None else looks, Limits(max_views)
    )


def views_of(findings: Findings) -> list[View]:
    return [look.view for look in findings.observation.looks]


def observed(model: GeoMag, size: Size, plan: Plan, looks: dict[View, Look]) -> list[View]:
    prompt = Prompt((Turn("user", "every field"),), torch.zeros(1, 4))
    return [look.view for look in model.observe(Noise(size), prompt, plan, looks).looks]


@pytest.mark.parametrize("part", range(6))
def test_the_views_of_a_small_budget_are_a_prefix_of_those_of_a_larger(part: int) -> None:
    for place, size in enumerate(odd_sizes(3000, SIDE)[part::6]):
        model = model_with(cropper=dict(type=Moody, keep=(1.0, 0.6)[place % 2]))
        longest: list[View] = []
        looks: dict[View, Look] = {}
        for budget in (4, 8, 16) if place % 10 else (0, 1, 3, 4, 5, 8, 11, 16, 40):
            views = observed(model, size, Plan(Level.PIXEL, SIDE, max_views=budget), looks)
            assert len(views) <= budget + 1
            assert views[: len(longest)] == longest
            longest = views


@pytest.mark.parametrize("part", range(6))
def test_unlimited_is_the_uniform_tiling_whatever_the_cropper_leaves_out(part: int) -> None:
    for place, size in enumerate(odd_sizes(3000, SIDE, largest=10)[part::6]):
        model = model_with(cropper=dict(type=Moody, keep=(1.0, 0.3, 0.0)[place % 3]))
        views = observed(model, size, Plan(Level.PIXEL, SIDE), {})
        assert len(set(views)) == len(views)
        assert set(views) == pyramid_views(size, SIDE)


def test_the_order_of_looking_does_not_change_a_bit_of_the_masks() -> None:
    """With relevance None everywhere, only the set of looks counts."""
    for size in odd_sizes(40, SIDE)[::3]:
        answers = [
            ask(
                model_with(cropper=dict(type=Moody, keep=keep, opinion=False)),
                Noise(size),
                math.inf,
            )
            for keep in (1.0, 0.4)
        ]
        assert set(views_of(answers[0])) == set(views_of(answers[1]))
        first, second = (answer.masks[0].probability() for answer in answers)
        assert (first == second).all()


def test_a_second_prompt_reads_and_encodes_only_new_views() -> None:
    model, scene = model_with(), Noise(Size(SIDE * 9, SIDE * 7))
    looks: dict[View, Look] = {}
    ask(model, scene, 4, looks)
    assert model.vision_encoder.images == len(scene.reads) == 5
    again = ask(model, scene, 4, looks, "every lake")
    assert model.vision_encoder.images == len(scene.reads) == 5
    assert again.observation.new_views == 0
    more = ask(model, scene, 8, looks)
    assert model.vision_encoder.images == len(scene.reads) == 9
    assert more.observation.new_views == 4


def test_a_budget_of_nothing_never_asks_the_cropper_to_rank() -> None:
    class Mute(Moody):
        def rank(self, looks, relevance, candidates, plan) -> list[View]:  # noqa: ANN001
            raise AssertionError("asked")

    findings = ask(model_with(cropper=dict(type=Mute)), Noise(Size(200, 100)), 0)
    assert len(findings.observation.looks) == 1


def test_a_plan_that_is_content_with_the_overview_looks_no_closer() -> None:
    model = model_with(granularity_controller=dict(type=Closest, stop_below=1e6))
    assert len(views_of(ask(model, Noise(Size(900, 900))))) == 1
    assert len(views_of(ask(model, Noise(Size(100, 100)), math.inf))) > 1


def test_a_cropper_that_invents_views_is_named() -> None:
    class Inventor(Moody):
        def rank(self, looks, relevance, candidates, plan) -> list[View]:  # noqa: ANN001
            return [looks[0].view, candidates[0], candidates[0]]

    with pytest.raises(ContractError, match=r"Inventor.*1 views that it was not offered.*once"):
        ask(model_with(cropper=dict(type=Inventor)), Noise(Size(200, 100)))


def test_a_chunk_of_several_images_gives_the_same_answer() -> None:
    scene = Size(SIDE * 9, SIDE * 5)
    one, four = model_with(), model_with()
    four.encode_chunk = 4
    first, second = (ask(model, Noise(scene), 9) for model in (one, four))
    assert views_of(first) == views_of(second)
    assert four.vision_encoder.images % 4 == 0
    assert (first.masks[0].to_dense() == second.masks[0].to_dense()).all()


class Sure(Thresholds):
    """Marks all of a look for every query, the surer the later the query comes."""

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        found = []
        for look, rows in zip(looks, queries, strict=True):
            side = look.pixels.shape[-1]
            score = torch.arange(len(rows)) / 4
            found.append(
                LookMasks(torch.full((len(rows), side, side), 9.0), torch.arange(len(rows)), score)
            )
        return found


class Quarters(Thresholds):
    """Two instances for every query: the left of a look, rather unsure, and the right, sure."""

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        found = []
        for look, rows in zip(looks, queries, strict=True):
            side = look.pixels.shape[-1]
            logits = torch.full((2, side, side), -9.0)
            logits[0, :, : side // 2] = logits[1, :, side // 2 :] = 9.0
            query = torch.arange(len(rows)).repeat_interleave(2)
            score = torch.tensor([0.25, 0.75]).repeat(len(rows))
            found.append(LookMasks(logits.repeat(len(rows), 1, 1), query, score))
        return found

    def loss(
        self, looks: Sequence[Look], queries: Sequence[Tensor], targets: Sequence[MaskTargets]
    ) -> Tensor:
        return torch.zeros(len(looks))


@pytest.mark.parametrize(
    ("presence", "areas"),
    [
        (0.0, [64, 64, 64, 64]),
        (0.25, [0, 64, 64, 64]),
        (0.5, [0, 0, 64, 64]),
        (0.51, [0, 0, 0, 64]),
        (1.0, [0, 0, 0, 0]),
    ],
)
def test_what_scores_below_presence_is_taken_for_not_there(
    presence: float, areas: list[int]
) -> None:
    model = model_with(mask_head=dict(type=Sure), presence=presence)
    looks = ask(model, Noise(Size(SIDE, SIDE))).observation.looks
    masks = model.segment(looks, torch.zeros(4, 3), 0.5)
    assert [mask.area for mask in masks] == areas
    assert [mask.empty for mask in masks] == [area == 0 for area in areas]
    # It comes back all the same: one mask a query, and how sure the head was.
    assert [mask.query for mask in masks] == [0, 1, 2, 3]
    assert [mask.score for mask in masks] == [0, 0.25, 0.5, 0.75]


def test_presence_is_asked_of_every_instance() -> None:
    model = model_with(mask_head=dict(type=Quarters), presence=0.5)
    looks = ask(model, Noise(Size(SIDE, SIDE))).observation.looks
    masks = model.segment(looks, torch.zeros(1, 3), 0.5)
    assert sorted((mask.score, mask.area) for mask in masks) == [(0.25, 0), (0.75, 32)]


def test_an_answer_keeps_to_presence() -> None:
    scene = Noise(Size(SIDE * 9, SIDE * 5))
    unasked, asked = (model_with(presence=presence) for presence in (0.0, 0.6))
    kept, dropped = (ask(model, scene, 4) for model in (unasked, asked))
    assert [mask.empty for mask in kept.masks] == [False]
    assert [mask.empty for mask in dropped.masks] == [True]
    assert dropped.masks[0].score == kept.masks[0].score == 0.5
    assert not dropped.masks[0].to_dense().any()
    assert views_of(kept) == views_of(dropped)
