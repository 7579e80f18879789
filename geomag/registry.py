"""Configs to components: one registry for each slot.

They are root registries of mmengine in its own scope: a second child of one parent in one scope is
an error there, and a scope of our own prints warnings for every other registry.
"""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.registry import DATASETS, HOOKS, METRICS, TRANSFORMS, Registry
from torch import nn

from . import plugins, promises
from .errors import ConfigError, ContractError, GeoMagError, PluginError
from .hookspecs import KINDS, SLOT_KINDS


@dataclass(frozen=True, slots=True, eq=False)
class Borrowed:
    """Another slot's module, handed to a constructor that names that slot, to share its weights.

    It is no module, so what is borrowed is saved once, by its owner.
    """

    module: nn.Module


class ComponentRegistry(Registry):
    """Builds what fills one slot, and checks that it can keep its promise."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind, scope="mmengine")

    def build(self, config: Any, **facts: object) -> Any:
        """The component that `config` describes, or `config` itself where it is one already.

        `type` is "plugin/component", the name of a class registered here, or a class. Of the
        `facts` a constructor is given those that it names.

        Raises:
            ConfigError: unknown or missing arguments, or nothing of that name.
            ContractError: it cannot keep the promise of its slot.
            PluginError: the plugin asked for cannot be used.
        """
        if not isinstance(config, Mapping):
            self._check(f"{self.name} {type(config).__name__}", config, [])
            return config
        arguments = dict(config.items())  # items() imports what mmengine holds lazily
        if arguments.get("type") is None:
            raise ConfigError(f"{self.name}: its config lacks type=, as in type='plugin/name'")
        target, culprit = self._target(arguments.pop("type"))
        problems = promises.signature_problems(self.name, target)
        faults, accepted = _argument_faults(target, arguments, facts)
        if faults:
            broken = [f"it also breaks its contract: {'; '.join(problems)}"] if problems else []
            raise ConfigError(f"{culprit}: {'; '.join(faults + broken)}")
        component = _construct(target, culprit, accepted)
        self._check(culprit, component, problems)
        return component

    def _check(self, culprit: str, component: object, problems: Sequence[str]) -> None:
        found = list(problems) or promises.signature_problems(self.name, type(component))
        found += promises.attribute_problems(self.name, component)
        if found:
            raise ContractError(culprit, found)

    def _target(self, kind: object) -> tuple[Callable[..., object], str]:
        """What to call, and how to call it in a message."""
        if not isinstance(kind, str):
            if not callable(kind):
                raise ConfigError(f"{self.name}: type={kind!r} is neither a name nor a class")
            return kind, f"{self.name} {getattr(kind, '__qualname__', repr(kind))}"
        local = self.module_dict.get(kind)
        if local is not None:
            return local, f"{self.name} {kind!r} ({local.__module__})"
        if "/" in kind:
            plugin, component = plugins.lookup(self.name, kind)
            culprit = f"{self.name} {kind!r} ({plugin.package} {plugin.version})"
            return plugins.load(component, plugin), culprit
        if "." in kind:  # how a dumped config spells a class
            return _imported(kind), f"{self.name} {kind!r}"
        raise ConfigError(self._unknown(kind))

    def _unknown(self, name: str) -> str:
        local, installed = sorted(self.module_dict), plugins.inventory().names(self.name)
        return (
            f"{self.name} {name!r} does not exist.{plugins.nearest(name, [*local, *installed])} "
            f"Registered here: {', '.join(local) or 'none'}. "
            f"Installed: {', '.join(installed) or 'none'}."
        )


VISION_ENCODERS = ComponentRegistry("vision_encoder")
LLM_ADAPTERS = ComponentRegistry("llm_adapter")
GRANULARITY_CONTROLLERS = ComponentRegistry("granularity_controller")
CROPPERS = ComponentRegistry("cropper")
MASK_HEADS = ComponentRegistry("mask_head")

SLOTS: dict[str, ComponentRegistry] = {
    registry.name: registry
    for registry in (VISION_ENCODERS, LLM_ADAPTERS, GRANULARITY_CONTROLLERS, CROPPERS, MASK_HEADS)
}
assert tuple(SLOTS) == SLOT_KINDS

_FURTHER: dict[str, Registry] = {
    "dataset": DATASETS,
    "metric": METRICS,
    "hook": HOOKS,
    "transform": TRANSFORMS,
}


def adopt(config: Any) -> None:
    """Registers with mmengine the datasets, metrics, hooks and transforms of plugins that `config`
    names ("plugin/component"), at any depth, so that the Runner can build them.

    Raises:
        PluginError: one of them is not installed, or its plugin cannot be used.
    """
    if isinstance(config, Mapping):
        for value in config.values():
            adopt(value)
        name = config.get("type")
        if isinstance(name, str) and "/" in name:
            _adopt(name)
    elif isinstance(config, list | tuple):
        for value in config:
            adopt(value)


def _adopt(name: str) -> None:
    if any(name in registry.module_dict for registry in (*SLOTS.values(), *_FURTHER.values())):
        return
    stock = plugins.stock_of(name)
    kinds = [kind for kind in KINDS if name in stock.names(kind)]
    if not kinds:
        names = [known for kind in KINDS for known in plugins.inventory().names(kind)]
        listed = ", ".join(names) or "nothing"
        raise PluginError(
            f"{name!r} is not installed.{plugins.nearest(name, names)} Installed: {listed}."
        )
    for kind in _FURTHER.keys() & kinds:
        plugin, component = plugins.lookup(kind, name)
        _FURTHER[kind].register_module(name=name, module=plugins.load(component, plugin))


def _argument_faults(
    target: Callable[..., object], arguments: Mapping[str, object], facts: Mapping[str, object]
) -> tuple[list[str], dict[str, object]]:
    """What is wrong with the arguments, and those to call it with."""
    named, faults = _parameters(target)
    for name in arguments:
        if name not in named:
            listed = ", ".join(known for known in named if known not in facts) or "none"
            near = plugins.nearest(name, list(named))
            faults.append(f"unknown argument {name!r}.{near} Arguments: {listed}")
        elif name in facts:
            faults.append(f"argument {name!r} is filled in by the model; take it out of the config")
    given = {name: value for name, value in facts.items() if name in named}
    accepted = {**given, **arguments}
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in accepted:
            faults.append(f"missing argument {name!r}")
    return faults, accepted


def _parameters(
    target: Callable[..., object],
) -> tuple[dict[str, inspect.Parameter], list[str]]:
    """The constructor's arguments, and what is wrong with them."""
    if isinstance(target, type) and not promises.has_constructor(target):
        return {}, []
    named, faults = {}, []
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind == parameter.VAR_POSITIONAL else "**"
            faults.append(f"its constructor takes {stars}{name}; name each argument, to show typos")
        elif parameter.kind == parameter.POSITIONAL_ONLY:
            faults.append(f"its constructor takes {name!r} by position only, a config gives names")
        else:
            named[name] = parameter
    return named, faults


def _construct(
    target: Callable[..., object], culprit: str, accepted: Mapping[str, object]
) -> object:
    try:
        return target(**accepted)
    except GeoMagError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{culprit} could not be built: {type(error).__name__}: {error} "
            f"({frame.filename}:{frame.lineno})"
        ) from error


def _imported(path: str) -> Callable[..., object]:
    module, _, name = path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path!r} cannot be imported: {error}") from error
    if not callable(target):
        raise ConfigError(f"{path!r} is not a class")
    return target  # type: ignore[no-any-return]
