"""The controller that plans what it was told to."""

from __future__ import annotations

import math

import pytest
import torch

from geomag.errors import ConfigError
from geomag.registry import GRANULARITY_CONTROLLERS
from geomag.values import Level, Plan, Prompt, SceneInfo, Size, Turn

PROMPT = Prompt((Turn("user", "every ship"),), torch.zeros(1, 4))


def planned(**arguments: object) -> Plan:
    config = {"type": "baselines/fixed", **arguments}
    controller = GRANULARITY_CONTROLLERS.build(config, prompt_dim=4, overview_side=64)
    return controller.plan(PROMPT, SceneInfo(Size(100, 100)))


def test_nothing_said_bounds_nothing() -> None:
    assert planned() == Plan(Level.PIXEL, 64, None, math.inf, None)


def test_what_is_said_is_planned() -> None:
    plan = planned(level="image", stop_below=2.5, max_views=0, max_tokens=16)
    assert plan == Plan(Level.IMAGE, 64, 2.5, 0, 16)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"level": "pixels"}, "pixels"),
        ({"max_view": 3}, "Nearest: 'max_views'"),
        ({"max_views": -1}, "max_views is -1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop_below": 0.0}, "stop_below is 0.0"),
        ({"overview_side": 32}, "filled in by the model"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        planned(**wrong)
