"""A job that is killed again and again ends as one that never was; and the tool would notice."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import shutil
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import pytest

from geomag import job
from tests.test_job import Asked, scene

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "stress_job.py"
SCENES, KILLS = 20, 6
ENDINGS = (".json", ".geojson", ".tif")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("stress_job", TOOL)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["stress_job"] = module  # its dataclasses look themselves up
    specification.loader.exec_module(module)
    return module


def answer_all(scenes: Path, out: Path) -> None:
    """The job, in a process of its own, with a model of stand-ins."""
    # tqdm makes a lock, which other ways of starting processes would have to clear away for us.
    multiprocessing.set_start_method("fork", force=True)
    outputs = tuple(f"{out}/{{scene}}{ending}" for ending in ENDINGS)
    found = tuple(job.scenes_in([scenes], each=True))
    prompts = ("every ship",)
    job.run(job.Job(found, prompts, outputs, {"model": "stand-ins"}), Asked(prompts), print)


class Child:
    """A process, forked from one that has imported all that takes time."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


@pytest.fixture(scope="module")
def folders(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What an undisturbed job made, and what one made that was killed."""
    folder = tmp_path_factory.mktemp("stress")
    for number in range(SCENES):
        scene(str(folder / "scenes" / f"{number}.png"), number)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "rasterio.shutil"])

    def start(out: Path) -> Child:
        return Child(context.Process(target=answer_all, args=(folder / "scenes", out)))

    calm, killed = folder / "calm", folder / "killed"
    Child(context.Process(target=int)).wait()  # now the imports are over
    pace = tool.undisturbed(start, calm)
    tally = tool.disturbed(start, killed, SCENES, KILLS, pace, seed=1)
    assert tally.kills.total() == KILLS
    assert tally.starts > KILLS
    return calm, killed


def test_killed_is_as_undisturbed(tool: ModuleType, folders: tuple[Path, Path]) -> None:
    assert list(tool.differences(*folders, SCENES)) == []
    names = {path.name for path in folders[1].iterdir()}
    assert len(names) == len(ENDINGS) * SCENES + 1


def test_what_is_wrong_would_be_noticed(
    tool: ModuleType, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    calm, out = folders[0], tmp_path / "out"
    shutil.copytree(folders[1], out)
    (out / "3.tif").unlink()
    (out / ".4.tif.abcdefgh.part").write_text("half")
    answer = json.loads((out / "5.json").read_text())
    answer["cost"]["seconds"] = 7
    (out / "5.json").write_text(json.dumps(answer))
    (out / "6.json").write_text(json.dumps(answer | {"text": "?"}))
    manifest = out / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:-1]) + lines[1])
    found = "\n".join(tool.differences(calm, out, SCENES))
    for words in (
        "3.tif is missing",
        ".4.tif.abcdefgh.part is left over",
        "6.json differs",
        "0.png is noted 2 times",
        "19 scenes are done in 20 lines, not 20",
        "5.json is not what the manifest says",
    ):
        assert words in found
    assert "5.json differs" not in found
