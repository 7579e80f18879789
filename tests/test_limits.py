from __future__ import annotations

import math

import pytest

from geomag import geometry
from geomag.limits import AS_PLANNED, Limits, forecast
from geomag.values import Level, Plan, SceneInfo, Size
from tests.stand_ins import odd_sizes, pyramid_views

SIDE = 8
PLAN = Plan(Level.PIXEL, SIDE, stop_below=3.0, max_views=20, max_tokens=50)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (AS_PLANNED, (3.0, 20, 50)),
        (Limits(max_views=0), (3.0, 0, 50)),
        (Limits(max_views=math.inf), (None, math.inf, 50)),
        (Limits(max_tokens=7), (3.0, 20, 7)),
        (Limits(resolution=0.5), (0.5, 20, 50)),
        (Limits(max_views=math.inf, resolution=0.5), (0.5, math.inf, 50)),
    ],
)
def test_limits_replace_what_was_planned(limits: Limits, expected: tuple[object, ...]) -> None:
    plan = limits.applied(PLAN)
    assert (plan.stop_below, plan.max_views, plan.max_tokens) == expected
    assert (plan.level, plan.overview_side) == (PLAN.level, PLAN.overview_side)


def test_a_forecast_counts_the_pyramid() -> None:
    for size in odd_sizes(200, SIDE):
        found = forecast(Plan(Level.PIXEL, SIDE), SceneInfo(size, resolution=0.25), 64)
        views = pyramid_views(size, SIDE)
        # A view at an edge can be the same on two rungs.
        assert len(views) <= found.views <= 1.25 * len(views) + 1
        assert found.share * size.area >= sum(view.size.area for view in views) - 1e-6
        scales = geometry.rungs(size, SIDE)
        assert found.finest == (scales[-1] if scales else found.coarsest / 0.25) * 0.25
        assert (found.tokens, found.metric) == (64, True)


def test_a_forecast_of_an_enormous_scene_is_made_at_once() -> None:
    size = Size(2_000_000, 1_000_000)
    found = forecast(Plan(Level.PIXEL, 256), SceneInfo(size), 64)
    assert found.views > 30_000_000


def test_a_forecast_follows_budget_and_overlap() -> None:
    info = SceneInfo(Size(200, 200))
    whole = forecast(Plan(Level.PIXEL, SIDE), info, 64)
    assert forecast(Plan(Level.PIXEL, SIDE, max_views=3), info, 64).views == 4
    assert forecast(Plan(Level.IMAGE, SIDE, max_views=0), info, 64).finest == 25
    assert forecast(Plan(Level.PIXEL, SIDE, overlap=2), info, 64).views > whole.views
    assert "scene px" in str(whole)
    assert "closer" not in str(forecast(Plan(Level.IMAGE, SIDE, max_views=0), info, 64))
