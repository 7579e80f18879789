"""The conformance kit as its users meet it: on the command line, from Python, and on paper."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomag import plugins
from geomag.errors import ConfigError, PluginError
from geomag.hookspecs import SLOT_KINDS
from geomag.registry import Borrowed
from geomag.testing import check_component
from geomag.testing.checks import InapplicableError, checks, promise_of
from geomag.testing.conformance import run
from geomag.testing.hidden import hidden
from geomag.testing.subject import Subject
from geomag.values import Look, Plan, Prompt, Size, View
from tests import stand_ins

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")

PLUGIN = """
from geomag.hookspecs import Component, hookimpl


class Eager:
    def relevance(self, looks, prompt):
        return [None] * len(looks)

    def rank(self, looks, relevance, candidates, plan):
        return list(candidates)


class Greedy(Eager):
    def rank(self, looks, relevance, candidates, plan):
        return [*candidates, *candidates]


class Broken(Eager):
    def __init__(self):
        raise RuntimeError("no luck")


@hookimpl
def geomag_components():
    twice = {"check_nothing_is_named_twice": "twice is safer"}
    return [
        Component("cropper", "eager", "acme:Eager"),
        Component("cropper", "greedy", "acme:Greedy"),
        Component("cropper", "excused", "acme:Greedy", excuses=twice),
        Component("cropper", "expired", "acme:Eager", excuses=twice),
        Component("cropper", "misspelt", "acme:Eager", excuses={"check_nothing_is_made": "?"}),
        Component("cropper", "broken", "acme:Broken"),
        Component("cropper", "absent", "acme:Absent"),
        Component("dataset", "pictures", "acme:Eager"),
        Component("metric", "absent", "acme:Absent"),
    ]
"""


def installed(folder: Path, name: str, text: str, group: str = "geomag.v1") -> None:
    """A package as pip would leave it."""
    (folder / f"{name}.py").write_text(text)
    record = folder / f"{name}-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Outcome and reason of each test that `pytest --pyargs geomag.testing -k acme` ran, by id."""
    folder = tmp_path_factory.mktemp("site")
    installed(folder, "acme", PLUGIN)
    installed(folder, "acme_failing", "raise ImportError('a library is missing')")
    installed(folder, "acme_old", "", group="geomag.v0")
    command = [sys.executable, "-m", "pytest", "--pyargs", "geomag.testing", "-k", "acme"]
    ran = subprocess.run(
        [*command, "-vv", "-rA", "--tb=line", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found = re.findall(r"::\w+\[(acme\S*)\] .*?(PASSED|FAILED|SKIPPED|XFAIL)\b(.*)", ran.stdout)
    return {name: f"{outcome}{reason}" for name, outcome, reason in found} | {"": ran.stdout}


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("acme-can_be_used", "PASSED"),
        ("acme/eager-check_nothing_is_named_twice", "PASSED"),
        ("acme/eager-check_relevance_is_a_share", "SKIPPED (acme/eager: it has no opinion"),
        ("acme/greedy-check_nothing_is_named_twice", "FAILED"),
        ("acme/greedy-check_nothing_is_made_up", "PASSED"),
        ("acme/excused-check_nothing_is_named_twice", "XFAIL (twice is safer)"),
        ("acme/expired-check_nothing_is_named_twice", "FAILED"),
        ("acme/excused-excuses", "PASSED"),
        ("acme/misspelt-excuses", "FAILED"),
        ("acme/broken-check_can_be_built", "FAILED"),
        ("acme/broken-check_deterministic", "SKIPPED (acme/broken cannot be built: "),
        ("acme/absent-check_can_be_built", "FAILED"),
        ("acme/pictures-can_be_loaded", "PASSED"),
        ("acme/absent-can_be_loaded", "FAILED"),
        ("acme_failing-can_be_used", "FAILED"),
        ("acme_old-can_be_used", "FAILED"),
    ],
)
def test_command(outcomes: dict[str, str], name: str, outcome: str) -> None:
    assert outcomes[name].startswith(outcome)


def test_command_says_why(outcomes: dict[str, str]) -> None:
    said = outcomes[""]
    assert "ranked views stand there twice" in said
    assert "RuntimeError: no luck" in said
    assert "a library is missing" in said
    assert "Nearest: 'check_nothing_is_made_up'" in said
    assert not [name for name in outcomes if name.startswith(("tiny", "baselines"))]


@pytest.mark.parametrize("component", [stand_ins.Shades, {"type": stand_ins.Shades}])
def test_component_in_any_form(component: Any) -> None:
    assert check_component("vision_encoder", component) == []
    assert check_component("vision_encoder", stand_ins.Shades()) == []
    assert check_component("cropper", "tiny/cropper", strides=(8, 16, 32)) == []


def test_violations_name_check_promise_and_problem() -> None:
    class Lying(stand_ins.Shades):
        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            fine = nn.functional.avg_pool2d(pixels * self.gain, 2)
            return fine, fine

    found = {violation.check: violation for violation in check_component("vision_encoder", Lying())}
    assert set(found) == {"check_stride_is_true"}
    assert "stride 4 promises [2, 3]" in found["check_stride_is_true"].problem
    assert "A level of stride s" in str(found["check_stride_is_true"])


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match="no slot 'head'"):
        check_component("head", stand_ins.Thresholds)
    with pytest.raises(PluginError, match="Nearest: 'tiny/cropper'"):
        check_component("cropper", "tiny/croper")


class Leaning(nn.Module):
    """A cropper that shares the words of the language model."""

    def __init__(self, llm_adapter: Borrowed, visual_dims: Sequence[int], prompt_dim: int) -> None:
        super().__init__()
        self.adapter = llm_adapter
        self.word = nn.Linear(prompt_dim, visual_dims[0])

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        read = self.adapter.module.read([prompt.turns])[0].embedding.mean(0)  # type: ignore[operator]
        wanted = self.word(read)
        return [torch.einsum("chw,c->hw", look.features[0], wanted).sigmoid() for look in looks]

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return candidates


class Keeping(Leaning):
    """Takes the module out of its wrapping, so that it is saved twice, or once too often."""

    def __init__(self, llm_adapter: Borrowed, visual_dims: Sequence[int], prompt_dim: int) -> None:
        super().__init__(llm_adapter, visual_dims, prompt_dim)
        self.spare = [llm_adapter.module]


READER = {
    "type": "tiny/llm_adapter",
    **plugins.find("llm_adapter", "tiny/llm_adapter").tiny,
}


def test_what_is_borrowed_is_built_too() -> None:
    assert check_component("cropper", {"type": Leaning, "llm_adapter": READER}) == []
    kept = check_component("cropper", {"type": Keeping, "llm_adapter": READER})
    assert [violation.check for violation in kept] == ["check_nothing_hidden"]
    alone = check_component("cropper", Leaning)
    assert [violation.check for violation in alone] == ["check_can_be_built"]
    assert "give one in `tiny`" in alone[0].problem


def test_facts_in_a_config_are_those_of_earlier_slots() -> None:
    assert Subject("llm_adapter", "reader", READER)().query_dim == READER["query_dim"]
    head = Subject("mask_head", "head", {"type": "tiny/mask_head", "query_dim": 8})
    assert head.samples(head()).facts.query_dim == 8


def test_silent_starts_are_stirred() -> None:
    class Silent(stand_ins.Shades):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.zeros(3))

    build = Subject("vision_encoder", "silent", {"type": Silent})
    assert build().mix.all()
    assert torch.equal(build().mix, build().mix)
    assert torch.equal(build().gain, torch.ones(1))


@pytest.mark.parametrize("place", ["list", "closure", "method", "object", "slots", "nested"])
def test_hidden_modules_are_found(place: str) -> None:
    layer = nn.Linear(1, 1)

    class Box:
        content = None

    box = Box()
    box.content = layer  # type: ignore[assignment]
    size = Size(1, 1)
    keeper = nn.Module()
    keeper.spare = {  # type: ignore[assignment]
        "list": [layer],
        "closure": lambda: layer,
        "method": layer.forward,
        "object": box,
        "slots": Prompt((), torch.ones(1)),
        "nested": {"a": ([layer], size)},
    }[place]
    found = hidden(keeper)
    assert len(found) == 1
    assert found[0][0].startswith("spare")


def test_what_is_registered_is_not_hidden() -> None:
    keeper = nn.Module()
    keeper.layer = nn.Linear(1, 1)
    keeper.order = [keeper.layer, keeper.layer.weight]  # type: ignore[assignment]
    keeper.owner = Borrowed(nn.Linear(1, 1))  # type: ignore[assignment]
    assert hidden(keeper) == []


def test_checks_do_not_touch_random_numbers_or_threads() -> None:
    build = Subject("vision_encoder", "shades", {"type": stand_ins.Shades})
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    for check in checks("vision_encoder").values():
        with contextlib.suppress(InapplicableError):
            run(check, build)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_what_does_not_apply_is_no_violation() -> None:
    build = Subject("cropper", "tiles", {"type": "baselines/tiles"})
    with pytest.raises(InapplicableError, match="no opinion"):
        run(checks("cropper")["check_relevance_is_a_share"], build)


def test_page_lists_every_promise() -> None:
    listed = set(re.findall(r"^\| `(check_\w+)` \| (.*) \|$", PAGE, re.M))
    promised = {
        (name, promise_of(check)) for kind in SLOT_KINDS for name, check in checks(kind).items()
    }
    assert listed == promised


def test_page_lists_promises_under_their_kind() -> None:
    sections = re.split(r"^### ", PAGE, flags=re.M)[1:]
    every = set(re.findall(r"^\| `(check_\w+)`", sections[0], re.M))
    assert len(sections) == 1 + len(SLOT_KINDS)
    for kind, section in zip(SLOT_KINDS, sections[1:], strict=True):
        assert f"`{kind}`" in section.splitlines()[0]
        assert set(re.findall(r"^\| `(check_\w+)`", section, re.M)) | every == set(checks(kind))
