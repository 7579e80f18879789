"""What can be read off a component: signatures and attributes, all violations at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor, nn

from geomag import registry
from geomag.contracts import Cropper
from geomag.errors import ContractError, GeoMagError
from geomag.registry import CROPPERS, MASK_HEADS, VISION_ENCODERS
from geomag.values import Look, Plan, Prompt, View


class Plain:
    """A cropper with no base class and no constructor."""

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [None] * len(looks)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return candidates


class Encoder(nn.Module):
    def __init__(
        self, embed_dims: Any = (8, 16), strides: Any = (4, 8), bands: Any = 3, stated: bool = True
    ) -> None:
        super().__init__()
        if stated:
            self.embed_dims, self.strides, self.bands = embed_dims, strides, bands

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (pixels,)


def complaint(kind: registry.ComponentRegistry, config: object, **facts: object) -> str:
    with pytest.raises(GeoMagError) as caught:
        kind.build(config, **facts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_violations_are_named_at_once() -> None:
    class Wrong:
        def relevance(self, looks: object) -> None: ...

        def bind(self, shapes: object) -> None: ...

    with pytest.raises(ContractError) as caught:
        CROPPERS.build({"type": Wrong})
    assert caught.value.problems == (
        "relevance(looks) should be relevance(looks, prompt)",
        "rank(looks, relevance, candidates, plan) is missing",
        "bind(shapes) should be bind(targets)",
    )


def test_signatures_and_attributes_are_named_together() -> None:
    class Wrong(Encoder):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return (images,)

    message = complaint(VISION_ENCODERS, {"type": Wrong, "bands": 0})
    assert "forward(images) should be forward(pixels)" in message
    assert "bands is 0, expected a positive int" in message


def test_arguments_and_signatures_are_named_together() -> None:
    class Wrong(Encoder):
        def forward(self) -> None: ...

    message = complaint(VISION_ENCODERS, {"type": Wrong, "band": 3})
    assert "Nearest: 'bands'" in message
    assert "forward() should be forward(pixels)" in message


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"stated": False}, "'embed_dims' is missing; attribute 'strides' is missing; attribute"),
        ({"embed_dims": [8, 16]}, "embed_dims is [8, 16], expected a tuple of positive ints"),
        ({"embed_dims": ()}, "embed_dims is (), expected a tuple"),
        ({"embed_dims": (8,)}, "not one entry a level"),
        ({"embed_dims": (8, 1.5)}, "embed_dims is (8, 1.5)"),
        ({"strides": (8, 4)}, "not from finest to coarsest"),
        ({"strides": (3, 8)}, "do not all divide the largest"),
        ({"bands": True}, "bands is True, expected a positive int"),
    ],
)
def test_impossible_facts_are_named(stated: dict[str, object], expected: str) -> None:
    assert expected in complaint(VISION_ENCODERS, dict(type=Encoder, **stated))
    VISION_ENCODERS.build({"type": Encoder})


@pytest.mark.parametrize("base", [nn.Module, object, Cropper])
def test_a_promise_that_is_only_inherited_is_missing(base: type) -> None:
    made = type("Made", (base,), {"relevance": Plain.relevance})
    assert "rank(looks, relevance, candidates, plan) is missing" in complaint(
        CROPPERS, {"type": made}
    )
    empty = type("Empty", (nn.Module,), {})
    assert "forward(looks, queries) is missing" in complaint(MASK_HEADS, {"type": empty})


def test_a_call_of_its_own_will_do_without_torch() -> None:
    class Callable:
        def __call__(self, looks: object, queries: object) -> None: ...

    MASK_HEADS.build({"type": Callable})
    assert "__call__(looks, queries) is missing" in complaint(MASK_HEADS, {"type": Plain})


def test_more_arguments_than_promised_need_defaults() -> None:
    class More(Plain):
        def relevance(self, looks: object, prompt: object, scale: float = 1) -> Any: ...

    class TooMany(Plain):
        def relevance(self, looks: object, prompt: object, *, scale: float) -> Any: ...

    class Static(Plain):
        @staticmethod
        def relevance(looks: object, prompt: object) -> Any: ...

    CROPPERS.build({"type": More})
    CROPPERS.build({"type": Static})
    assert "relevance(looks, prompt, scale)" in complaint(CROPPERS, {"type": TooMany})


def test_what_is_built_already_is_checked_too() -> None:
    assert "is missing" in complaint(CROPPERS, Encoder())
