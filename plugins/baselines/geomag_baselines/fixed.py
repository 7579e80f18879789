"""A granularity controller that plans the same for every prompt."""

from __future__ import annotations

import math

from geomag.errors import ConfigError
from geomag.values import Level, Plan, Prompt, SceneInfo


class Fixed:
    """Plans what its arguments say (see `geomag.values.Plan`); None bounds nothing.

    Raises:
        ConfigError: a bound is below what anything could keep.
    """

    def __init__(
        self,
        overview_side: int,
        level: str = "pixel",
        stop_below: float | None = None,
        max_views: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        bounds = (
            ("max_views", max_views, 0, "at least 0"),
            ("max_tokens", max_tokens, 1, "at least 1"),
            ("stop_below", stop_below, math.ulp(0), "above 0"),
        )
        wrong = [
            f"{name} is {value}, expected None or {promise}"
            for name, value, least, promise in bounds
            if value is not None and value < least
        ]
        if level not in list(Level):
            wrong.append(f"level is {level!r}, expected one of {', '.join(Level)}")
        if wrong:
            raise ConfigError(f"granularity_controller 'baselines/fixed': {'; '.join(wrong)}")
        self._plan = Plan(
            level=Level(level),
            overview_side=overview_side,
            stop_below=stop_below,
            max_views=math.inf if max_views is None else max_views,
            max_tokens=max_tokens,
        )

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return self._plan
