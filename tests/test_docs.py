"""The documents say what the code does: every name they owe a reader, every command they give."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import geomag
from geomag import contracts, errors, hookspecs
from geomag import registry as slots

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/*.md")])
CEREMONY = re.compile(r"(forward pass|initiali[sz]es? |constructor|this (class|function))", re.I)


def documented() -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for path in sorted((ROOT / "geomag").rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(ROOT))
        found.append((name, ast.get_docstring(module)))
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                found.append((f"{name}:{node.lineno} {node.name}", ast.get_docstring(node)))
    return found


def test_docstrings_promise_something() -> None:
    problems = [
        f"{where}: {text!r}"
        for where, text in documented()
        if text is None or text.split("\n\n")[0].rstrip()[-1] not in ".:" or CEREMONY.match(text)
    ]
    assert not problems, "\n" + "\n".join(problems)


def classes_of(module: ModuleType) -> list[type]:
    found = inspect.getmembers(module, inspect.isclass)
    return [value for _, value in found if value.__module__ == module.__name__]


def public() -> list[type]:
    return [getattr(geomag, name) for name in geomag.__all__ if name != "__version__"]


def test_public_names_have_docstrings() -> None:
    owed = [*public(), *classes_of(contracts), *classes_of(errors)]
    owed += [hookspecs.Component, hookspecs.geomag_components]
    assert not [value.__name__ for value in owed if not value.__doc__]


def test_public_methods_have_docstrings() -> None:
    missing = [
        f"{owner.__name__}.{name}"
        for owner in public()
        for name, value in inspect.getmembers(owner, inspect.isroutine)
        if not name.startswith("_") and not value.__doc__
    ]
    assert not missing


def test_slots_are_documented() -> None:
    for kind, registry in slots.SLOTS.items():
        contract = next(name for name in vars(contracts) if name.lower() == kind.replace("_", ""))
        assert getattr(slots, f"{kind}s".upper()) is registry
        row = next(line for line in PLUGINS.splitlines() if line.startswith(f"| `{contract}`"))
        assert f"`{kind}`" in row
        assert f"`{kind}s`".upper() in row
        promised = re.search(r"May be built with: (.*)", getattr(contracts, contract).__doc__)
        facts = re.findall(r"`\w+`", promised.group(1)) if promised else []
        assert re.findall(r"`\w+`", row.split("|")[4]) == facts


def test_hooks_are_documented_with_their_arguments() -> None:
    hooks = [
        value
        for _, value in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(value, f"{hookspecs.PROJECT}_spec")
    ]
    assert hooks
    for hook in hooks:
        assert f"def {hook.__name__}({', '.join(inspect.signature(hook).parameters)})" in PLUGINS
    for field in inspect.signature(hookspecs.Component).parameters:
        assert f"| `{field}` |" in PLUGINS


def test_errors_are_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for error in classes_of(errors):
        assert f"| `{error.__name__}` |" in page


def test_links_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.M)) <= rules
    for name in re.findall(r"\b(?:tools|configs|geomag|tests)/[\w/]+\.py\b", text):
        assert (ROOT / name).is_file(), name
    for name in set(re.findall(r"(?:^|`)geomag ([a-z]+)", text, re.M)):
        ran = subprocess.run(
            [sys.executable, "-m", "geomag.cli", name, "--help"], capture_output=True
        )
        assert ran.returncode == 0, name


def test_examples_compile_and_import() -> None:
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    ]
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "geomag":
                exec(compile(ast.Module([node], []), "example", "exec"), {})
