"""What it is worth that a prompt chooses where to look: python tools/benchmark_looking.py

Asks "every CLASS" of the labelled scenes of NWPU VHR-10 val, and of mosaics laid out of them. Three
parts, all of them where none is named:

  --small    recall of objects below 32 pixels a side: all tiles against the overview alone
  --mosaics  a quarter of the finest tiles: as is, elsewhere, another prompt, no image
  --budgets  6 to 100 % of the finest tiles, where the model and where chance looks: quality, cost

A cropper with a `threshold` of its own is built with 0, so that the budget ends the looking, and
looks do not overlap, so that shares of the finest tiles add up.
Brackets are 95 % bootstrap intervals over scenes.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import looking_report
import machine
from tqdm import tqdm

from geomag import plugins, weights
from geomag.data.coco import CocoInstances
from geomag.data.mosaics import Mosaics
from geomag.data.samples import LabelledSample
from geomag.engine import checking
from geomag.errors import CheckpointError, ConfigError, DataError, GeoMagError
from geomag.evaluation.instances import SmallObject, recall, small_objects
from geomag.evaluation.looking import (
    AS_IS,
    RANDOM,
    Answered,
    Arm,
    ViewCost,
    answers,
    controls,
    rebuilt,
    to_native,
    view_cost,
)
from geomag.evaluation.pairs import grouped, mean_iou, summary
from geomag.inference import DEFAULT_MODEL, Predictor
from geomag.registry import CROPPERS

DATA_SET = "nwpu_vhr10"
ORIGIN = "NWPU VHR-10 with COCO instance masks as prepared by RSPrompter"
QUARTER = 0.25
SHARES = (0.06, 0.12, 0.25, 0.5, 1.0)
Part = Generator[str, None, dict[str, Any]]
"""Lines to print as they come; returns what goes to the file."""


def main() -> int:
    """Prints the tables, and what leads to them as it comes; returns 2 where the user is wrong."""
    options = _parser().parse_args()
    try:
        for line in run(options):
            print(line, flush=True)
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help="this part (all three)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("GEOMAG_DATA") or "data"),
        help=f"folder that holds {DATA_SET} ($GEOMAG_DATA, or data)",
    )
    parser.add_argument("--config", type=Path, help="of the model (the one plugins/tiny ships)")
    parser.add_argument("--checkpoint", type=Path, help="its weights (those plugins/tiny ships)")
    parser.add_argument("--device", help="such as cuda (cpu)")
    parser.add_argument("--seed", type=int, default=0, help="of mosaics and of chance (0)")
    parser.add_argument("--count", type=_positive, help="mosaics (20, for the budgets 5)")
    parser.add_argument(
        "--sides",
        type=_positive,
        nargs="+",
        help="sides of the mosaics in pixels, one of them each (2048, for the budgets 4096)",
    )
    parser.add_argument("--out", type=Path, help="file for all figures and answers, .json")
    parser.add_argument(
        "--plot", type=Path, help="file for the curves of the budgets, .png or .svg"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(options: argparse.Namespace) -> Generator[str, None, None]:
    """All parts that were asked for; the file is written anew, whole, after each of them."""
    chosen = [part for part in PARTS if getattr(options, part)] or list(PARTS)
    if options.plot and "budgets" not in chosen:
        raise ConfigError("--plot shows the budgets; add --budgets, or leave it out")
    if options.plot:
        looking_report.check(options.plot)
    scenes = CocoInstances(
        options.data / DATA_SET, "annotations/instances_val.json", tasks=("class",), origin=ORIGIN
    )
    predictor, checkpoint = load(options)
    yield f"weights {checkpoint.name}, seed {options.seed}; {machine.note()}"
    report: dict[str, Any] = {
        "config": str(options.config or DEFAULT_MODEL),
        "checkpoint": checkpoint.name,
        "seed": options.seed,
        "machine": machine.note(),
    }
    for part in chosen:
        yield f"\n{part}"
        report[part] = yield from PARTS[part](predictor, scenes, options)
        if options.out:
            with weights.replacing(options.out) as temporary:
                text = json.dumps(looking_report.plain(report), indent=1, allow_nan=False)
                temporary.write_text(text + "\n", encoding="utf-8")
            yield f"wrote {options.out}"
    if options.plot:
        looking_report.draw(report["budgets"]["rows"], AS_IS, RANDOM, options.plot)
        yield f"wrote {options.plot}"


def load(options: argparse.Namespace) -> tuple[Predictor, Path]:
    """The model that was asked for, whose cropper leaves nothing out, and its file of weights."""
    if options.config is None:
        plugin, component = plugins.lookup("model", DEFAULT_MODEL)
        shipped = plugins.load(component, plugin)()
        block, checkpoint = dict(shipped["config"]), options.checkpoint or shipped["weights"]
        if checkpoint is None:
            raise CheckpointError(
                f"{DEFAULT_MODEL} comes without weights; name some with --checkpoint, as "
                "tools/train.py writes them"
            )
    elif options.checkpoint is None:
        raise ConfigError(f"--config {options.config} has no weights; name them with --checkpoint")
    else:
        block, checkpoint = dict(checking.read(options.config).model.items()), options.checkpoint
    predictor = Predictor.from_config(block, checkpoint, options.device)
    if "threshold" in inspect.signature(type(predictor.model.cropper)).parameters:
        block["cropper"] = {**block["cropper"], "threshold": 0.0}
        predictor = Predictor.from_config(block, checkpoint, options.device)
    # Looks side by side, so that what the finest tiles hold of a target adds up to all of it.
    predictor.model.overlap = 0
    return predictor, Path(checkpoint)


def small(predictor: Predictor, scenes: CocoInstances, options: argparse.Namespace) -> Part:
    """Recall of small objects with everything at native resolution, and from the overview."""
    found: list[SmallObject] = []
    bar = tqdm(range(len(scenes)), desc="scenes", leave=False)
    for place in bar:
        fresh = small_objects(predictor.model, scenes[place], predictor.threshold)
        found += fresh
        if fresh:
            bar.clear()
            hits = sum(one.everything for one in found), sum(one.overview for one in found)
            yield f"so far {len(found)} objects, {hits[0]} recalled, {hits[1]} from the overview"
    figures = recall(found)
    images = len({one.image for one in found})
    yield f"{len(found)} objects below 32 pixels a side, in {images} scenes; IoU at least 0.5"
    yield looking_report.recall_table(figures)
    return {"objects": len(found), "images": images, "recall": figures, "outcomes": found}


def mosaics(predictor: Predictor, scenes: CocoInstances, options: argparse.Namespace) -> Part:
    """A quarter of the finest tiles: what is left without relevance, prompt or image."""
    model = to_native(predictor.model)
    large = Mosaics(scenes, options.count or 20, options.sides or (2048,), options.seed, ("class",))
    found: list[Answered] = []
    for index in range(len(large)):
        arms = controls(model, _chance(options.seed, index), QUARTER)
        found += _ask(large[index], arms, predictor.threshold, f"{index + 1}/{len(large)}")
        yield _so_far(found, index + 1, len(large))
    _check_any(found)
    groups = grouped(found)
    as_is = groups[AS_IS, QUARTER]
    rows = [summary(pairs, as_is) for pairs in groups.values()]
    yield f"{len(as_is)} pairs of a mosaic and a class, {QUARTER:.0%} of the finest tiles"
    yield looking_report.controls_table(rows)
    return {"rows": rows, "outcomes": found}


def budgets(predictor: Predictor, scenes: CocoInstances, options: argparse.Namespace) -> Part:
    """Quality and cost at growing budgets, where the model looks and where chance does."""
    model = to_native(predictor.model)
    large = Mosaics(scenes, options.count or 5, options.sides or (4096,), options.seed, ("class",))
    cost = view_cost(model, large[0].scene)
    yield f"a view: {cost.flops / 1e9:.2f} GFLOPs, {cost.seconds * 1000:.1f} ms"
    found: list[Answered] = []
    for index in range(len(large)):
        blind = rebuilt(model, cropper=_chance(options.seed, index))
        arms = [Arm(AS_IS, model, (0.0, *SHARES)), Arm(RANDOM, blind, SHARES)]
        # What an answer costs follows the number of views: one mosaic tells, in half the time.
        measured = None if index else cost
        place = f"{index + 1}/{len(large)}"
        found += _ask(large[index], arms, predictor.threshold, place, measured)
        yield _so_far(found, index + 1, len(large))
    _check_any(found)
    groups = grouped(found)
    full = groups[AS_IS, 1.0]
    rows = [summary(pairs, full) for pairs in groups.values()]
    yield f"{len(full)} pairs of a mosaic and a class; cost from the first mosaic"
    yield looking_report.budgets_table(rows)
    return {"view": cost, "rows": rows, "outcomes": found}


PARTS = {"small": small, "mosaics": mosaics, "budgets": budgets}


def _chance(seed: int, index: int) -> Any:
    """Looks anywhere, and elsewhere in every mosaic: its order follows from seed and size alone."""
    return CROPPERS.build({"type": "baselines/random", "seed": 1000 * seed + index})


def _ask(
    sample: LabelledSample,
    arms: Sequence[Arm],
    threshold: float,
    place: str,
    cost: ViewCost | None = None,
) -> list[Answered]:
    total = len(set(sample.labels)) * sum(len(arm.shares) for arm in arms)
    asked = answers(sample, arms, threshold, cost)
    return list(tqdm(asked, total=total, desc=f"mosaic {place}", unit="answer", leave=False))


def _so_far(found: Sequence[Answered], done: int, count: int) -> str:
    means = [
        f"{name} {share:.0%} {mean_iou(pairs).value:.3f}"
        for (name, share), pairs in grouped(found).items()
    ]
    return f"mean IoU after {done} of {count} mosaics: {', '.join(means) or 'nothing is there'}"


def _check_any(found: Sequence[Answered]) -> None:
    if not found:
        raise DataError("no mosaic shows an object; give more of them, or larger ones (--sides)")


if __name__ == "__main__":
    sys.exit(main())
