"""GeoMag at full scale, on transformers and peft."""

from __future__ import annotations

from geomag.hookspecs import Component, hookimpl

__version__ = "0.1.0"


@hookimpl
def geomag_components() -> list[Component]:
    return [
        Component(
            "vision_encoder",
            "encoder",
            "geomag_reference.encoder:Encoder",
            tiny={"layers": (1, -1), "tune": {"r": 2}},
            excuses={
                "check_padding_does_not_leak": "attention sees the whole canvas, as pretrained"
            },
        ),
        Component(
            "llm_adapter", "causal_lm", "geomag_reference.causal_lm:CausalLM", tiny={"tune": "all"}
        ),
        Component(
            "llm_adapter", "vlm", "geomag_reference.vlm:VisionLanguageModel", tiny={"tune": "all"}
        ),
        Component(
            "granularity_controller",
            "controller",
            "geomag_reference.controller:Controller",
            tiny={"width": 32},
        ),
        Component("cropper", "cropper", "geomag_reference.cropper:Cropper"),
        Component("mask_head", "sam", "geomag_reference.sam:Sam"),
        Component("mask_head", "sam2", "geomag_reference.sam2:Sam2"),
    ]
