"""Finding what a component keeps where torch does not look."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from ..registry import Borrowed

DEPTH = 6
_TORCH_OWN = ("_parameters", "_buffers", "_modules")


def hidden(component: Any) -> list[tuple[str, str]]:
    """Where modules and tensors lie that the component owns but has not registered: path, type."""
    found: list[tuple[str, str]] = []
    known: set[int] = set()
    if isinstance(component, nn.Module):
        for module in component.modules():
            known.add(id(module))
            known.update(id(tensor) for tensor in module._parameters.values())
            known.update(id(tensor) for tensor in module._buffers.values())
        for path, module in component.named_modules():
            for name, value in vars(module).items():
                if name not in _TORCH_OWN:
                    _walk(value, f"{path}.{name}".lstrip("."), known, found, DEPTH)
    else:
        for name, value in vars(component).items() if hasattr(component, "__dict__") else ():
            _walk(value, name, known, found, DEPTH)
    return found


def _walk(value: Any, path: str, known: set[int], found: list[tuple[str, str]], depth: int) -> None:
    if depth == 0 or id(value) in known or isinstance(value, Borrowed):
        return
    if isinstance(value, nn.Module | Tensor):
        found.append((path, type(value).__name__))
        return
    known.add(id(value))
    for name, inner in _inside(value):
        _walk(inner, f"{path}{name}", known, found, depth - 1)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What can be reached from a value in one step."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{place}]", inner) for place, inner in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from _inside([value.func, *value.args, *value.keywords.values()])
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # a cell can be empty
                yield "()", cell.cell_contents
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        # With slots it has no __dict__.
        yield from ((f".{item.name}", getattr(value, item.name)) for item in fields(value))
    elif not isinstance(value, type | types.ModuleType) and hasattr(value, "__dict__"):
        yield from ((f".{name}", inner) for name, inner in vars(value).items())
