"""The component under test: how to build it, again and again, and what it is built beside."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .. import plugins, registry
from ..errors import PluginError
from ..hookspecs import SLOT_KINDS, Component
from ..plugins import Plugin
from .samples import Facts, Samples

STIR = 0.02


class Subject:
    """Builds one component, always from the same seed; checks call it `build`.

    Parameters that are zero throughout get small random values: parts that start silent would keep
    any promise. Facts that a model would supply are made up, unless `facts` or the config give
    them. An earlier slot that the constructor names is built from `companions`, and facts follow.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        config: Any,
        facts: Mapping[str, Any] | None = None,
        companions: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.name, self.config = kind, name, config
        self.companions = dict(companions or {})
        self.memory: dict[str, Any] = {}
        """What is dear to make and shared by several checks."""
        given = dict(facts or {})
        if isinstance(config, Mapping):
            self.config = dict(config.items())
            known = Facts().of(kind)  # a width that no slot before states is an argument of its own
            given |= {fact: self.config.pop(fact) for fact in known if fact in self.config}
            for slot in self._earlier():
                if isinstance(self.config.get(slot), Mapping):
                    self.companions[slot] = self.config.pop(slot)
        self._given = Facts() | given

    @classmethod
    def of_plugin(cls, plugin: Plugin, component: Component) -> Subject:
        """A component of a plugin from its `tiny` arguments, beside the plugin's own components."""
        companions: dict[str, Any] = {}
        for other in plugin.components:
            if other.kind in SLOT_KINDS and other.kind not in companions:
                companions[other.kind] = {"type": f"{plugin.name}/{other.name}", **other.tiny}
        name = f"{plugin.name}/{component.name}"
        return cls(component.kind, name, {"type": name, **component.tiny}, companions=companions)

    def __call__(self, seed: int = 0, **facts: Any) -> Any:
        """The component, built for prediction.

        Raises:
            GeoMagError: it cannot be built.
        """
        return self.parts(seed, **facts)[0]

    def parts(self, seed: int = 0, **facts: Any) -> tuple[Any, dict[str, nn.Module]]:
        """The component, and the earlier slots that it borrows from."""
        with _seeded(seed):
            beside, known = self._beside()
            borrowed = {slot: registry.Borrowed(module) for slot, module in beside.items()}
            slot = registry.SLOTS[self.kind]
            if isinstance(self.config, Mapping):
                component = slot.build(self.config, **(known | facts).of(self.kind), **borrowed)
            else:
                component = slot.build(copy.deepcopy(self.config))
            if isinstance(component, nn.Module):
                # An instance cannot be built from another seed; its weights are moved instead.
                _stir(component, everything=seed > 0 and not isinstance(self.config, Mapping))
                component.eval()
        return component, beside

    def samples(
        self,
        component: Any,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> Samples:
        """Stand-ins that fit the component."""
        if "beside" not in self.memory:
            with _seeded(0):
                self.memory["beside"] = self._beside()
        beside, known = self.memory["beside"]
        facts = known | Facts.stated(component)
        reader = component if self.kind == "llm_adapter" else beside.get("llm_adapter")
        return Samples(facts, seed, dtype, device, reader)

    def _beside(self) -> tuple[dict[str, nn.Module], Facts]:
        """The earlier slots that the constructor names, built anew, and the facts they state."""
        beside: dict[str, nn.Module] = {}
        facts, named = self._given, self._named()
        for slot in self._earlier():
            if slot not in named:
                continue
            if slot not in self.companions:
                raise PluginError(
                    f"{self.kind} {self.name!r} is built beside a {slot}, and its plugin offers "
                    f"none; give one in `tiny`, as in {slot}=dict(type='plugin/name')"
                )
            config = self.companions[slot]
            companion = Subject(slot, f"{slot} of {self.name}", config, facts.all, self.companions)
            beside[slot] = companion()
            facts |= Facts.stated(beside[slot])
        return beside, facts

    def _earlier(self) -> tuple[str, ...]:
        return SLOT_KINDS[: SLOT_KINDS.index(self.kind)]

    def _named(self) -> set[str]:
        """The arguments of the constructor."""
        if not isinstance(self.config, Mapping):
            return set()
        target, local = self.config.get("type"), registry.SLOTS[self.kind].module_dict
        if isinstance(target, str):
            target = local.get(target) or _declared(self.kind, target)
        return set(inspect.signature(target).parameters) if callable(target) else set()


def _declared(kind: str, name: str) -> Callable[..., Any]:
    plugin, component = plugins.lookup(kind, name)
    return plugins.load(component, plugin)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _stir(component: nn.Module, everything: bool) -> None:
    with torch.no_grad():
        for parameter in component.parameters():
            if parameter.is_floating_point() and (everything or not parameter.any()):
                parameter.add_(torch.randn_like(parameter) * STIR)
