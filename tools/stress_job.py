"""Kills a job again and again, and looks at what comes out: python tools/stress_job.py --kills 100

Scenes are drawn, and one job answers them undisturbed. The same job in another folder is started,
killed with SIGKILL at a random moment, and started again: while it loads the model, while it asks,
while it saves. In the end both folders have to hold the same, and the manifest each scene once.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import math
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

PROMPT = "every ship"
ENDINGS = (".json", ".geojson", ".tif", *([".gpkg"] if find_spec("pyogrio") else []))
MANIFEST = "manifest.jsonl"
MOMENTS = ("while starting", "while asking", "while saving")
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_POLL = 0.001


class Child(Protocol):
    """A process that does the job; `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""

    def kill(self) -> None:
        """Sends SIGKILL."""

    def wait(self) -> int:
        """Waits for its end; its exit status."""


Start = Callable[[Path], Child]
"""Starts the job in an output folder."""


@dataclass
class Tally:
    """What happened: `redone` counts scenes that a kill left with files and without a line."""

    starts: int = 0
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    unfinished: int = 0
    redone: int = 0
    _left: set[str] = field(default_factory=set)

    def note(self, out: Path) -> None:
        """Takes in what a kill left behind, and the one before it did not."""
        noted = {file["name"] for entry in entries(out) for file in entry["files"]}
        left = {path.name for path in out.glob("*")} - noted - {MANIFEST}
        temporary = {name for name in left if name.endswith(".part")}
        self.unfinished += bool(temporary - self._left)
        scenes = [{Path(name).stem for name in names - temporary} for names in (left, self._left)]
        self.redone += len(scenes[0] - scenes[1])
        self._left = left

    def __str__(self) -> str:
        moments = ", ".join(f"{count} {moment}" for moment, count in sorted(self.kills.items()))
        return (
            f"{self.starts} starts, {self.kills.total()} kills ({moments}); {self.redone} scenes "
            f"redone, {self.unfinished} kills left temporary files"
        )


def draw(folder: Path, count: int, seed: int) -> None:
    """GeoTIFFs, and every fourth one a PNG."""
    import rasterio
    from PIL import Image

    from geomag.data.drawn import DrawnScenes
    from geomag.values import Box, View

    folder.mkdir(parents=True)
    scenes = DrawnScenes(count, (96, 160), seed)
    for number in range(count):
        scene = scenes[number].scene
        size = scene.info.size
        whole = View(Box(0, 0, size.width, size.height), size, size)
        side = max(size.height, size.width)
        shown = scene.read(whole, side).pixels[:, : size.height, : size.width]
        picture = (shown * 255).round().byte().numpy()
        if number % 4 == 3:
            Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"scene {number:03d}.png")
            continue
        place = rasterio.Affine(0.5, 0, 330_000 + 100 * number, 0, -0.5, 3_060_000)
        form = dict(driver="GTiff", dtype="uint8", crs="EPSG:32645", transform=place)
        size_of_it = dict(count=3, height=size.height, width=size.width)
        with rasterio.open(folder / f"scene {number:03d}.tif", "w", **form, **size_of_it) as file:
            file.write(picture)


def disturbed(
    start: Start, out: Path, scenes: int, kills: int, pace: tuple[float, float], seed: int
) -> Tally:
    """Starts the job in `out` until it was killed often enough, and then lets it finish.

    `pace` is what `undisturbed` found.

    Raises:
        RuntimeError: it failed by itself.
    """
    dice, tally, startup = random.Random(seed), Tally(), pace[0]
    while tally.kills.total() < kills:
        # A start gets a scene or two done; some have to be left until the last kill.
        scarce = scenes - len(entries(out)) <= 3
        moment = MOMENTS[0 if scarce else tally.starts % len(MOMENTS)]
        child = start(out)
        tally.starts += 1
        if moment == "while starting":
            startup = _wait(child, out, dice.uniform(0, 0.9 * startup)) or startup
        elif moment == "while asking":
            startup = _wait(child, out) or startup
            time.sleep(dice.uniform(0, pace[1]))
        else:
            _wait_for_file(child, out, dice.randrange(1, 2 * len(ENDINGS)))
        child.kill()
        status = child.wait()
        if status > 0:
            raise RuntimeError(f"the job failed with status {status} after {tally}")
        tally.kills[moment] += status == -signal.SIGKILL
        tally.note(out)
    tally.starts += 1
    undisturbed(start, out)
    return tally


def entries(out: Path) -> list[dict[str, Any]]:
    """The whole lines of a manifest after the first."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in _lines(out)[1:]]
    return []


def differences(calm: Path, out: Path, scenes: int) -> Iterator[str]:
    """What is not as it should be in `out`, where a job was killed; nothing was in `calm`."""
    names = {path.name for path in calm.iterdir()}
    found = {path.name for path in out.iterdir()}
    yield from (f"{name} is missing" for name in sorted(names - found))
    yield from (f"{name} is left over" for name in sorted(found - names))
    for name in sorted(names & found - {MANIFEST}):
        if timeless(calm / name) != timeless(out / name):
            yield f"{name} differs"
    done = entries(out)
    counts = collections.Counter(entry["scene"] for entry in done if entry["error"] is None)
    yield from (f"{scene} is noted {count} times" for scene, count in counts.items() if count > 1)
    if len(counts) != scenes or len(done) != scenes:
        yield f"{len(counts)} scenes are done in {len(done)} lines, not {scenes}"
    for file in (file for entry in done for file in entry["files"] if file["name"] in found):
        content = (out / file["name"]).read_bytes()
        if (len(content), hashlib.sha256(content).hexdigest()) != (file["bytes"], file["sha256"]):
            yield f"{file['name']} is not what the manifest says"


def timeless(path: Path) -> bytes:
    """The content of a file without seconds and time stamps."""
    content = path.read_bytes()
    if path.suffix == ".gpkg":
        # SQLite counts changes at two places in its header, and one is noting the time.
        return _STAMP.sub(b"", content[:24] + content[28:92] + content[96:])
    if path.suffix != ".json":
        return content
    values = json.loads(content)
    for answer in values if isinstance(values, list) else [values]:
        del answer["cost"]["seconds"]
    return json.dumps(values).encode()


def undisturbed(start: Start, out: Path) -> tuple[float, float]:
    """Lets the job run in `out` until it is done; seconds until its first scene is, and for each
    further one.

    Raises:
        RuntimeError: it fails.
    """
    began = time.perf_counter()
    child = start(out)
    while child.poll() is None and not entries(out):
        time.sleep(_POLL)
    first, known = time.perf_counter(), len(entries(out))
    status = child.wait()
    if status:
        raise RuntimeError(f"the job failed with status {status}")
    further = max(len(entries(out)) - known, 1)
    return first - began, (time.perf_counter() - first) / further


def _wait(child: Child, out: Path, most: float = math.inf) -> float | None:
    """Waits until a scene is done or the child ends, and returns the seconds; None after `most`."""
    began, before = time.perf_counter(), _size(out)
    while child.poll() is None and _size(out) <= before:
        time.sleep(_POLL)
        if time.perf_counter() - began > most:
            return None
    # The machine may be busier or idler than it was: this is how long a start takes by now.
    return time.perf_counter() - began


def _wait_for_file(child: Child, out: Path, number: int) -> None:
    """Waits for so many temporary files, some of which may come and go unseen."""
    before, known = set(out.glob(".*.part")), len(entries(out))
    seen: set[Path] = set()
    while child.poll() is None and len(seen - before) < number and len(entries(out)) < known + 2:
        seen |= set(out.glob(".*.part"))


def _size(out: Path) -> int:
    with suppress(FileNotFoundError):
        return (out / MANIFEST).stat().st_size
    return 0


def _lines(out: Path) -> list[bytes]:
    return (out / MANIFEST).read_bytes().split(b"\n")[:-1]


def main() -> int:
    """Prints the counts, and what differs; returns 1 if anything does."""
    parser = argparse.ArgumentParser(description="Kills a job again and again.")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to work, and leave everything; must not exist")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        draw(folder / "scenes", arguments.scenes, arguments.seed)

        def start(out: Path) -> subprocess.Popen[bytes]:
            names = [f"{out}/{{scene}}{ending}" for ending in ENDINGS]
            command = [sys.executable, "-m", "geomag.cli", "predict", "--each"]
            command += [argument for name in names for argument in ("-o", name)]
            with (folder / "complaints.txt").open("ab") as complaints:
                return subprocess.Popen(
                    [*command, str(folder / "scenes"), PROMPT],
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                )

        calm, out = folder / "undisturbed", folder / "killed"
        pace = undisturbed(start, calm)
        print(
            f"undisturbed: {pace[0]:.1f} s for the first scene, {pace[1]:.2f} s for each other",
            flush=True,
        )
        tally = disturbed(start, out, arguments.scenes, arguments.kills, pace, arguments.seed)
        print(tally)
        wrong = list(differences(calm, out, arguments.scenes))
        print("\n".join(wrong) or f"{len(list(out.iterdir()))} files as if nothing had happened")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
