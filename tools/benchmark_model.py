"""What training steps and answers of a config take: python tools/benchmark_model.py CONFIG

Random weights at full size, on a GPU where there is one (--small: small ones, for a CPU), drawn
scenes, bf16. Medians after a warm-up, the highest memory, and which share of the device's peak
(--peak, in TFLOP/s) the counted FLOPs are. What gradient checkpointing computes again is counted
too; --cfg-options model.llm_adapter.gradient_checkpointing=False does without.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import Config, DictAction
from torch.utils.flop_counter import FlopCounterMode

from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled
from geomag.engine import checking
from geomag.engine.trainable import build
from geomag.errors import GeoMagError
from geomag.hookspecs import SLOT_KINDS
from geomag.inference import Predictor
from geomag.model import GeoMag

PROMPT = "every airplane"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--small", action="store_true", help="small random weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--views", type=int, default=4, help="closer views of an answer (4)")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, for utilisation")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    parser.add_argument("--out", help="file for the figures, .json")
    options = parser.parse_args()
    try:
        config = checking.read(options.config, options.cfg_options)
        prepare(config, None if options.small else "random", options.dtype)
        with torch.device(options.device):
            model = build(config.model)
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    assert isinstance(model, GeoMag)
    model.to(options.device, getattr(torch, options.dtype))
    figures = {
        "training step": measured(trains(model, options.batch_size), options),
        "answer": measured(answers(model, options.views), options),
    }
    print(f"{options.config}, {options.dtype}, {torch_device(options.device)}, batch of")
    print(f"{options.batch_size}, medians of {options.runs} after {options.warm_up}\n")
    print("| what | seconds | fastest, slowest | TFLOPs | memory, GB | of peak |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for what, one in figures.items():
        share = f"{one['share']:.1%}" if "share" in one else ""
        spread = f"{one['fastest']:.3f}, {one['slowest']:.3f}"
        memory = f"{one['memory'] / 1e9:.1f}" if "memory" in one else ""
        print(
            f"| {what} | {one['seconds']:.3f} | {spread} | {one['flops'] / 1e12:.3f} | {memory} | "
            f"{share} |"
        )
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    return 0


def prepare(config: Config, weights: str | None, dtype: str) -> None:
    """Random weights in every part that would read some, made in the right type at once."""
    for slot in SLOT_KINDS:
        part = config.model.get(slot)
        if isinstance(part, Mapping) and "weights" in part:
            part.update(weights=weights, dtype=dtype)  # type: ignore[attr-defined]


def trains(model: GeoMag, batch_size: int) -> Callable[[], object]:
    side = model.overview_side
    scenes = DrawnScenes(length=batch_size, seed=0, size=(2 * side, 3 * side))
    data = ViewSampled(scenes, side=side, closer_views=2, exchanges=2)
    batch = [data[place] for place in range(batch_size)]
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5)

    def step() -> None:
        model.train()
        torch.stack(list(model.loss(batch).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def answers(model: GeoMag, views: int) -> Callable[[], object]:
    side = model.overview_side
    scene = DrawnScenes(length=1, seed=1, size=(2 * side, 3 * side))[0].scene

    def answer() -> None:
        # A session of its own each time: nothing has been seen before.
        Predictor(model.eval()).open(scene).ask(PROMPT, max_views=views)

    return answer


def measured(call: Callable[[], object], options: argparse.Namespace) -> dict[str, Any]:
    on_gpu = options.device.startswith("cuda")
    for _ in range(options.warm_up):
        call()
    with FlopCounterMode(display=False) as counter:
        call()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(options.runs):
        began = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    found: dict[str, Any] = {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "flops": counter.get_total_flops(),
    }
    if on_gpu:
        found["memory"] = torch.cuda.max_memory_allocated()
    if options.peak:
        found["share"] = found["flops"] / found["seconds"] / (options.peak * 1e12)
    return found


def torch_device(name: str) -> str:
    return torch.cuda.get_device_name() if name.startswith("cuda") else "CPU"


if __name__ == "__main__":
    sys.exit(main())
