"""What whoever asks allows, and what an answer can then cost at most."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from . import geometry
from .values import Level, Plan, SceneInfo, Size


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a plan, see there, that whoever asks sets; None leaves one to the controller.

    `resolution` is the plan's `stop_below`. Where `max_views` is inf and there is no resolution,
    the plan goes down to native.
    """

    max_views: float | None = None
    max_tokens: int | None = None
    resolution: float | None = None

    def applied(self, plan: Plan) -> Plan:
        """The plan within these limits."""
        closest = None if self.max_views == math.inf else plan.stop_below
        return replace(
            plan,
            stop_below=closest if self.resolution is None else self.resolution,
            max_views=plan.max_views if self.max_views is None else self.max_views,
            max_tokens=plan.max_tokens if self.max_tokens is None else self.max_tokens,
        )


AS_PLANNED = Limits()
"""Nothing is set; the controller decides."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan can come to at most, known before a pixel is read.

    `views` counts the overview, of size `overview`, too; `share` is what all of them show over what
    the scene has. `finest` is the resolution of the closest looks and `coarsest` that of the
    overview: in metres per look pixel where `metric`, else in scene pixels per look pixel.
    """

    level: Level
    overview: Size
    coarsest: float
    finest: float
    metric: bool
    views: int
    share: float
    tokens: int

    def __str__(self) -> str:
        unit = "m/px" if self.metric else "scene px/px"
        closer = f", closer looks down to {self.finest:.3g} {unit}" if self.views > 1 else ""
        views = "view" if self.views == 1 else "views"
        return (
            f"{self.level}: overview {self.overview.width} x {self.overview.height} px at "
            f"{self.coarsest:.3g} {unit}{closer}; at most {self.views} {views}, {self.share:.1%} "
            f"of the scene's pixels, {self.tokens} tokens"
        )


def forecast(plan: Plan, info: SceneInfo, most_tokens: int) -> Forecast:
    """What a plan can come to where the language adapter takes `most_tokens`."""
    side = plan.overview_side
    whole = geometry.overview(info.size, side)
    scales = geometry.planned_rungs(plan, info) if plan.max_views else ()
    views = pixels = 0
    for scale in scales:
        # A grid is as long as the strips of scene along its two sides.
        down = geometry.tiles(Size(info.size.height, 1), side, scale, overlap=plan.overlap)
        across = geometry.tiles(Size(1, info.size.width), side, scale, overlap=plan.overlap)
        views += len(down) * len(across)
        pixels += sum(v.size.height for v in down) * sum(v.size.width for v in across)
    allowed = int(min(views, plan.max_views))
    pixels = whole.size.area + min(pixels, allowed * side**2)
    unit = info.resolution or 1.0
    return Forecast(
        level=plan.level,
        overview=whole.size,
        coarsest=whole.scale * unit,
        finest=(scales[-1] if allowed else whole.scale) * unit,
        metric=info.resolution is not None,
        views=1 + allowed,
        share=pixels / info.size.area,
        tokens=most_tokens if plan.max_tokens is None else min(plan.max_tokens, most_tokens),
    )
