"""Mutants of what all kinds promise: one broken habit, in each of the five."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geomag.contracts import Shape
from geomag_tiny.controller import Controller
from geomag_tiny.cropper import Cropper
from geomag_tiny.encoder import Encoder
from geomag_tiny.llm_adapter import LLMAdapter
from geomag_tiny.mask_head import MaskHead
from tests.mutants.catalogue import mutant

Change = Callable[[Any, Tensor], Tensor]
KINDS: dict[str, type[nn.Module]] = {
    "vision_encoder": Encoder,
    "llm_adapter": LLMAdapter,
    "granularity_controller": Controller,
    "cropper": Cropper,
    "mask_head": MaskHead,
}
BLIND_TO_BINDING = ("vision_encoder", "llm_adapter")


def tinted(values: Tensor, tint: Tensor) -> Tensor:
    """Every column times one plus a tint, in turn: no normalisation undoes that."""
    columns = torch.arange(values.shape[-1], device=values.device) % len(tint)
    return values * (1 + tint.to(values.dtype)[columns])


def receiving(kind: str, name: str, change: Change) -> Any:
    """A component that changes what it is handed before it does its job."""
    base: Any = KINDS[kind]

    def looks(self: Any, seen: Sequence[Any]) -> list[Any]:
        return [
            replace(look, features=tuple(change(self, level) for level in look.features))
            for look in seen
        ]

    def pixels(self: Any, pixels: Tensor) -> Any:
        return base.forward(self, change(self, pixels))

    def tokens(self: Any, tokens: Any, prompts: Any) -> Any:
        changed = [
            [replace(item, features=change(self, item.features)) for item in sample]
            for sample in tokens
        ]
        return base._prefixes(self, changed, prompts)

    def prompts(self: Any, prompts: Any, infos: Any) -> Any:
        changed = [replace(item, embedding=change(self, item.embedding)) for item in prompts]
        return base._judge(self, changed, infos)

    def judged(self: Any, seen: Any, prompt: Any) -> Any:
        return base._judge(self, looks(self, seen), prompt)

    def queries(self: Any, looks: Any, queries: Any) -> Any:
        return base.forward(self, looks, [change(self, query) for query in queries])

    method: dict[str, tuple[str, Any]] = {
        "vision_encoder": ("forward", pixels),
        "llm_adapter": ("_prefixes", tokens),
        "granularity_controller": ("_judge", prompts),
        "cropper": ("_judge", judged),
        "mask_head": ("forward", queries),
    }
    return type(name, (base,), dict([method[kind]]))


def built(component: Any, then: Callable[[Any], None]) -> Any:
    """The component with something done at the end of its constructor."""
    build = component.__init__

    def constructor(self: Any, *arguments: Any, **named: Any) -> None:
        build(self, *arguments, **named)
        then(self)

    # The registry reads the arguments off the signature.
    constructor.__wrapped__ = build  # type: ignore[attr-defined]
    component.__init__ = constructor
    return component


def noisy(self: Any, values: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(torch.initial_seed())
    return tinted(values, torch.rand(7, generator=draw).to(values.device))


def calibrated(self: Any, values: Tensor) -> Tensor:
    """Its first input sets the tone for good."""
    if "tone" not in vars(self) and values.numel():
        self.tone = float(values.detach().mean())
    return tinted(values, torch.tensor([0.0, getattr(self, "tone", 0.0) * 5]))


def careless(self: Any, values: Tensor) -> Tensor:
    values.detach().clamp_(-0.9, 0.9)
    return values


def forgetful(self: Any, values: Tensor) -> Tensor:
    return tinted(values, self.gain)


def single(self: Any, values: Tensor) -> Tensor:
    return values @ torch.eye(values.shape[-1], dtype=torch.float32)


def hoarding(self: Any, values: Tensor) -> Tensor:
    if "kept" not in vars(self):
        self.kept = torch.full((1,), 0.1) + 0.1
    # Multiplied by a weight, so that going back through it needs what was kept.
    return values * (next(self.parameters()).sum() * self.kept * 0 + 1).to(values.dtype)


def hide(self: Any) -> None:
    self.spare = [nn.Linear(2, 2)]


def enclose(self: Any) -> None:
    layer = nn.Linear(2, 2)
    self.spare = lambda values: layer(values)


def keep_loose(self: Any) -> None:
    self.spare = {"scale": torch.ones(2)}


def gain(self: Any) -> None:
    self.register_buffer("gain", torch.rand(7), persistent=False)


def idle(self: Any) -> None:
    self.spare = nn.Parameter(torch.ones(2))


class _Told:
    """Was told something once, and goes on knowing it."""

    told = False

    def bind(self, targets: Sequence[Shape]) -> None:
        self.told = self.told or bool(targets)


def knowing(self: Any, values: Tensor) -> Tensor:
    return tinted(values, torch.tensor([0.0, 3.0 if self.told else 0.0]))


def _demanding(kind: str) -> Any:
    """Its constructor asks for what nobody supplies."""

    def constructor(self: Any, flavour: str) -> None:
        raise AssertionError

    return type("Demanding", (KINDS[kind],), {"__init__": constructor})


def forgets(self: Any) -> list[str]:
    """Names what trains, which a checkpoint would then leave out."""
    return [name for name, _ in self.named_parameters()][:1]


for name, habit in {"Enclosing": enclose, "Loose": keep_loose}.items():
    mutant("cropper", "check_nothing_hidden")(built(type(name, (Cropper,), {}), habit))
for kind, base in KINDS.items():
    adapts = kind == "llm_adapter"
    mutant(kind, "check_can_be_built")(_demanding(kind))
    mutant(kind, "check_deterministic")(receiving(kind, "Noisy", noisy))
    # What comes first sets the tone of a batch, too.
    first = ["check_order_of_looks_does_not_matter"] if kind == "mask_head" else []
    mutant(kind, "check_forgets_earlier_calls", *first)(receiving(kind, "Calibrated", calibrated))
    mutant(kind, "check_input_unchanged")(receiving(kind, "Careless", careless))
    mutant(kind, "check_state_dict_is_all")(built(receiving(kind, "Forgetful", forgetful), gain))
    mutant(kind, "check_follows_dtype_and_device")(receiving(kind, "Single", single))
    mutant(kind, "check_learns_after_answering")(receiving(kind, "Hoarding", hoarding))
    mutant(kind, "check_sourced_never_trains")(type("Forgetting", (base,), {"sourced": forgets}))
    mutant(kind, "check_nothing_hidden")(built(type("Hiding", (base,), {}), hide))
    mutant(
        kind,
        "check_gradient_reaches_parameters",
        *(["check_reply_without_marker_keeps_the_graph"] if adapts else []),
    )(built(type("Idle", (base,), {}), idle))
    if kind not in BLIND_TO_BINDING:
        knowledgeable = receiving(kind, "Knowing", knowing)
        knowledgeable.bind, knowledgeable.told = _Told.bind, False
        mutant(kind, "check_forgets_what_was_bound")(knowledgeable)
