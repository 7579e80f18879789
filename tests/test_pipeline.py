"""Whole models: the shipped components in combination, from a scene to masks and to a gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from geomag import geometry
from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled
from geomag.limits import Limits
from geomag.model import Findings, GeoMag
from geomag.values import Look, SceneInfo, Size, Turn, View
from tests.stand_ins import Noise

SIDE = 64
TINY_ENCODER = dict(
    type="tiny/encoder", embed_dims=(16, 24, 32), widths=(16, 16, 24, 32, 48), depths=(1, 1, 1, 1)
)
TINY_ADAPTER = dict(type="tiny/llm_adapter", hidden_size=48, layers=1, heads=2, feed_forward=64)
CONTROLLERS = (
    dict(type="tiny/controller"),
    dict(type="tiny/rules"),
    dict(type="baselines/fixed", max_views=6, max_tokens=50),
)
CROPPERS = (
    dict(type="tiny/cropper"),
    dict(type="baselines/whole"),
    dict(type="baselines/tiles"),
    dict(type="baselines/random"),
    dict(type="baselines/uncertain", cropper=dict(type="tiny/cropper")),
    dict(type="baselines/oracle"),
)
EVERYTHING = dict(type="baselines/fixed")


def build(controller: dict[str, Any], cropper: dict[str, Any]) -> GeoMag:
    torch.manual_seed(0)
    return GeoMag(
        TINY_ENCODER,
        TINY_ADAPTER,
        controller,
        cropper,
        dict(type="tiny/mask_head"),
        overview_side=SIDE,
        max_new_tokens=6,
    ).eval()


def look_around(model: GeoMag, scene: Noise, looks: dict[View, Look]) -> list[Look]:
    prompt = model.llm_adapter.read([(Turn("user", "every airplane"),)])[0]
    plan = model.granularity_controller.plan(prompt, scene.info)
    with torch.inference_mode():
        return list(model.observe(scene, prompt, plan, looks).looks)


def answer(model: GeoMag, scene: Noise, max_views: float | None = None) -> Findings:
    return model.answer(scene, (Turn("user", "every airplane"),), {}, Limits(max_views))


@pytest.mark.parametrize("cropper", CROPPERS, ids=lambda config: config["type"])
@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda config: config["type"])
def test_any_controller_works_with_any_cropper(
    controller: dict[str, Any], cropper: dict[str, Any]
) -> None:
    model = build(controller, cropper)
    findings = answer(model, Noise(Size(300, 410)), max_views=5)
    assert 1 <= len(findings.observation.looks) <= 6
    assert len(findings.masks) == len(findings.reading.queries)
    sample = ViewSampled(DrawnScenes(length=1, size=(160, 200)), side=SIDE, exchanges=2)[0]
    losses = model.loss([sample])
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(math.isfinite(float(value.detach())) for value in losses.values())


def test_unlimited_equals_uniform_tiles_bit_for_bit() -> None:
    """With relevance None, a random order of looking leaves the masks of the tiling."""
    masks = []
    for cropper in (dict(type="baselines/tiles"), dict(type="baselines/random")):
        model, scene = build(EVERYTHING, cropper), Noise(Size(SIDE * 5 - 7, SIDE * 3 + 5))
        seen = look_around(model, scene, {})
        tiles = geometry.tiles(scene.info.size, SIDE, 1)
        finest = [look.view for look in seen if look.view in set(tiles)]
        assert sorted(finest, key=tiles.index) == tiles
        looks = [seen[place] for place in geometry.raster_order(seen)]
        model.mask_head.kernels[-1].bias.data[-1] = 0  # or it starts from marking nothing
        query = torch.randn(1, model.llm_adapter.query_dim, generator=torch.manual_seed(1))
        with torch.inference_mode():
            masks.append(model.segment(looks, query, 0.5)[0].probability())
    assert (masks[0] == masks[1]).all()
    assert masks[0].std() > 0


def test_the_budget_nests_with_a_relevance_that_is_computed() -> None:
    model = build(
        dict(type="baselines/fixed"),
        dict(type="baselines/uncertain", cropper=dict(type="tiny/cropper")),
    )
    views: list[View] = []
    for budget in (4, 8, 16, math.inf):
        findings = answer(model, Noise(Size(700, 500)), budget)
        seen = [look.view for look in findings.observation.looks]
        assert seen[: len(views)] == views
        views = seen


def test_a_one_pixel_scene_is_answered() -> None:
    model = build(dict(type="tiny/rules"), dict(type="tiny/cropper"))
    findings = answer(model, Noise(Size(1, 1)), math.inf)
    assert [look.view.size for look in findings.observation.looks] == [Size(1, 1)]
    assert SceneInfo(Size(1, 1)) == Noise(Size(1, 1)).info
