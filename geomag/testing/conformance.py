"""Which checks are run on which component, and what came of them."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .. import plugins
from ..errors import ConfigError
from ..hookspecs import SLOT_KINDS, Component
from . import (  # noqa: F401  they file their checks
    adapter,
    controller,
    cropper,
    encoder,
    every_kind,
    generation,
    mask_head,
)
from .checks import FIRST, BrokenPromiseError, Check, InapplicableError, checks, promise_of
from .subject import Subject


@dataclass(frozen=True)
class Violation:
    """A promise that a component does not keep, and what it did instead."""

    check: str
    promise: str
    problem: str

    def __str__(self) -> str:
        return f"{self.check}: {self.problem} (promised: {self.promise})"


def check_component(kind: str, component: Any, **facts: Any) -> list[Violation]:
    """Every promise of its slot that a component breaks; [] where it keeps all.

    `component` is what a model's config may say: "plugin/component" (built from its `tiny`
    arguments), a class, a dict with `type`, or an instance. `facts` are what a model would tell it
    (`visual_dims`, `strides`, `prompt_dim`, `query_dim`, `overview_side`); an instance that was
    built for some needs them.

    Raises:
        ConfigError: there is no such kind of slot.
        PluginError: there is no such plugin or component.
    """
    if kind not in SLOT_KINDS:
        raise ConfigError(f"there is no slot {kind!r}; slots: {', '.join(SLOT_KINDS)}")
    return violations(_subject(kind, component, facts))


def violations(build: Subject) -> list[Violation]:
    """Every check of its kind that a component fails; only the first where it cannot be built."""
    found = []
    for check in checks(build.kind).values():
        try:
            run(check, build)
        except InapplicableError:
            continue
        except Exception as error:  # noqa: BLE001  whatever a component raises breaks the promise
            found.append(Violation(check.__name__, promise_of(check), describe(error)))
            if check.__name__ == FIRST:
                break
    return found


def run(check: Check, build: Subject) -> None:
    """Runs one check without gradients, and on one thread: the parts are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            check(build)
    finally:
        torch.set_num_threads(threads)


def describe(error: Exception) -> str:
    """What went wrong, and where in the component's code."""
    if isinstance(error, BrokenPromiseError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"it raised {type(error).__name__}: {' '.join(str(error).split())}{place}"


def subjects() -> list[tuple[Component, Subject]]:
    """The components of all plugins that can be used here and fill a slot."""
    return [
        (component, Subject.of_plugin(plugin, component))
        for plugin in plugins.inventory().plugins
        for component in plugin.components
        if component.kind in SLOT_KINDS and not component.unavailable
    ]


def _subject(kind: str, component: Any, facts: Mapping[str, Any]) -> Subject:
    if isinstance(component, str):
        plugin, offered = plugins.lookup(kind, component)
        known = Subject.of_plugin(plugin, offered)
        return Subject(kind, component, known.config, facts, known.companions)
    if isinstance(component, type):
        return Subject(kind, component.__name__, {"type": component}, facts)
    return Subject(kind, getattr(type(component), "__name__", str(component)), component, facts)
