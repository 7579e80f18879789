"""What of a contract can be read off a component: its signatures and what it states of itself.

The rest, what it does, is checked by `geomag.testing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from torch import nn

from . import contracts

CONTRACTS: dict[str, type] = {
    "vision_encoder": contracts.VisionEncoder,
    "llm_adapter": contracts.LLMAdapter,
    "granularity_controller": contracts.GranularityController,
    "cropper": contracts.Cropper,
    "mask_head": contracts.MaskHead,
}
_ANY: tuple[type, ...] = (contracts.Exporting, contracts.Sourced)
OPTIONAL: dict[str, tuple[type, ...]] = {
    "vision_encoder": _ANY,
    "llm_adapter": _ANY,
    "granularity_controller": (contracts.Learning, contracts.Binding, *_ANY),
    "cropper": (contracts.Binding, *_ANY),
    "mask_head": (contracts.Matching, contracts.Encoding, contracts.Binding, *_ANY),
}
_STARS: dict[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def signature_problems(kind: str, component: Callable[..., object]) -> list[str]:
    """Which methods of a class are missing or cannot be called as the contract says."""
    if not isinstance(component, type):  # a function that builds one; its result is checked
        return []
    problems = []
    for contract in (CONTRACTS[kind], *OPTIONAL[kind]):
        for name, promised in _methods(contract).items():
            spelled, method = _find(component, name)
            if method is not None:
                problems += _mismatch(spelled, promised, method)
            elif contract is CONTRACTS[kind]:
                problems.append(f"{spelled}{_listed(_parameters(promised)[1:])} is missing")
    return problems


def attribute_problems(kind: str, component: object) -> list[str]:
    """Which facts a built component fails to state, or states as something impossible."""
    problems = []
    for name, hint in get_type_hints(CONTRACTS[kind]).items():
        value = getattr(component, name, None)
        if value is None:
            problems.append(f"attribute {name!r} is missing")
        elif hint is int and not _is_count(value):
            problems.append(f"{name} is {value!r}, expected a positive int")
        elif hint == tuple[int, ...] and not (
            isinstance(value, tuple) and value and all(map(_is_count, value))
        ):
            problems.append(f"{name} is {value!r}, expected a tuple of positive ints")
    if kind == "vision_encoder" and not problems:
        problems = _level_problems(component)
    return problems


def _level_problems(encoder: Any) -> list[str]:
    strides, dims = encoder.strides, encoder.embed_dims
    problems = []
    if len(strides) != len(dims):
        problems.append(f"embed_dims {dims} and strides {strides} are not one entry a level each")
    if list(strides) != sorted(strides):
        problems.append(f"strides {strides} are not from finest to coarsest")
    if any(max(strides) % stride for stride in strides):
        problems.append(f"strides {strides} do not all divide the largest")
    return problems


def has_constructor(component: type) -> bool:
    """Whether the class, or something it inherits from, wrote a constructor of its own; that of
    torch modules and that of protocols take anything and mean nothing."""
    for owner in component.__mro__:
        if "__init__" in vars(owner):
            return owner not in (object, nn.Module) and not getattr(owner, "_is_protocol", False)
    return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _methods(contract: type) -> dict[str, Callable[..., object]]:
    return {
        name: member
        for name, member in vars(contract).items()
        if inspect.isfunction(member) and (name == "__call__" or not name.startswith("_"))
    }


def _find(component: type, name: str) -> tuple[str, object | None]:
    """The name of the method that keeps a promise, and the method if there is one."""
    spelled = "forward" if name == "__call__" and issubclass(component, nn.Module) else name
    for owner in component.__mro__:
        if spelled in vars(owner):
            # Inherited from a protocol or from torch, it is only a promise.
            promise_only = owner is nn.Module or getattr(owner, "_is_protocol", False)
            return spelled, None if promise_only else vars(owner)[spelled]
    return spelled, None


def _mismatch(name: str, promised: Callable[..., object], method: object) -> list[str]:
    if isinstance(method, staticmethod):
        found = _parameters(method.__func__)
    elif isinstance(method, classmethod):
        found = _parameters(method.__func__)[1:]
    elif inspect.isfunction(method):
        found = _parameters(method)[1:]
    else:  # a compiled or wrapped method does not tell
        return []
    expected = _parameters(promised)[1:]
    if _fits(found, expected):
        return []
    return [f"{name}{_listed(found)} should be {name}{_listed(expected)}"]


def _fits(found: list[inspect.Parameter], expected: list[inspect.Parameter]) -> bool:
    named = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(mine.name != theirs.name for mine, theirs in zip(named, expected, strict=False)):
        return False
    if len(named) < len(expected) and not any(p.kind == p.VAR_POSITIONAL for p in found):
        return False
    demanded = [p.name for p in found if p.default is p.empty and p.kind not in _STARS]
    return set(demanded) <= {p.name for p in expected}


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _listed(parameters: list[inspect.Parameter]) -> str:
    return f"({', '.join(_STARS.get(p.kind, '') + p.name for p in parameters)})"
