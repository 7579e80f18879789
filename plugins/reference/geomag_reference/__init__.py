"""GeoMag at full scale, on transformers and peft."""

from __future__ import annotations

from geomag.hookspecs import Component, hookimpl

__version__ = "0.1.0"


@hookimpl
def geomag_components() -> list[Component]:
    return [
        Component("vision_encoder", "encoder", "geomag_reference.encoder:Encoder"),
        Component("llm_adapter", "causal_lm", "geomag_reference.causal_lm:CausalLM"),
        Component("llm_adapter", "vlm", "geomag_reference.vlm:VisionLanguageModel"),
        Component("granularity_controller", "controller", "geomag_reference.controller:Controller"),
        Component("cropper", "cropper", "geomag_reference.cropper:Cropper"),
        Component("mask_head", "sam", "geomag_reference.sam:Sam"),
        Component("mask_head", "sam2", "geomag_reference.sam2:Sam2"),
    ]
