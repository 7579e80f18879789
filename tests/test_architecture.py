"""The rules of the tree, read off its syntax: who imports whom, how long, how deep.

Argue with the numbers and the order here, not with each other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 300
LONGEST_FUNCTION = 50

# Each part of geomag imports only parts named before it; a new part takes its place here.
ORDER = (
    *("errors", "hookspecs", "values", "contracts", "spelling", "geometry", "ranking"),
    *("outline", "tile"),
    *("masks", "joining"),
    *("limits", "assembly", "tokens", "losses", "plugins", "promises", "registry", "weights"),
    *("learning", "model", "scenes", "data", "evaluation", "export", "answer"),
    *("class_prompts", "class_map", "session"),
    *("inference", "naming", "manifest", "job", "engine", "testing", "predict_request"),
    *("predict_command", "doctor_command", "cli"),
)
NEVER_IN_CORE = re.compile(r"geomag_\w+|transformers|peft|mmseg|mmdet|mmcv|torchvision")
VAGUE = {"utils", "misc", "helpers", "common", "base", "core", "builder"}
ABSOLUTE = re.compile(r"(?<![\w.:/])/(home|root|work|mnt|tmp|farm|opt|Users)/\w")


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "build" not in path.parts)


CORE = sources("geomag")
ALL = sources("geomag", "plugins", "tools", "configs", "tests")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports when it runs, relative ones written out."""
    package, module = path.relative_to(ROOT).parent.parts, tree(path)
    typing = [node for node in module.body if isinstance(node, ast.If)]
    for_types = {
        id(inner)
        for node in typing
        if ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(module):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            source = ".".join((*above, *filter(None, [node.module])))
            yield from (f"{source}.{alias.name}" for alias in node.names)


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def broken(rule: Iterator[str]) -> None:
    problems = sorted(set(rule))
    assert not problems, "\n" + "\n".join(problems)


def test_core_imports_point_one_way() -> None:
    def rule() -> Iterator[str]:
        for path in CORE:
            part = path.relative_to(ROOT / "geomag").with_suffix("").parts[0]
            if part == "__init__":
                continue
            if part not in ORDER:
                yield f"geomag/{part} has no place in ORDER yet"
                continue
            for name in imports(path):
                other = (*name.split("."), "")[1] if name.startswith("geomag.") else part
                if other in ORDER and ORDER.index(other) > ORDER.index(part):
                    yield f"{path.relative_to(ROOT)} imports {name}"

    broken(rule())


def test_core_knows_no_component() -> None:
    broken(
        f"{path.relative_to(ROOT)} imports {name}"
        for path in CORE
        for name in imports(path)
        if NEVER_IN_CORE.fullmatch(name.split(".")[0])
    )


def test_files_and_functions_are_short() -> None:
    def rule() -> Iterator[str]:
        for path in ALL:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > LONGEST_FILE:
                yield f"{path.relative_to(ROOT)} has {lines} lines"
            for node in functions(tree(path)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"

    broken(rule())


def test_inheritance_is_one_deep() -> None:
    bases = {
        node.name: [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
        for path in sources("geomag", "plugins")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    broken(
        f"{name} inherits {base}, which inherits {above}"
        for name, parents in bases.items()
        for base in parents
        for above in bases.get(base, [])
        if above in bases
    )


def test_files_have_telling_names() -> None:
    broken(str(path.relative_to(ROOT)) for path in ALL if path.stem in VAGUE)


def test_only_main_prints() -> None:
    def rule() -> Iterator[str]:
        for path in sources("geomag", "plugins", "tools", "configs"):
            module = tree(path)
            mains = [node for node in functions(module) if node.name == "main"]
            allowed = {id(inner) for node in mains for inner in ast.walk(node)}
            for node in ast.walk(module):
                name = getattr(node, "func", None)
                if isinstance(name, ast.Name) and name.id == "print" and id(node) not in allowed:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}"

    broken(rule())


def test_no_path_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    texts = (".py", ".cfg", ".toml", ".md", ".txt", ".yaml", ".json", "Makefile", "run")
    broken(
        f"{name}: {found.group()}"
        for name in listed.stdout.split("\0")
        if name.endswith(texts) and (ROOT / name).is_file()
        for found in ABSOLUTE.finditer((ROOT / name).read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"]])
def test_listing_costs_no_torch(arguments: list[str]) -> None:
    script = (
        "import sys, contextlib, geomag.cli, geomag.hookspecs, geomag.plugins\n"
        f"with contextlib.suppress(SystemExit): geomag.cli.main({arguments!r})\n"
        "sys.exit('imported: torch' if 'torch' in sys.modules else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
