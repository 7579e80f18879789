"""How long people wait: python tools/benchmark_startup.py [--runs 7]

Start-up (a fresh process, until the default model is ready) against a fresh process that imports
torch and the Llama class and no more; one prediction on an image of 800 x 600 once that is over;
and `geomag --help`. The kinds of process run by turns; medians count, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

CORES = 2
HEIGHT, WIDTH = 600, 800
BARE = "import torch; from transformers import LlamaForCausalLM"
READY = """
import sys, time
from geomag import Predictor
{load}
print("ready", flush=True)
began = time.perf_counter()
answer = predictor.open(sys.argv[1]).ask("every airplane", max_views={max_views})
print(time.perf_counter() - began, answer.cost.views)
"""
MAKE_WEIGHTS = """
import sys
from geomag import plugins, weights
from geomag.inference import DEFAULT_MODEL
from geomag.model import GeoMag
found = plugins.load(plugins.find("model", DEFAULT_MODEL))()
if found["weights"] is None:
    state = GeoMag(**found["config"]).state_dict()
    halves = {k: part.half() if part.is_floating_point() else part for k, part in state.items()}
    weights.save(sys.argv[1], halves, {})
"""
RANDOM = """
from geomag import plugins
from geomag.inference import DEFAULT_MODEL
found = plugins.load(plugins.find("model", DEFAULT_MODEL))()
predictor = Predictor.from_config(found["config"], sys.argv[2])
"""


def main() -> int:
    """Prints the table; returns 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description="How long GeoMag lets people wait.")
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    machine.limit(CORES)
    with tempfile.TemporaryDirectory() as folder:
        image, random_weights = Path(folder) / "scene.png", Path(folder) / "weights.safetensors"
        draw(image)
        spend("-c", MAKE_WEIGHTS, str(random_weights))
        trained = not random_weights.exists()
        load = "predictor = Predictor.default()" if trained else RANDOM
        files = (str(image), str(random_weights))
        measured = [measure(load, files) for _ in range(runs + 1)][1:]  # the first warms the disk
    bare, start, planned, everything, helped = (
        list(column) for column in zip(*measured, strict=True)
    )
    ratios = [one / other for one, other in zip(start, bare, strict=True)]
    rows = [
        row("geomag --help", helped, "s", 1.0),
        row("torch and the Llama class alone", bare, "s", None),
        row("start-up, weights included", start, "s", None),
        row("start-up against torch and Llama", ratios, "x", 1.5),
        row("prediction, views as the model plans", planned, "s", 3.0),
        row("prediction, everything at full resolution", everything, "s", 3.0),
    ]
    print(machine.table(("what", "median", "range", "at most", "met"), rows))
    kind = "shipped" if trained else "random"
    print(f"\n{runs} runs, image of {WIDTH} x {HEIGHT}, {kind} weights; {machine.note()}")
    return 1 if any(line[-1] == "no" for line in rows) else 0


def measure(load: str, files: tuple[str, str]) -> tuple[float, float, float, float, float]:
    """Seconds of: the bare imports, start-up, a planned prediction, one of everything, help."""
    bare, _ = spend("-c", BARE)
    start, printed = spend("-c", READY.format(load=load, max_views="None"), *files)
    _, whole = spend("-c", READY.format(load=load, max_views="float('inf')"), *files)
    helped, _ = spend("-m", "geomag.cli", "--help")
    return bare, start, float(printed.split()[1]), float(whole.split()[1]), helped


def spend(*arguments: str) -> tuple[float, str]:
    """Seconds until a Python process prints its first line, or ends, and all that it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    if first != "ready\n":
        rest = process.stdout.read()
        process.wait()
    seconds = time.perf_counter() - began
    if first == "ready\n":
        rest = process.stdout.read()
        process.wait()
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed with {process.returncode}")
    return seconds, first + rest


def row(
    what: str, values: list[float], unit: str, bar: float | None
) -> tuple[str, str, str, str, str]:
    median = statistics.median(values)
    met = "" if bar is None else "yes" if median <= bar else "no"
    span = f"{min(values):.2f} to {max(values):.2f}"
    return what, f"{median:.2f} {unit}", span, "" if bar is None else f"{bar:g} {unit}", met


def draw(path: Path) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(path)


if __name__ == "__main__":
    sys.exit(main())
