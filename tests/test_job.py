"""Jobs over many scenes: what is written, what is skipped, what stops them."""

from __future__ import annotations

import errno
import gc
import json
import os
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geomag.answer import Answer
from geomag.errors import GeoMagError, OutputError, SceneError
from geomag.job import Job, Report, run
from geomag.model import GeoMag
from geomag.scenes import open_scene
from geomag.session import Session
from tests.stand_ins import Closest, Moody, Parrot, Shades, Thresholds

PROMPTS = ("every ship", "what is there?")
SLOTS: dict[str, type] = {
    "vision_encoder": Shades,
    "llm_adapter": Parrot,
    "granularity_controller": Closest,
    "cropper": Moody,
    "mask_head": Thresholds,
}


class Asked:
    """Answers with a model of stand-ins, and keeps the names of the scenes it was asked about."""

    def __init__(self, prompts: Sequence[str] = PROMPTS) -> None:
        self._prompts = list(prompts)
        slots = {slot: {"type": kind} for slot, kind in SLOTS.items()}
        self._model = GeoMag(**slots, overview_side=8)
        self.names: list[str] = []

    def __call__(self, scene: Path) -> list[Answer]:
        self.names.append(scene.name)
        return Session(self._model, open_scene(scene)).ask(self._prompts)


def scene(name: str, seed: int = 0, side: int = 12) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(name)
    return Path(name)


def again(job: Job) -> tuple[list[str], Report, list[str]]:
    """Runs a job; the scenes that were asked about, the report, and what was told."""
    asked, told = Asked(job.prompts), list[str]()
    report = run(job, asked, told.append)
    return asked.names, report, told


def lines(path: str = "out/manifest.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def contents(folder: str = "out") -> dict[str, bytes]:
    found = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Three scenes, in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    scenes = tuple(scene(f"in/{name}.png", seed) for seed, name in enumerate("abc"))
    return Job(scenes, PROMPTS, ("out/{scene}.geojson", "out/{prompt}/{scene}.json"), {"x": 1})


def test_every_scene_is_answered_and_noted(job: Job) -> None:
    asked, report, told = again(job)
    assert (asked, told) == (["a.png", "b.png", "c.png"], [])
    assert report == Report(3, 0, 0, Path("out/manifest.jsonl"))
    assert set(contents()) == {
        "manifest.jsonl",
        *(f"{name}.geojson" for name in "abc"),
        *(f"1-every-ship/{name}.json" for name in "abc"),
        *(f"2-what-is-there/{name}.json" for name in "abc"),
    }
    for place, prompt in enumerate(("1-every-ship", "2-what-is-there")):
        found = json.loads(Path(f"out/{prompt}/b.json").read_text())
        assert (found["prompt"], found["scene"]["name"]) == (PROMPTS[place], "b.png")
    features = json.loads(Path("out/a.geojson").read_text())["features"]
    assert {feature["properties"]["prompt"] for feature in features} == set(PROMPTS)
    head, *entries = lines()
    assert head["prompts"] == list(PROMPTS)
    assert (head["scenes"], head["settings"], head["shard"]) == (3, {"x": 1}, "1 of 1")
    assert [entry["scene"] for entry in entries] == [str(one.absolute()) for one in job.scenes]
    assert all(len(entry["files"]) == 3 and entry["cost"]["tokens"] > 0 for entry in entries)


def test_what_is_done_is_skipped(job: Job) -> None:
    again(job)
    before = contents()
    asked, report, _ = again(replace(job, scenes=tuple(path.absolute() for path in job.scenes)))
    assert (asked, report.done, report.skipped) == ([], 0, 3)
    assert contents() == before


def test_what_changed_is_done_again_and_what_is_new_as_well(job: Job) -> None:
    again(job)
    os.utime("in/b.png", (1, 1))
    more = replace(job, scenes=(scene("in/0.png", 7), *job.scenes))
    asked, report, _ = again(more)
    assert (asked, report.done, report.skipped) == (["0.png", "b.png"], 2, 2)
    Path("out/a.geojson").unlink()
    Path("out/1-every-ship/c.json").write_text("{}")
    assert again(more)[0] == ["a.png", "c.png"]
    assert again(more)[0] == []


def test_a_folder_of_tiles_is_one_scene_that_changes_with_each(job: Job) -> None:
    Path("tiles").mkdir()
    for name in ("tiles/0.tif", "tiles/1.tif"):
        Path(name).write_bytes(b"II*\0")

    def ask(_: Path) -> list[Answer]:
        return Asked()(job.scenes[0])

    mosaic = replace(job, scenes=(Path("tiles"),))
    assert run(mosaic, ask, print).done == 1
    Path("tiles/notes.txt").write_text("no tile")
    assert run(mosaic, ask, print).skipped == 1
    Path("tiles/2.tif").write_bytes(b"II*\0")
    assert run(mosaic, ask, print).done == 1
    assert Path("out/tiles.geojson").exists()


def test_what_fails_is_noted_and_tried_again(job: Job) -> None:
    whole = job.scenes[1].read_bytes()
    job.scenes[1].write_bytes(whole[:100])
    asked, report, told = again(job)
    assert (report.done, report.failed) == (2, 1)
    assert len(asked) == 3
    assert len(told) == 1
    assert told[0].startswith("failed: in/b.png: the image is ")
    assert "truncated" in lines()[2]["error"]
    assert [again(job)[0], again(job)[1].failed] == [["b.png"], 1]
    job.scenes[1].write_bytes(whole)
    assert again(job)[1] == Report(1, 2, 0, Path("out/manifest.jsonl"))
    job.scenes[2].unlink()
    asked, report, told = again(job)
    assert (asked, report.failed) == (["c.png"], 1)
    assert "no such file" in told[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(prompts=("every ship", "what?")), ("prompts[1]", "'what is there?'", "'what?'")),
        (dict(prompts=("every ship",)), ("prompts[1]", "not given")),
        (dict(settings={"x": 2}), ("x was 1, is now 2",)),
        (dict(settings={"x": 1, "y": float("inf")}), ("y was not given, is now 'inf'",)),
        (dict(outputs=("out/{scene}.geojson",)), ("outputs[1]", "not given")),
        (dict(outputs=("out/{scene}.json",)), ("outputs[0]", "'{scene}.geojson'")),
    ],
)
def test_another_job_is_refused(job: Job, change: dict[str, Any], words: Sequence[str]) -> None:
    again(job)
    before = contents()
    with pytest.raises(OutputError, match="give another output folder, or delete") as caught:
        again(replace(job, **change))
    assert all(word in str(caught.value) for word in words)
    assert contents() == before


class Unable(Asked):
    """Fails at the second scene."""

    error: BaseException

    def __call__(self, scene: Path) -> list[Answer]:
        if len(self.names) == 1:
            raise self.error
        return super().__call__(scene)


def caused_by(cause: Exception) -> GeoMagError:
    try:
        raise OutputError("out/b.json cannot be written") from cause
    except OutputError as error:
        return error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (caused_by(OSError(errno.ENOSPC, "No space left on device")), OutputError),
        (caused_by(ImportError("pyogrio")), OutputError),
        (ZeroDivisionError(), ZeroDivisionError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_would_fail_every_time_ends_the_job(
    job: Job, error: BaseException, raised: type[BaseException]
) -> None:
    unable = Unable()
    unable.error = error
    with pytest.raises(raised) as caught:
        run(job, unable, print)
    if raised is OutputError:
        assert "the same command" in str(caught.value)
    assert len(lines()) == 2
    assert again(job)[1] == Report(2, 1, 0, Path("out/manifest.jsonl"))


def test_an_output_that_this_scene_cannot_have_does_not_end_the_job(job: Job) -> None:
    Path("out/2-what-is-there/b.json").mkdir(parents=True)
    _, report, told = again(job)
    assert (report.done, report.failed) == (2, 1)
    assert told[0].startswith("failed: in/b.png: out/2-what-is-there/b.json cannot be written")


def test_leftovers_go_if_they_are_ours(job: Job) -> None:
    ours = [".a.geojson.abc12_9z.part", "1-every-ship/.c.json.________.part"]
    others = [
        *(".d.geojson.abcdefgh.part", ".a.geojson.part", "a.geojson.abcdefgh.part"),
        *(".a.geojson.ABCDEFGH.part", ".a.geojson.abcdefgh.tmp", "notes.txt"),
    ]
    for name in (*ours, *others):
        (Path("out") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("out") / name).write_text("half")
    again(job)
    assert not [name for name in ours if (Path("out") / name).exists()]
    assert all((Path("out") / name).exists() for name in others)


def test_shards_share_the_scenes(job: Job) -> None:
    shards = [again(replace(job, shard=(number, 2))) for number in (1, 2)]
    assert [asked for asked, _, _ in shards] == [["a.png", "c.png"], ["b.png"]]
    assert lines("out/manifest-1-of-2.jsonl")[0]["shard"] == "1 of 2"
    assert [again(replace(job, shard=(number, 2)))[1].skipped for number in (1, 2)] == [2, 1]
    assert again(replace(job, shard=(4, 4)))[1].done == 0
    whole = {name: data for name, data in contents().items() if name.endswith(".geojson")}
    again(replace(job, outputs=tuple(f"alone/{name[4:]}" for name in job.outputs)))
    alone = contents("alone")
    assert whole == {name: alone[name] for name in whole}


def test_answers_of_scenes_that_are_no_longer_given_stay(job: Job) -> None:
    again(job)
    before = Path("out/a.geojson").read_bytes()
    moved = replace(job, scenes=(scene("elsewhere/a.png", 5),))
    with pytest.raises(OutputError, match=r"in/a.png was answered.*another output folder"):
        again(moved)
    assert Path("out/a.geojson").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(scenes=()), OutputError, "at least one scene"),
        (dict(prompts=()), OutputError, "at least one prompt"),
        (dict(shard=(0, 2)), OutputError, "expected I/N"),
        (dict(shard=(3, 2)), OutputError, "expected I/N"),
        (dict(outputs=()), OutputError, "at least one output"),
        (dict(outputs=("out/all.json",)), OutputError, "one name for 3 scenes; put {scene}"),
        (dict(scenes=(Path("a/x.png"), Path("b/x.tif"))), SceneError, "a/x.png and b/x.tif"),
        (dict(outputs=("in/{scene}-{prompt}.png",)), OutputError, "among the scenes"),
        (dict(outputs=("./out/../in/{scene}.tif",)), OutputError, "among the scenes"),
        (dict(outputs=("in/a.png/{scene}.json",)), OutputError, "cannot be written"),
    ],
)
def test_jobs_that_cannot_be(
    job: Job, change: dict[str, Any], error: type[GeoMagError], words: str
) -> None:
    before = contents(".")
    with pytest.raises(error) as caught:
        again(replace(job, **change))
    assert words in str(caught.value)
    assert contents(".") == before


def test_memory_does_not_grow_with_the_scenes(job: Job) -> None:
    known: list[weakref.ref[Any]] = []
    alive: list[int] = []

    class Watched(Asked):
        def __call__(self, scene: Path) -> list[Answer]:
            gc.collect()
            alive.append(sum(one() is not None for one in known))
            answers = super().__call__(scene)
            known.extend(weakref.ref(answer.scene) for answer in answers)
            return answers

    run(job, Watched(), print)
    assert len(known) == 6
    assert alive == [0, 0, 0]
