"""The order the components are asked in: budgets nest, unlimited is all, looks are shared."""

from __future__ import annotations

import math

import pytest
import torch

from geomag.errors import ContractError
from geomag.model import Findings, GeoMag
from geomag.values import Level, Look, Plan, Prompt, Size, Turn, View
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
        scene, (Turn("user", text),), {} if looks is None else looks, max_views=max_views
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
