"""The same prompts for many scenes: what is done is noted, so that a job can be killed and go on.

A manifest beside the outputs holds a line for each finished scene. The same command again skips
those, tries failed ones again, and answers anew what has changed since.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from . import __version__, manifest
from .answer import Answer, save_all
from .errors import GeoMagError, OutputError
from .manifest import Entry, Manifest, State, Written
from .naming import (
    SCENE,
    TILES,
    absolute,
    check_apart,
    check_names,
    fixed_folder,
    listed,
    scenes_in,
    written_by,
)

__all__ = ["Job", "Report", "run", "scenes_in", "written_by"]

# How `weights.replacing` names what it has not finished.
_UNFINISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part", re.DOTALL)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts for many scenes, and where the answers go.

    `scenes` are files, or folders of tiles. `outputs` are names as `Answer.save` takes them, with
    `{scene}` for the name of the scene and `{prompt}` for that of the prompt. `settings` are all
    else that changes what comes out, as the model and the threshold. Of `shard` (I, N), the first
    being (1, N), every Nth scene from the Ith on is this job's.
    """

    scenes: tuple[Path, ...]
    prompts: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, str | int | float | bool | None]
    shard: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Report:
    """How many scenes were answered, had been before, and failed; `manifest` says more of each."""

    done: int
    skipped: int
    failed: int
    manifest: Path

    def __str__(self) -> str:
        return (
            f"{self.done} answered, {self.skipped} answered before, {self.failed} failed; "
            f"{self.manifest} tells of each"
        )


def run(job: Job, ask: Callable[[Path], Sequence[Answer]], told: Callable[[str], object]) -> Report:
    """Asks about every scene that is not answered yet, and saves the answers, scene by scene.

    `ask` gives an answer to each prompt. `told` gets a line about each scene that fails.

    Raises:
        SceneError: two scenes have one name.
        OutputError: the outputs cannot be where they are to be, belong to another job, another
            process is at work on it, or the disk is full. What was finished until then is kept.
    """
    _check(job)
    number, count = job.shard
    mine = job.scenes[number - 1 :: count]
    folder = absolute(fixed_folder(job.outputs[0]))
    name = "manifest.jsonl" if count == 1 else f"manifest-{number}-of-{count}.jsonl"
    with manifest.opened(folder / name, _header(job, folder), told) as record:
        todo = [scene for scene in mine if not record.finished(absolute(scene), _state(scene))]
        _check_others(job, todo, record)
        _clean(path for scene in todo for path, _ in written_by(job.outputs, scene, job.prompts))
        failed, skipped = 0, len(mine) - len(todo)
        bar = tqdm(
            **dict(total=len(mine), initial=skipped, desc="scenes", unit="scene"),
            **dict(disable=None, dynamic_ncols=True),
        )
        with bar:
            for scene in todo:
                entry = _answered(job, scene, ask, folder)
                record.append(entry)
                if entry.error is not None:
                    failed += 1
                    named = "" if scene.name in entry.error else f"{scene}: "
                    with tqdm.external_write_mode():
                        told(f"failed: {named}{entry.error}")
                bar.update()
    return Report(len(todo) - failed, skipped, failed, fixed_folder(job.outputs[0]) / name)


def _answered(
    job: Job, scene: Path, ask: Callable[[Path], Sequence[Answer]], folder: Path
) -> Entry:
    """What becomes of a scene; its files are on the disk then."""
    began = time.perf_counter()
    # Before it is read: what changes meanwhile shows the next time.
    name, state = str(absolute(scene)), _state(scene)
    try:
        answers = ask(scene)
        files = []
        for path, places in written_by(job.outputs, scene, job.prompts):
            if len(places) == 1:
                answers[places[0]].save(path)
            else:
                save_all([answers[place] for place in places], path)
            files.append(Written.of(path, folder))
    except GeoMagError as error:
        if _concerns_all(error):
            raise OutputError(
                f"{error}; the job ends here: see to that, and give the same command to go on"
            ) from error
        return Entry(name, state, seconds=_since(began), error=str(error))
    cost = {
        kind: sum(getattr(answer.cost, kind) for answer in answers)
        for kind in ("views", "new_views", "pixels_read", "tokens")
    }
    return Entry(name, state, tuple(files), cost, _since(began))


def _concerns_all(error: GeoMagError) -> bool:
    """Whether every other scene would fail as well, each after it was computed."""
    cause = error.__cause__
    disk = isinstance(cause, OSError) and cause.errno in _OF_THE_DISK
    return isinstance(error, OutputError) and (disk or isinstance(cause, ImportError))


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _header(job: Job, folder: Path) -> manifest.Header:
    return {
        "geomag": __version__,
        "prompts": list(job.prompts),
        "outputs": [os.path.relpath(output, folder) for output in job.outputs],
        "settings": {name: _plain(value) for name, value in sorted(job.settings.items())},
        "shard": "{} of {}".format(*job.shard),
        "scenes": len(job.scenes),
    }


def _plain(value: str | int | float | bool | None) -> str | int | float | bool | None:
    # JSON knows no infinity.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _state(scene: Path) -> State | None:
    """How a scene is now, None where it is not there."""
    try:
        found = [file.stat() for file in (listed(scene, TILES) if scene.is_dir() else [scene])]
    except OSError:
        return None
    latest = max((one.st_mtime_ns for one in found), default=0)
    return State(sum(one.st_size for one in found), latest)


def _check(job: Job) -> None:
    for what, given in (("scene", job.scenes), ("prompt", job.prompts), ("output", job.outputs)):
        if not given:
            raise OutputError(f"a job needs at least one {what}; this one has none")
    number, count = job.shard
    if not 1 <= number <= count:
        raise OutputError(f"shard {number}/{count}: expected I/N with I from 1 to N")
    for output in job.outputs:
        if len(job.scenes) > 1 and SCENE not in output:
            raise OutputError(
                f"{output}: one name for {len(job.scenes)} scenes; put {SCENE} into it, as in "
                f"'out/{SCENE}.geojson'"
            )
    check_names(job.scenes)
    files = [path for path, _ in written_by(job.outputs, job.scenes[0], job.prompts)]
    check_apart(files, job.scenes)


def _check_others(job: Job, todo: Sequence[Path], record: Manifest) -> None:
    """Lets nothing be overwritten that tells of a scene which the job had before and has no more;
    those it has cannot meet."""
    given = {str(absolute(scene)) for scene in job.scenes}
    others = [entry for scene, entry in record.entries.items() if scene not in given]
    owners = {file.name: entry.scene for entry in others for file in entry.files}
    for scene in todo if owners else ():
        for path, _ in written_by(job.outputs, scene, job.prompts):
            owner = owners.get(os.path.relpath(path, record.path.parent))
            if owner is not None:
                raise OutputError(
                    f"{path}: holds what {owner} was answered, and {scene} would overwrite it; "
                    "give another output folder"
                )


def _clean(files: Iterable[Path]) -> None:
    """Removes what was left unfinished of these files when a process was killed."""
    names: dict[Path, set[str]] = defaultdict(set)
    for file in files:
        names[file.parent].add(file.name)
    for folder, known in names.items():
        for path in list(folder.iterdir()) if folder.is_dir() else ():
            unfinished = _UNFINISHED.fullmatch(path.name)
            if unfinished and unfinished[1] in known:
                path.unlink(missing_ok=True)
