"""What a plugin imports from GeoMag: one marker, one dataclass. Costs no torch.

A plugin's entry point, in the group `geomag.v1`, names a module with one hook::

    @hookimpl
    def geomag_components() -> list[Component]:
        return [Component("mask_head", "lines", "geomag_acme.lines:LineHead", tiny={"width": 8})]

Its entry-point name and the component's name, joined by a slash, are what configs say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pluggy

PROJECT = "geomag"
ENTRY_POINT_GROUP = "geomag.v1"
"""Carries `contracts.API_VERSION`, so that a plugin for another version is never imported."""

SLOT_KINDS = ("vision_encoder", "llm_adapter", "granularity_controller", "cropper", "mask_head")
"""The five slots, in the order a model builds them."""
KINDS = (*SLOT_KINDS, "dataset", "metric", "hook", "transform", "model")
"""The slots; what mmengine's own registries build; and whole models. A model is a function without
arguments that returns a dict: `config`, the arguments of a `GeoMag`, and `weights`, a file or None.
"""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Component:
    """A class that a plugin offers, as data: `target` is imported when somebody asks for it.

    `tiny` holds arguments for an instance that fits a CPU and needs no download, so that anybody
    can test it. `excuses` names conformance checks that it knowingly fails, with the reason; a
    check that passes in spite of its excuse fails the kit. `unavailable` says what this machine
    lacks for it, and the cure: it is then listed, but cannot be built.
    """

    kind: str
    name: str
    target: str
    tiny: Mapping[str, object] = field(default_factory=dict)
    excuses: Mapping[str, str] = field(default_factory=dict)
    unavailable: str = ""


@hookspec
def geomag_components() -> list[Component]:  # type: ignore[empty-body]  # pluggy's way to specify
    """The components of this plugin."""
