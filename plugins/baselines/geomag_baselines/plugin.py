"""What this package offers to GeoMag."""

from __future__ import annotations

from geomag.hookspecs import Component, hookimpl


@hookimpl
def geomag_components() -> list[Component]:
    return [
        Component("cropper", "whole", "geomag_baselines.blind:Whole"),
        Component("cropper", "tiles", "geomag_baselines.blind:Tiles"),
        Component("cropper", "random", "geomag_baselines.blind:Random"),
        Component(
            "cropper",
            "uncertain",
            "geomag_baselines.uncertain:Uncertain",
            tiny={"cropper": {"type": "baselines/tiles"}},
        ),
        Component("cropper", "oracle", "geomag_baselines.oracle:Oracle"),
        Component(
            "granularity_controller",
            "fixed",
            "geomag_baselines.fixed:Fixed",
            tiny={"max_views": 8, "max_tokens": 64},
        ),
    ]
