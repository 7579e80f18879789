"""The benchmark of scale: what it counts, and when it says that a target holds."""

from __future__ import annotations

import importlib
import mmap
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
MB = 1 << 20

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="the benchmark reads Linux's /proc"
)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("benchmark_scale")


def measured(
    side: int, ask: float = 1.0, save: float = 1.0, peak: float = 800e6, views: int = 33
) -> dict[str, Any]:
    """What one process may have measured."""

    def step(seconds: float, memory: float) -> dict[str, float]:
        return {"seconds": seconds, "computing": 0, "peak": memory, "asked": 3e6, "disk": 2e6}

    stages = {"ask": step(ask, 5e8), ".geojson": step(save, 5e8), ".tif": step(save, 5e8)}
    stages[".png"] = step(save, peak)
    return {
        **{"side": side, "bytes": side, "views": views, "tokens": 100, "loaded": 4e8},
        "stages": stages,
    }


def test_targets_hold(tool: ModuleType) -> None:
    found = [measured(2048), measured(65536, ask=1.4, save=9.0, peak=870e6)]
    assert [line[-1] for line in tool.targets(found)] == ["yes"] * 3


@pytest.mark.parametrize(
    ("fault", "missed"),
    [
        ({"peak": 900e6}, "peak memory of all, highest to lowest"),
        ({"ask": 1.6}, "time to ask, largest to smallest"),
    ],
)
def test_a_target_is_missed(tool: ModuleType, fault: dict[str, float], missed: str) -> None:
    found = [measured(2048), measured(8192), measured(65536, **fault)]
    assert [line[0] for line in tool.targets(found) if line[-1] == "no"] == [missed]


def test_all_memory_counts(tool: ModuleType) -> None:
    found = [measured(2048, peak=1.51e9), measured(65536, peak=1.51e9)]
    assert [line[0] for line in tool.targets(found) if line[-1] == "no"] == ["peak memory of all"]


def test_one_slow_process_is_not_the_median_but_its_memory_counts(tool: ModuleType) -> None:
    large = [measured(65536, ask=ask, peak=peak) for ask, peak in ((1, 8e8), (9, 9e8), (1.2, 8e8))]
    verdicts = {line[0]: line[1] for line in tool.targets([*large, measured(2048)])}
    assert verdicts["time to ask, largest to smallest"] == "1.20x"
    assert verdicts["peak memory of all, highest to lowest"] == "1.12x"


def test_tables_show_every_scene_against_the_smallest(tool: ModuleType) -> None:
    found = [measured(65536, ask=1.25, views=31), measured(2048), measured(65536, ask=1.25)]
    smallest, largest = tool.times(found).splitlines()[2:]
    assert smallest.split("|")[1].strip() == "2048"
    assert "| 31 to 33 |" in largest
    assert "| 1.25 s | 1.25 |" in largest
    assert tool.sizes(found).splitlines()[3].rstrip(" |").endswith("3.00 MB | 2.00 MB")


def test_stages_are_told_apart(tool: ModuleType, tmp_path: Path) -> None:
    """A session that reads 4 MB, and an answer of which the picture takes 64 MB of memory."""
    scene = tmp_path / "scene.bin"
    scene.write_bytes(bytes(4 * MB))

    def save(path: Path) -> None:
        if path.suffix == ".png":
            fresh = mmap.mmap(-1, 64 * MB)  # what numpy allocates may have been in use before
            fresh[:: mmap.PAGESIZE] = bytes(64 * MB // mmap.PAGESIZE)
            fresh.close()

    def ask(prompt: str, max_views: int) -> Any:
        assert (prompt, max_views) == ("every ship", 5)
        scene.read_bytes()
        return SimpleNamespace(save=save)

    predictor = SimpleNamespace(open=lambda path: SimpleNamespace(ask=ask))
    _, stages = tool.request(predictor, scene, "every ship", 5, tmp_path)
    assert list(stages) == ["ask", ".geojson", ".tif", ".png"]
    assert 4 * MB <= stages["ask"]["asked"] < 5 * MB
    assert stages[".tif"]["asked"] < MB
    assert stages[".png"]["peak"] - stages[".tif"]["peak"] > 50 * MB


def test_scenes_that_lie_there_are_kept(tool: ModuleType, tmp_path: Path) -> None:
    options = ["--sides", "2048", "--data", str(tmp_path), "--work-dir", str(tmp_path)]
    paths = tool.build(tool._parser().parse_args(options))
    assert sorted(paths) == [1024, 2048]
    written = {path: path.stat().st_mtime_ns for path in paths.values()}
    assert tool.build(tool._parser().parse_args(options)) == paths
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == written


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The tool as a person runs it, on drawn scenes."""
    command = [sys.executable, str(TOOLS / "benchmark_scale.py"), *arguments]
    return subprocess.run(
        [*command, "--work-dir", str(folder), "--data", str(folder)], capture_output=True, text=True
    )


def test_user_faults_are_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.png")
    for arguments in (["--sides", "1000"], ["--tiles", missing]):
        ran = run(tmp_path, *arguments)
        assert ran.returncode == 2, ran.stderr
        assert "error: " in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_runs_on_drawn_scenes(tmp_path: Path) -> None:
    ran = run(tmp_path, "--sides", "1024", "2048", "--runs", "1", "--max-views", "4")
    assert ran.returncode in (0, 1), ran.stderr
    assert "| 2048 | " in ran.stdout
    assert "| peak memory of all" in ran.stdout
