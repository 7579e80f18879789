"""The console command: what it prints, what it returns, and how fast it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geomag import cli, plugins
from geomag.errors import SceneError

SOURCE = """
from geomag.hookspecs import Component, hookimpl

@hookimpl
def geomag_components():
    return [Component("cropper", "edges", "collections:Counter")]
"""


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        [sys.executable, "-m", "geomag.cli", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


def install(site: Path, package: str, plugin: str, source: str, group: str = "geomag.v1") -> None:
    module = package.replace("-", "_")
    (site / f"{module}.py").write_text(source)
    folder = site / f"{module}-1.5.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {package}\nVersion: 1.5\n")
    (folder / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {module}\n")


def test_help_answers_within_a_second() -> None:
    taken = []
    for _ in range(3):  # the machine may be busy
        start = time.perf_counter()
        ran = run("--help")
        taken.append(time.perf_counter() - start)
        assert ran.returncode == 0
        assert "predict" in ran.stdout
        assert "plugins" in ran.stdout
    assert min(taken) < 1


def test_plugins_are_listed_with_what_they_offer(tmp_path: Path) -> None:
    install(tmp_path, "shop-heads", "acme", SOURCE)
    ran = run("plugins", path=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "acme  (shop-heads 1.5)" in ran.stdout
    assert "acme/edges" in ran.stdout
    assert "baselines/tiles" in ran.stdout


def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    install(tmp_path, "shop-broken", "broken", "import a_library_nobody_has")
    install(tmp_path, "shop-future", "future", "raise SystemExit", group="geomag.v9")
    install(tmp_path, "shop-rival", "baselines", SOURCE)
    ran = run("plugins", path=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    usable, _, unusable = ran.stdout.partition("Cannot be used:")
    assert "baselines" not in usable
    lines = unusable.strip().splitlines()
    assert len(lines) == 4
    assert [line for line in lines if "shop-broken 1.5" in line and "a_library_nobody_has" in line]
    assert [line for line in lines if "shop-future 1.5" in line and "geomag.v9" in line]
    assert [line for line in lines if "(shop-rival 1.5): geomag-vlm-baselines 0.1.0" in line]


def test_nothing_installed_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plugins, "inventory", lambda: plugins.Inventory((), ()))
    assert cli.main(["plugins"]) == 0
    assert "No plugin is installed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code"), [(SceneError("x.png is not\nan image"), 2), (KeyboardInterrupt(), 130)]
)
def test_what_the_user_got_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
) -> None:
    def fail() -> plugins.Inventory:
        raise raised

    monkeypatch.setattr(plugins, "inventory", fail)
    assert cli.main(["plugins"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("geomag: ")


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "inventory", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["plugins"])


@pytest.mark.parametrize("arguments", [[], ["predicts"], ["plugins", "--all"]])
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
