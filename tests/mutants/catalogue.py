"""Where mutants are listed: components of `plugins/tiny` with one broken promise each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geomag import plugins
from geomag.testing.subject import Subject

ORIGINALS = {
    "vision_encoder": "tiny/encoder",
    "llm_adapter": "tiny/llm_adapter",
    "granularity_controller": "tiny/controller",
    "cropper": "tiny/cropper",
    "mask_head": "tiny/mask_head",
}
SMALLER: dict[str, dict[str, Any]] = {"llm_adapter": {"hidden_size": 48, "layers": 1}}
"""Mutants are many: what is slow is made smaller still."""


@dataclass(frozen=True)
class Mutant:
    """A component, and the checks that catch it: the one it is made for, then those that cannot but
    notice too. None catches a mutant that is none: it shows that others fail for what they break.
    """

    kind: str
    component: Any
    caught_by: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}-{self.component.__name__}"

    def subject(self) -> Subject:
        tiny = plugins.find(self.kind, ORIGINALS[self.kind]).tiny
        config = {"type": self.component, **tiny, **SMALLER.get(self.kind, {})}
        return Subject(self.kind, str(self), config)


MUTANTS: list[Mutant] = []


def mutant(kind: str, *caught_by: str) -> Callable[[Any], Any]:
    """Lists a class among the mutants of its kind."""

    def listed(component: Any) -> Any:
        MUTANTS.append(Mutant(kind, component, caught_by))
        return component

    return listed
