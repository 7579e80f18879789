"""Configs are diagrams: one level of `_base_`, no code, every value there when it is touched."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest
from mmengine.config import Config

from geomag.hookspecs import SLOT_KINDS
from geomag.model import GeoMag
from geomag.plugins import find

ROOT = Path(__file__).resolve().parents[1]
BASES = sorted((ROOT / "configs" / "_base_").glob("*.py"))
LEAVES = sorted(set((ROOT / "configs").rglob("*.py")) - set(BASES))

every_config = pytest.mark.parametrize(
    "path", [*BASES, *LEAVES], ids=lambda path: str(path.relative_to(ROOT / "configs"))
)
every_leaf = pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)


def inherited(path: Path) -> list[str]:
    """What a config reads as its base, as written."""
    return [
        "." * node.level + (node.module or "")
        for block in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(block, ast.With) and "read_base" in ast.unparse(block.items[0])
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
    ]


def touch(value: object, where: str = "") -> int:
    """Resolves what a config names lazily, at any depth; returns how many values there were."""
    if isinstance(value, Mapping):
        return sum(touch(value[key], f"{where}.{key}") for key in value)
    if isinstance(value, list | tuple):
        return sum(touch(item, f"{where}[{place}]") for place, item in enumerate(value))
    assert "Lazy" not in type(value).__name__, where
    return 1


def test_there_are_configs() -> None:
    assert BASES
    assert LEAVES


@every_config
def test_base_is_one_level_deep(path: Path) -> None:
    if path in BASES:
        assert not inherited(path)
    assert all(name.lstrip(".").startswith("_base_.") for name in inherited(path))


@every_config
def test_config_holds_no_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda), node.lineno
        if isinstance(node, ast.Import):  # mmengine cannot parse `import a, b`
            assert len(node.names) == 1, node.lineno


@every_config
def test_every_value_can_be_had(path: Path) -> None:
    config = Config.fromfile(path)
    assert touch({key: config[key] for key in config}) > 0


@every_leaf
def test_model_is_written_out_and_installed(path: Path) -> None:
    written = ast.parse(path.read_text(encoding="utf-8"))
    names = [ast.unparse(node.targets[0]) for node in written.body if isinstance(node, ast.Assign)]
    assert "model" in names
    model = Config.fromfile(path).model
    # A yardstick fills no more slots than it has.
    kinds = [kind for kind in SLOT_KINDS if kind in model or model.type is GeoMag]
    assert kinds
    for kind in kinds:
        named = model[kind].type
        # plugins/openmmlab has an environment of its own, where its tests build its config.
        if isinstance(named, str) and not named.startswith("openmmlab/"):
            find(kind, named)
