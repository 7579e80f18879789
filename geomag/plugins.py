"""Plugins: find their entry points, load their declarations, classify what can be used.

Finding imports nothing. Loading imports the declaring module of a plugin, never its components.
pluggy would skip the second of two equal names and any misspelt hook without a word, and would let
one failing import take the program down; so finding and isolating are done here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pluggy

from . import hookspecs
from .errors import PluginError
from .hookspecs import ENTRY_POINT_GROUP, KINDS, PROJECT, Component

_GROUP_PREFIX = ENTRY_POINT_GROUP.rstrip("0123456789")


@dataclass(frozen=True)
class Plugin:
    """A package whose components can be used."""

    name: str
    package: str
    version: str
    components: tuple[Component, ...]


@dataclass(frozen=True)
class Problem:
    """A package that declares a plugin which cannot be used, and why."""

    plugin: str
    package: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.package} {self.version}): {self.reason}"


@dataclass(frozen=True)
class Inventory:
    """What is installed, sorted by name."""

    plugins: tuple[Plugin, ...]
    problems: tuple[Problem, ...]

    def names(self, kind: str) -> list[str]:
        """What a config may say for this kind."""
        return [
            f"{plugin.name}/{component.name}"
            for plugin in self.plugins
            for component in plugin.components
            if component.kind == kind
        ]


def inventory(entry_points: Iterable[EntryPoint] | None = None) -> Inventory:
    """Everything that is installed, or that `entry_points` declare, usable or not."""
    return _installed_inventory() if entry_points is None else _classify(entry_points)


def find(kind: str, name: str, entry_points: Iterable[EntryPoint] | None = None) -> Component:
    """The component that configs call `name`, "plugin/component".

    Raises:
        PluginError: it is not installed, or its plugin cannot be used.
    """
    return lookup(kind, name, entry_points)[1]


def lookup(
    kind: str, name: str, entry_points: Iterable[EntryPoint] | None = None
) -> tuple[Plugin, Component]:
    """Like `find`, with the plugin that offers it. Other plugins are not imported, unless the name
    is unknown and the message has to list them."""
    found = _installed() if entry_points is None else tuple(entry_points)
    component_name = name.partition("/")[2]
    for plugin in stock_of(name, found).plugins:
        for component in plugin.components:
            if (component.kind, component.name) == (kind, component_name):
                return plugin, component
    raise PluginError(_unknown(kind, name, _classify(found)))


def stock_of(name: str, entry_points: Iterable[EntryPoint] | None = None) -> Inventory:
    """What is installed under the plugin name in `name`; no other plugin is imported.

    Raises:
        PluginError: that plugin cannot be used.
    """
    found = _installed() if entry_points is None else entry_points
    plugin_name = name.partition("/")[0]
    asked = _classify(entry for entry in found if entry.name == plugin_name)
    if not asked.plugins and asked.problems:
        raise PluginError("; ".join(str(problem) for problem in asked.problems))
    return asked


def load(component: Component, plugin: Plugin | None = None) -> Callable[..., Any]:
    """Imports what a component declares: a class; for a "model", a function.

    Raises:
        PluginError: its target cannot be imported, or lacks something on this machine.
    """
    module_name, _, attribute = component.target.partition(":")
    culprit = f"{component.kind} {component.name!r}"
    if plugin is not None:
        offered = f"'{plugin.name}/{component.name}' ({plugin.package} {plugin.version})"
        culprit = f"{component.kind} {offered}"
    if component.unavailable:
        raise PluginError(f"{culprit} cannot be used here: {component.unavailable}")
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{culprit}: its target {component.target!r} cannot be imported: {_describe(error)}"
        ) from error
    loaded: Callable[..., Any] = target
    if not isinstance(target, type) and not (component.kind == "model" and callable(target)):
        expected = "function" if component.kind == "model" else "class"
        raise PluginError(f"{culprit}: its target {component.target!r} is not a {expected}")
    return loaded


def nearest(name: str, names: Sequence[str]) -> str:
    """' Nearest: ....', or nothing when no name is like it."""
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not matches:  # often the component's name is right and the plugin's is not
        tails = {known.rpartition("/")[2]: known for known in names}
        matches = [
            tails[tail] for tail in difflib.get_close_matches(name.rpartition("/")[2], tails, n=1)
        ]
    return f" Nearest: {matches[0]!r}." if matches else ""


@cache
def _installed() -> tuple[EntryPoint, ...]:
    found = metadata.entry_points()
    return tuple(entry for group in found.groups for entry in found.select(group=group))


@cache
def _installed_inventory() -> Inventory:
    return _classify(_installed())


def _classify(entry_points: Iterable[EntryPoint]) -> Inventory:
    ours = sorted(
        (entry for entry in entry_points if entry.group.startswith(_GROUP_PREFIX)),
        key=lambda entry: (entry.name, _package(entry), entry.group),
    )
    current = [entry for entry in ours if entry.group == ENTRY_POINT_GROUP]
    plugins: list[Plugin] = []
    problems = [_problem(entry, _other_version(entry)) for entry in ours if entry not in current]
    for entry in current:
        rivals = [other for other in current if other.name == entry.name and other is not entry]
        reasons = [_conflict(entry, rivals)] if rivals else []
        components: list[Component] = []
        if not rivals:
            components, reasons = _declared(entry)
        if reasons:
            problems.append(_problem(entry, "; ".join(reasons)))
        else:
            plugins.append(Plugin(entry.name, *_origin(entry), tuple(components)))
    problems.sort(key=lambda problem: (problem.plugin, problem.package))
    return Inventory(tuple(plugins), tuple(problems))


def _declared(entry: EntryPoint) -> tuple[list[Component], list[str]]:
    """What the plugin's hook returns, and what is wrong with it."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        module: ModuleType = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's import may raise anything
        return [], [f"its import failed: {_describe(error)}"]
    try:
        manager.register(module, entry.name)
        manager.check_pending()
        if not manager.hook.geomag_components.get_hookimpls():
            return [], [f"{entry.value} has no function geomag_components() marked with @hookimpl"]
        returned = manager.hook.geomag_components()
    except pluggy.PluginValidationError as error:
        return [], [f"its hook does not fit: {error}"]
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return [], [f"geomag_components() failed: {_describe(error)}"]
    if not returned or not isinstance(returned[0], list | tuple):  # pluggy leaves out None
        return [], [f"geomag_components() returned {(*returned, None)[0]!r}, expected a list"]
    return list(returned[0]), _faults(returned[0])


def _faults(components: Sequence[object]) -> list[str]:
    faults: list[str] = []
    seen: set[tuple[str, str]] = set()
    for component in components:
        if not isinstance(component, Component) or not all(
            isinstance(text, str) for text in (component.kind, component.name, component.target)
        ):
            faults.append(f"{component!r} is not a Component of kind, name and target as text")
            continue
        if component.kind not in KINDS:
            faults.append(
                f"component {component.name!r} is of unknown kind {component.kind!r}."
                f"{nearest(component.kind, KINDS)} Kinds: {', '.join(KINDS)}"
            )
        if not component.name or set(component.name) & set("/. "):
            faults.append(f"component name {component.name!r} is empty or has a slash, dot, blank")
        if not all(component.target.partition(":")):
            faults.append(
                f"component {component.name!r} has target {component.target!r}, "
                "expected 'package.module:Class'"
            )
        if (component.kind, component.name) in seen:
            faults.append(f"{component.kind} {component.name!r} is offered twice")
        seen.add((component.kind, component.name))
    return faults


def _unknown(kind: str, name: str, stock: Inventory) -> str:
    if kind not in KINDS:
        return f"no component has kind {kind!r}.{nearest(kind, KINDS)} Kinds: {', '.join(KINDS)}"
    names = stock.names(kind)
    others = [other for other in KINDS if name in stock.names(other)]
    hint = f" It is a {others[0]}." if others else nearest(name, names)
    listed = ", ".join(names) or "none"
    return f"{kind} {name!r} is not installed.{hint} Installed {kind}s: {listed}."


def _conflict(entry: EntryPoint, rivals: Sequence[EntryPoint]) -> str:
    packages = " and ".join(" ".join(_origin(rival)) for rival in rivals)
    return f"{packages} has a plugin of the same name; uninstall all but one"


def _other_version(entry: EntryPoint) -> str:
    return (
        f"it is written for {entry.group}, this is {ENTRY_POINT_GROUP}; "
        "install a release of it for this version"
    )


def _problem(entry: EntryPoint, reason: str) -> Problem:
    return Problem(entry.name, *_origin(entry), " ".join(reason.split()))


def _origin(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:  # made by hand, as in a test
        return entry.module, "unknown version"
    return entry.dist.name, entry.dist.version


def _package(entry: EntryPoint) -> str:
    return _origin(entry)[0]


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
