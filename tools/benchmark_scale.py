"""Does a larger scene cost more? python tools/benchmark_scale.py [--sides 2048 8192 32768 65536]

Lays scenes out of real tiles, GeoTIFFs with overviews, once: 1.5 GB under --work-dir. Then asks the
same prompt of each with the same budget of views, and saves outlines, mask and picture, every time
in a fresh process on a file that the system does not remember; scenes by turns, medians count.
The cropper's own threshold is 0, so that the budget ends the looking and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import footprint
import large_scenes
import machine
from tqdm import tqdm

from geomag.errors import GeoMagError
from geomag.weights import replacing

CORES = 2
WARM = 1024
"""The side of a scene that is asked about first: what is loaded late is no scene's cost."""
ENDINGS = (".geojson", ".tif", ".png")
STAGES = ("ask", *ENDINGS)
MOST_APART, MOST_BYTES, MOST_SLOWER = 1.1, 1.5e9, 1.5
Stage = Mapping[str, float]
"""What one step took: `seconds`, of them `computing`, with all threads; `peak` bytes of memory,
bytes `asked` for and from the `disk`."""
Request = Mapping[str, Any]
"""What one process measured: `side`, `views`, `tokens`, bytes `loaded`, and its stages."""


class ChildError(Exception):
    """A process that was to measure something failed, and has said why."""


def main() -> int:
    """Prints the tables; returns 1 where a target is missed, 2 where something cannot be used."""
    options = _parser().parse_args()
    try:
        if options.alone:
            print(json.dumps(alone(*options.alone, options.prompt, options.max_views)))
            return 0
        machine.limit(CORES)
        scenes = build(options)
        found = measure(scenes, options)
        verdicts = targets(found)
        told = machine.table(("target", "measured", "at most", "met"), verdicts)
        print(f"{times(found)}\n\nmemory at its highest, bytes read to answer\n{sizes(found)}")
        print(f"\n{told}\n")
        print(f'"{options.prompt}", {options.runs} processes a scene; {machine.note()}')
        if options.out:
            with replacing(options.out) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(f"wrote {options.out}")
    except (GeoMagError, ChildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 1 if any(verdict[-1] == "no" for verdict in verdicts) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sides = (2048, 8192, 32768, 65536)
    work = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geomag" / "scale"
    listed = " ".join(map(str, sides))
    parser.add_argument("--sides", type=_positive, nargs="+", default=sides, help=f"({listed})")
    parser.add_argument("--tiles", type=Path, nargs="+", help="images to lay the scenes out of")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("GEOMAG_DATA") or "data"),
        help="without --tiles: folder with nwpu_vhr10/images ($GEOMAG_DATA, or data); where it "
        "has none, scenes are drawn",
    )
    parser.add_argument("--work-dir", type=Path, default=work, help=f"keeps the scenes ({work})")
    parser.add_argument("--prompt", default="every airplane", help="(every airplane)")
    parser.add_argument("--max-views", type=_positive, default=32, help="the budget (32)")
    parser.add_argument("--runs", type=_positive, default=3, help="processes a scene (3)")
    parser.add_argument("--seed", type=int, default=0, help="another one lays others (0)")
    parser.add_argument("--out", type=Path, help="file for all that was measured, .json")
    parser.add_argument("--alone", type=Path, nargs=2, help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# -- the scenes ------------------------------------------------------------------------------------


def build(options: argparse.Namespace) -> dict[int, Path]:
    """The scenes by their sides, the one to warm up with among them; those that lie there are kept.

    Raises:
        GeoMagError: a tile cannot be used, or there is no room for a scene.
    """
    files = options.tiles or sorted((options.data / "nwpu_vhr10" / "images").glob("*.jpg"))
    paths = {
        side: options.work_dir / large_scenes.name(side, files, options.seed)
        for side in sorted({WARM, *options.sides})
    }
    missing = [side for side, path in paths.items() if not path.exists()]
    if missing:
        pictures = large_scenes.sheets(files, options.seed)
        for side in missing:
            large_scenes.build(paths[side], side, pictures, options.seed)
    return paths


# -- one request, in a process of its own ----------------------------------------------------------


def measure(scenes: Mapping[int, Path], options: argparse.Namespace) -> list[Request]:
    """What every process measured, scenes by turns.

    Raises:
        ChildError: one of them failed.
    """
    found = []
    turns = [side for _ in range(options.runs) for side in sorted(set(options.sides))]
    for side in tqdm(turns, desc="requests", disable=None, dynamic_ncols=True):
        asked = ("--prompt", options.prompt, "--max-views", str(options.max_views))
        command = [
            sys.executable,
            __file__,
            "--alone",
            str(scenes[WARM]),
            str(scenes[side]),
            *asked,
        ]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if ran.returncode:
            raise ChildError(f"{' '.join(command)} failed with {ran.returncode}")
        found.append({"side": side, "bytes": scenes[side].stat().st_size, **json.loads(ran.stdout)})
    return found


def alone(warm: Path, scene: Path, prompt: str, max_views: int) -> Request:
    """What one request takes in this process, once a small one has loaded what is loaded late."""
    from geomag import Predictor

    predictor = Predictor.default()
    predictor.model.cropper.threshold = 0.0
    loaded = footprint.peak()
    with tempfile.TemporaryDirectory() as folder:
        request(predictor, warm, prompt, max_views, Path(folder))
        answer, stages = request(predictor, scene, prompt, max_views, Path(folder))
    return {
        "views": answer.cost.views,
        "tokens": answer.cost.tokens,
        "refused": answer.refused,
        "loaded": loaded,
        "stages": stages,
    }


def request(
    predictor: Any, scene: Path, prompt: str, max_views: int, folder: Path
) -> tuple[Any, dict[str, Stage]]:
    """The answer, and what asking took, the file opened anew, and each way of saving."""
    footprint.forget_file(scene)
    stages: dict[str, Stage] = {}
    answer, stages["ask"] = stage(lambda: predictor.open(scene).ask(prompt, max_views=max_views))
    for ending in ENDINGS:
        _, stages[ending] = stage(lambda path=folder / f"answer{ending}": answer.save(path))
    return answer, stages


def stage(step: Callable[[], Any]) -> tuple[Any, Stage]:
    """What a step gives, and what it took."""
    footprint.forget_peak()
    asked, disk = footprint.asked_to_read(), footprint.read_from_disk()
    began, computed = time.perf_counter(), time.process_time()
    result = step()
    return result, {
        "seconds": time.perf_counter() - began,
        "computing": time.process_time() - computed,
        "peak": footprint.peak(),
        "asked": footprint.asked_to_read() - asked,
        "disk": footprint.read_from_disk() - disk,
    }


# -- what came of it -------------------------------------------------------------------------------


def times(found: Sequence[Request]) -> str:
    """Median seconds, a line a scene; ratios are to the smallest."""
    groups = by_side(found)
    first = next(iter(groups.values()))
    table = [
        (
            str(side),
            f"{group[0]['bytes'] / 1e6:.0f} MB",
            _span([one["views"] for one in group]),
            _span([one["tokens"] for one in group]),
            f"{median(group, 'ask'):.2f} s",
            f"{median(group, 'ask') / median(first, 'ask'):.2f}",
            *(f"{median(group, ending):.2f} s" for ending in ENDINGS),
            f"{median(group, *STAGES) / median(first, *STAGES):.2f}",
        )
        for side, group in groups.items()
    ]
    return machine.table(("side", "file", "views", "tokens", "ask", "x", *ENDINGS, "all, x"), table)


def sizes(found: Sequence[Request]) -> str:
    """Memory at its highest, and what asking read, a line a scene; the ratio is to the smallest."""
    groups = by_side(found)
    first = highest(next(iter(groups.values())), *STAGES)
    table = [
        (
            str(side),
            f"{max(one['loaded'] for one in group) / 1e6:.0f} MB",
            *(f"{highest(group, stage) / 1e6:.0f} MB" for stage in STAGES),
            f"{highest(group, *STAGES) / first:.2f}",
            *(f"{median(group, 'ask', key=key) / 1e6:.2f} MB" for key in ("asked", "disk")),
        )
        for side, group in groups.items()
    ]
    head = ("side", "model loaded", "ask", *ENDINGS, "highest, x", "read", "from disk")
    return machine.table(head, table)


def targets(found: Sequence[Request]) -> list[tuple[str, str, str, str]]:
    """What is promised, what was measured, the bound and whether it holds."""
    groups = list(by_side(found).values())
    peaks = [highest(group, *STAGES) for group in groups]
    first, last = groups[0], groups[-1]
    asking = median(last, "ask") / median(first, "ask")
    checks = (
        ("peak memory of all, highest to lowest", max(peaks) / min(peaks), MOST_APART, "x"),
        ("peak memory of all", max(peaks) / 1e9, MOST_BYTES / 1e9, " GB"),
        ("time to ask, largest to smallest", asking, MOST_SLOWER, "x"),
    )
    return [
        (what, f"{value:.2f}{unit}", f"{bound:g}{unit}", "yes" if value <= bound else "no")
        for what, value, bound, unit in checks
    ]


def by_side(found: Sequence[Request]) -> dict[int, list[Request]]:
    """What was measured of each scene, small to large."""
    sides = sorted({one["side"] for one in found})
    return {side: [one for one in found if one["side"] == side] for side in sides}


def median(group: Sequence[Request], *stages: str, key: str = "seconds") -> float:
    """The median of what some stages took together."""
    return statistics.median(sum(one["stages"][stage][key] for stage in stages) for one in group)


def highest(group: Sequence[Request], *stages: str) -> float:
    """The most memory that any process had in any of the stages."""
    return max(one["stages"][stage]["peak"] for one in group for stage in stages)


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


if __name__ == "__main__":
    sys.exit(main())
