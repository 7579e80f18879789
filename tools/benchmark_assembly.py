"""What putting windows together costs: python tools/benchmark_assembly.py [--side 4096]

mmsegmentation's own `EncoderDecoder.slide_inference` against GeoMag's assembly: one scene, the same
encoder and head of ten classes, the same windows one by one, and no language model on either side.
By turns, every time in a fresh process. The merging is what is left of the time when that inside
the network is taken out; GeoMag's includes bringing logits to full resolution, mmsegmentation's
does not. GeoMag ends with its masks, which are sparse, and in a third arm with dense ones.

mmsegmentation is no part of GeoMag: python -m pip install onedl-mmsegmentation onedl-mmcv
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
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import footprint
import large_scenes
import machine
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from window_arms import CLASSES, WINDOW, network, own, stock

from geomag.errors import DataError, GeoMagError, PluginError
from geomag.weights import replacing

CORES = 2
STRIDES = (256, 224)
MOST_TIME, MOST_MEMORY = 0.1, 0.5
ARMS = ("mmsegmentation", "GeoMag", "GeoMag, dense")
Run = Mapping[str, Any]
"""What one process measured: `arm`, `stride`, `windows`, seconds in all (`total`) and in the
`network`, bytes of memory before (`loaded`) and at the highest (`peak`)."""


def main() -> int:
    """Prints the table; returns 1 where a bound is missed, 2 where something cannot be used."""
    options = _parser().parse_args()
    try:
        machine.limit(CORES)
        if options.alone:
            print(json.dumps(alone(options.alone, options)))
            return 0
        if find_spec("mmseg") is None:
            raise PluginError(
                "mmsegmentation is not installed here; python -m pip install onedl-mmsegmentation "
                "onedl-mmcv, best in an environment of its own"
            )
        found, agreement = measure(options)
        print(table(found))
        for stride, (share, overlap) in agreement.items():
            print(f"stride {stride}: {share:.2%} of pixels and classes alike, IoU {overlap:.4f}")
        print(f"\n{options.side} x {options.side} pixels, {CLASSES} classes, {options.runs} runs;")
        print(machine.note())
        if options.out:
            with replacing(options.out) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(f"wrote {options.out}")
    except (GeoMagError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 1 if missed(found) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("GEOMAG_DATA") or "data")
    parser.add_argument("--side", type=int, default=4096, help="of the scene, in pixels (4096)")
    parser.add_argument("--tiles", type=Path, nargs="+", help="images to lay the scene out of")
    parser.add_argument(
        "--data",
        type=Path,
        default=data,
        help="without --tiles: folder with nwpu_vhr10/images ($GEOMAG_DATA, or data); where it "
        "has none, the scene is drawn",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="weights of configs/yardstick_nwpu.py (the encoder that plugins/tiny ships and a "
        "random head, which draws every class in every window: the worst case for sparse masks)",
    )
    parser.add_argument("--strides", type=int, nargs="+", default=STRIDES, help="(256 224)")
    parser.add_argument("--runs", type=int, default=3, help="processes an arm and stride (3)")
    parser.add_argument("--seed", type=int, default=0, help="of the scene and the head (0)")
    parser.add_argument("--out", type=Path, help="file for all that was measured, .json")
    parser.add_argument("--alone", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drawn", type=Path, help=argparse.SUPPRESS)
    return parser


def measure(options: argparse.Namespace) -> tuple[list[Run], dict[int, tuple[float, float]]]:
    """What every process measured, the arms by turns; and for each stride how far the masks of the
    two are alike, as a share of all pixels and classes, and as the IoU of what they mark.

    Raises:
        DataError: the scene cannot be laid out.
        CalledProcessError: a process failed, and has said why.
    """
    if options.side % large_scenes.SHEET or options.side < 1:
        raise DataError(f"--side {options.side}: expected a multiple of {large_scenes.SHEET}")
    wrong = [
        stride for stride in options.strides if not WINDOW // 2 < stride <= WINDOW or stride % 2
    ]
    if wrong:
        raise DataError(
            f"--strides {wrong[0]}: expected even numbers from {WINDOW // 2} to {WINDOW}"
        )
    files = options.tiles or sorted((options.data / "nwpu_vhr10" / "images").glob("*.jpg"))
    pictures = large_scenes.sheets(files, options.seed)
    found, agreement = [], {}
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.npy"
        np.save(scene, large_scenes.laid(pictures, options.side, options.seed))
        turns = [(s, arm) for s in options.strides for _ in range(options.runs) for arm in ARMS]
        for stride, arm in tqdm(turns, desc="runs", disable=None, dynamic_ncols=True):
            drawn = Path(folder) / f"{stride}-{arm}.npy"
            given = ("--scene", scene, "--drawn", drawn, "--strides", stride, "--alone", arm)
            more = ("--checkpoint", options.checkpoint) if options.checkpoint else ()
            command = [sys.executable, __file__, *given, "--seed", options.seed, *more]
            ran = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True)
            found.append(json.loads(ran.stdout))
        for stride in options.strides:
            stock, own = (Path(folder) / f"{stride}-{arm}.npy" for arm in (ARMS[0], ARMS[-1]))
            agreement[stride] = alike(np.load(stock), np.load(own))
    return found, agreement


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[float, float]:
    """Of two fields of packed bits the share that is the same, and the IoU."""
    apart, either = np.bitwise_count(one ^ other).sum(), np.bitwise_count(one | other).sum()
    both = np.bitwise_count(one & other).sum()
    return 1 - float(apart) / (8 * one.size), float(both) / max(float(either), 1.0)


# -- one arm, in a process of its own --------------------------------------------------------------


def alone(arm: str, options: argparse.Namespace) -> Run:
    """What one arm takes in this process, all that is loaded late aside."""
    import torch

    torch.set_num_threads(CORES)
    pixels, (stride,) = np.load(options.scene), options.strides
    shared = network(options.checkpoint, options.seed)
    run = stock(shared, stride) if arm == ARMS[0] else own(shared, stride, dense=arm == ARMS[-1])
    with torch.inference_mode():
        run(pixels[:512, :512])
        loaded = footprint.peak()
        footprint.forget_peak()
        began = time.perf_counter()
        drawn, seconds = run(pixels)
        took = {"total": time.perf_counter() - began, **seconds, "peak": footprint.peak()}
    if drawn is not None:
        np.save(options.drawn, np.packbits(drawn > 0))
    return {"arm": arm, "stride": stride, "loaded": loaded, **took}


# -- what came of it -------------------------------------------------------------------------------


def table(found: Sequence[Run]) -> str:
    """Medians, and the most memory, a line for each stride and arm."""
    head = (
        *("stride", "arm", "windows", "network", "merging", "in all", "peak", "above the model"),
        *("merging, x", f"at most {MOST_TIME:g}", "peak, x", f"at most {MOST_MEMORY:g}"),
    )
    rows = []
    for (stride, arm), group in grouped(found).items():
        runs = [f"{median(group, key):.2f} s" for key in ("network", "merging", "total")]
        above = max(run["peak"] - run["loaded"] for run in group)
        sizes = [f"{size / 1e6:.0f} MB" for size in (highest(group), above)]
        cells = (str(stride), arm, str(group[0]["windows"]), *runs, *sizes)
        if arm == ARMS[0]:
            rows.append((*cells, "", "", "", ""))
        else:
            less, smaller = ratios(found, stride, arm)
            verdict = [
                "yes" if met else "no" for met in (less <= MOST_TIME, smaller <= MOST_MEMORY)
            ]
            rows.append((*cells, f"{less:.3f}", verdict[0], f"{smaller:.2f}", verdict[1]))
    return machine.table(head, rows)


def missed(found: Sequence[Run]) -> bool:
    """Whether GeoMag's assembly is above a bound at any stride."""
    strides = sorted({run["stride"] for run in found})
    pairs = [ratios(found, stride, ARMS[1]) for stride in strides]
    return any(less > MOST_TIME or smaller > MOST_MEMORY for less, smaller in pairs)


def ratios(found: Sequence[Run], stride: int, arm: str) -> tuple[float, float]:
    """The time of merging, and the peak of memory, over mmsegmentation's."""
    groups = grouped(found)
    here, there = groups[stride, arm], groups[stride, ARMS[0]]
    return median(here, "merging") / median(there, "merging"), highest(here) / highest(there)


def grouped(found: Sequence[Run]) -> dict[tuple[int, str], list[Run]]:
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in found:
        groups.setdefault((run["stride"], run["arm"]), []).append(run)
    return groups


def median(group: Sequence[Run], key: str) -> float:
    return statistics.median(run[key] for run in group)


def highest(group: Sequence[Run]) -> float:
    return max(run["peak"] for run in group)


if __name__ == "__main__":
    sys.exit(main())
