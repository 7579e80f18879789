"""GeoMag on OpenMMLab: its backbones, its mask decoder and its compiled ops."""

from __future__ import annotations

from geomag.hookspecs import Component, hookimpl

__version__ = "0.1.0"


@hookimpl
def geomag_components() -> list[Component]:
    return [
        Component("vision_encoder", "backbone", "geomag_openmmlab.backbone:Backbone"),
        Component("mask_head", "mask2former", "geomag_openmmlab.mask2former:Mask2Former"),
    ]
