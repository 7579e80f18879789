"""The checks, filed by the kind of component whose promise each of them is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import GeoMagError
from ..hookspecs import SLOT_KINDS

if TYPE_CHECKING:
    from .subject import Subject

Check = Callable[["Subject"], None]


class BrokenPromiseError(GeoMagError):
    """A component does not do what its slot promises."""


class InapplicableError(GeoMagError):
    """A check has nothing to say about this component."""


FIRST = "check_can_be_built"
_FILED: dict[str, dict[str, Check]] = {kind: {} for kind in SLOT_KINDS}


def promise(*kinds: str) -> Callable[[Check], Check]:
    """Files a check under the kinds that give its promise, under all five where none is named.

    A check builds its component by calling its argument and raises `BrokenPromiseError`, or lets
    the component raise; its docstring is the promise.
    """

    def file(check: Check) -> Check:
        for kind in kinds or SLOT_KINDS:
            _FILED[kind][check.__name__] = check
        return check

    return file


def checks(kind: str) -> dict[str, Check]:
    """The checks of one kind by name; first the one without which there is nothing to check."""
    from . import conformance  # noqa: F401  it imports every file of checks, and they file themselves

    filed = _FILED[kind]
    return {name: filed[name] for name in sorted(filed, key=lambda name: name != FIRST)}


def promise_of(check: Check) -> str:
    """What a check is about, in one line."""
    return " ".join(inspect.cleandoc(check.__doc__ or "").split("\n\n")[0].split())


def expect(kept: Any, problem: str) -> None:
    """Raises `BrokenPromiseError` unless the promise is kept."""
    if not kept:
        raise BrokenPromiseError(problem)


def expect_none(problems: list[str]) -> None:
    """Raises `BrokenPromiseError` with all problems at once, if there are any."""
    if problems:
        raise BrokenPromiseError("; ".join(problems))


def needs(applies: Any, reason: str) -> None:
    """Raises `InapplicableError` unless the check has something to say."""
    if not applies:
        raise InapplicableError(reason)
