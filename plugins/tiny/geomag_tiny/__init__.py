"""GeoMag's embedded default: all five slots, small enough for a CPU."""

from __future__ import annotations

from geomag.hookspecs import Component, hookimpl

__version__ = "0.1.0"


@hookimpl
def geomag_components() -> list[Component]:
    return [
        Component(
            "vision_encoder",
            "encoder",
            "geomag_tiny.encoder:Encoder",
            tiny={"embed_dims": (16, 24, 32), "widths": (16, 16, 24, 32, 48), "heads": 3},
        ),
        Component(
            "llm_adapter",
            "llm_adapter",
            "geomag_tiny.llm_adapter:LLMAdapter",
            tiny={"hidden_size": 96, "layers": 2, "heads": 3, "feed_forward": 192, "query_dim": 48},
        ),
        Component("granularity_controller", "controller", "geomag_tiny.controller:Controller"),
        Component("granularity_controller", "rules", "geomag_tiny.rules:Rules"),
        Component("cropper", "cropper", "geomag_tiny.cropper:Cropper", tiny={"width": 32}),
        Component("mask_head", "mask_head", "geomag_tiny.mask_head:MaskHead", tiny={"hidden": 8}),
        Component("model", "default", "geomag_tiny.default:model"),
    ]
