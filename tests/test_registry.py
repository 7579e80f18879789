"""Building components from configs, and what a wrong config or component gets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from mmengine.config import ConfigDict
from torch import Tensor, nn

from geomag import plugins, registry
from geomag.contracts import Cropper
from geomag.errors import ConfigError, GeoMagError, PluginError
from geomag.hookspecs import Component
from geomag.registry import CROPPERS, MASK_HEADS, Borrowed, adopt
from geomag.values import Look, LookMasks, Plan, Prompt, View

FACTS = {"visual_dims": (8, 16), "strides": (4, 8), "query_dim": 32}


class Head(nn.Module):
    def __init__(self, query_dim: int, width: int = 4, llm_adapter: Borrowed | None = None) -> None:
        super().__init__()
        self.query_dim, self.width, self.lent = query_dim, width, llm_adapter

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        raise NotImplementedError


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


@pytest.fixture
def local() -> Iterator[None]:
    MASK_HEADS.register_module(name="mine", module=Head)
    yield
    del MASK_HEADS.module_dict["mine"]


def complaint(kind: registry.ComponentRegistry, config: object, **facts: object) -> str:
    with pytest.raises(GeoMagError) as caught:
        kind.build(config, **facts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what can be built ---------------------------------------------------------------------------


def test_a_class_in_the_config_is_built_with_the_facts_it_names() -> None:
    head = MASK_HEADS.build({"type": Head, "width": 7}, **FACTS)
    assert (head.query_dim, head.width) == (32, 7)


@pytest.mark.usefixtures("local")
def test_a_local_class_is_built_by_its_name() -> None:
    assert isinstance(MASK_HEADS.build({"type": "mine"}, **FACTS), Head)


def test_a_plugin_component_is_built_by_its_name() -> None:
    assert type(CROPPERS.build({"type": "baselines/tiles"})).__name__ == "Tiles"


def test_a_dumped_config_names_a_class_by_its_path() -> None:
    assert isinstance(CROPPERS.build({"type": "geomag_baselines.blind.Tiles"}), object)
    assert "cannot be imported" in complaint(CROPPERS, {"type": "geomag_baselines.blind.Tyles"})


def test_mmengine_configs_are_configs_and_stay_as_they_are() -> None:
    config = ConfigDict(type=Head, width=7)
    assert MASK_HEADS.build(config, **FACTS).width == 7
    assert config == {"type": Head, "width": 7}


def test_what_is_built_already_is_handed_through() -> None:
    head = Head(query_dim=3)
    assert MASK_HEADS.build(head, **FACTS) is head


def test_a_function_may_build_a_component() -> None:
    def small_head(query_dim: int) -> Head:
        return Head(query_dim, width=1)

    assert MASK_HEADS.build({"type": small_head}, **FACTS).width == 1


@pytest.mark.parametrize("bases", [(), (Cropper,), (nn.Module,), (nn.Module, Cropper)])
def test_a_component_needs_no_constructor(bases: tuple[type, ...]) -> None:
    made = type("Made", bases, {"relevance": Plain.relevance, "rank": Plain.rank})
    assert isinstance(CROPPERS.build({"type": made}, **FACTS), made)
    assert "unknown argument 'width'" in complaint(CROPPERS, {"type": made, "width": 1})


def test_what_is_borrowed_is_not_saved_twice() -> None:
    lent = nn.Linear(2, 2)
    head = MASK_HEADS.build({"type": Head}, llm_adapter=Borrowed(lent), **FACTS)
    assert head.lent.module is lent
    assert not list(head.parameters())
    assert not head.state_dict()


def test_building_warns_of_nothing() -> None:
    script = (
        "from geomag.registry import CROPPERS, SLOTS\n"
        "CROPPERS.build(dict(type='baselines/tiles'))\n"
        "from mmengine.registry import HOOKS\nHOOKS.get('IterTimerHook')"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


# -- what a config can get wrong -----------------------------------------------------------------


def test_all_argument_faults_are_named_at_once() -> None:
    message = complaint(MASK_HEADS, {"type": Head, "widht": 7, "depth": 2})
    assert "unknown argument 'widht'. Nearest: 'width'" in message
    assert "unknown argument 'depth'" in message
    assert "missing argument 'query_dim'" in message


def test_a_fact_does_not_stand_in_a_config() -> None:
    message = complaint(MASK_HEADS, {"type": Head, "query_dim": 3}, **FACTS)
    assert "'query_dim' is filled in by the model" in message


def test_hidden_arguments_are_refused() -> None:
    class Loose(Head):
        def __init__(self, query_dim: int, **others: Any) -> None:
            super().__init__(query_dim, **others)

    assert "**others" in complaint(MASK_HEADS, {"type": Loose}, **FACTS)


@pytest.mark.usefixtures("local")
def test_an_unknown_local_name_gets_the_nearest_and_a_list() -> None:
    message = complaint(MASK_HEADS, {"type": "mnie"})
    assert "Nearest: 'mine'" in message
    assert "Registered here: mine" in message


def test_an_unknown_plugin_name_gets_the_nearest_and_a_list() -> None:
    message = complaint(CROPPERS, {"type": "baselines/tils"})
    assert "Nearest: 'baselines/tiles'" in message
    assert "baselines/oracle" in message


@pytest.mark.parametrize("config", [{}, {"typ": "a/b"}, {"type": None}, {"type": 3}])
def test_a_config_without_a_usable_type_says_so(config: dict[str, object]) -> None:
    assert "type" in complaint(CROPPERS, config)


def test_a_failing_constructor_is_named_with_its_place() -> None:
    class Failing(Head):
        def __init__(self, query_dim: int) -> None:
            raise ValueError(f"query_dim is {query_dim}\nand that is odd")

    with pytest.raises(ConfigError) as caught:
        MASK_HEADS.build({"type": Failing}, **FACTS)
    assert "ValueError: query_dim is 32 and that is odd" in str(caught.value)
    assert "test_registry.py:" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_broken_plugin_component_is_named_with_package_and_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    component = Component("cropper", "wrong", "collections:Counter")
    plugin = plugins.Plugin("acme", "acme-geomag", "1.2", (component,))
    monkeypatch.setattr(plugins, "lookup", lambda kind, name: (plugin, component))
    assert "'acme/wrong' (acme-geomag 1.2)" in complaint(CROPPERS, {"type": "acme/wrong"})


# -- what is not a slot --------------------------------------------------------------------------


def test_further_kinds_reach_mmengine_when_a_config_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    component = Component("metric", "counting", "collections:Counter")
    plugin = plugins.Plugin("acme", "acme-geomag", "1.2", (component,))
    stock = plugins.Inventory((plugin,), ())
    monkeypatch.setattr(plugins, "stock_of", lambda name: stock)
    monkeypatch.setattr(plugins, "lookup", lambda kind, name: (plugin, component))
    config = {"test_evaluator": [{"type": "acme/counting"}], "work_dir": "a/b"}
    try:
        adopt(config)
        adopt(config)
        assert registry.METRICS.get("acme/counting").__name__ == "Counter"
    finally:
        registry.METRICS.module_dict.pop("acme/counting", None)


def test_adopting_what_is_not_installed_says_so() -> None:
    with pytest.raises(PluginError, match="nobody/counting"):
        adopt({"evaluator": {"type": "nobody/counting"}})
