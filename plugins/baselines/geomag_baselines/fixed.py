"""A granularity controller that plans the same for every prompt."""

from __future__ import annotations

import math

from geomag.values import Level, Plan, Prompt, SceneInfo


class Fixed:
    """Plans what its arguments say (see `geomag.values.Plan`); None bounds nothing."""

    def __init__(
        self,
        overview_side: int,
        level: str = "pixel",
        stop_below: float | None = None,
        max_views: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._plan = Plan(
            level=Level(level),
            overview_side=overview_side,
            stop_below=stop_below,
            max_views=math.inf if max_views is None else max_views,
            max_tokens=max_tokens,
        )

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        return self._plan
