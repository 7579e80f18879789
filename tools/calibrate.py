"""Chooses presence, the score below which a mask is taken for not there.

  python tools/calibrate.py CONFIG CHECKPOINT
  python tools/calibrate.py CONFIG CHECKPOINT --scenes shown_scenes --presence 0.4

Asks "every CLASS" of every scene of held_scenes, a data set of the config that nothing was learnt
from, for what is there and for what is not; the second line shows what a presence is worth
elsewhere. Brackets are 95 % bootstrap intervals over images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import machine
from looking_report import plain
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import DATASETS
from torch import nn
from tqdm import tqdm

from geomag import plugins, registry, weights
from geomag.data.samples import LabelledSample
from geomag.engine import checking
from geomag.engine.launch import DATA_VARIABLE
from geomag.engine.trainable import Trainable, build
from geomag.errors import CheckpointError, ConfigError, DataError, GeoMagError
from geomag.evaluation.calibration import (
    ABSENT,
    PRESENT,
    Comparison,
    Trade,
    by_prompt,
    choose,
    comparison,
    figures,
    trades,
)
from geomag.evaluation.masks import Figure
from geomag.evaluation.outcomes import Outcome

ROWS = {
    "refused": "refused, of what is not there",
    "false_refusals": "falsely refused, of what is there",
    "mean_iou": "mean IoU, of what is there",
}


def main() -> int:
    """Prints the report; returns 2, with one line, where the user is wrong."""
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
    parser.add_argument("config", help="config file, as in configs/")
    parser.add_argument(
        "checkpoint", type=Path, help=".pth or .safetensors, or a work folder for its newest"
    )
    parser.add_argument(
        "--scenes", default="held_scenes", metavar="KEY", help="of a data set (held_scenes)"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--most", type=_share, default=0.10, help="share of what is there to refuse at most (0.1)"
    )
    chosen.add_argument("--presence", type=_share, help="one to apply, where none is to be chosen")
    parser.add_argument(
        "--without",
        type=Path,
        metavar="FILE",
        help='.json with "pairs" of an image and one of train that shares its ground, to leave out',
    )
    parser.add_argument("--out", type=Path, help="file for all figures and outcomes, .json")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="settings to change in the config, by dotted key",
    )
    return parser


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise ValueError
    return number


def run(options: argparse.Namespace) -> Iterator[str]:
    """Answers and reports; the file is written whole, or not at all."""
    config = read(options)
    scenes = data_set(config, options.scenes)
    groups = {"all images": {scenes[place].name for place in range(len(scenes))}}
    if options.without:
        left = groups["all images"] - sharing(options.without)
        if left == groups["all images"]:
            raise DataError(
                f"{options.without} names no image of {options.scenes}; give the file of that data "
                "set, or leave --without out"
            )
        groups["without those that share ground with train"] = left
    trainable, file = load(config, options.checkpoint)
    hashed = hashlib.sha256(file.read_bytes()).hexdigest()  # a training may delete the file
    yield f"weights {file.name}, {options.scenes}"
    found, several = ask(trainable, scenes)
    presence = choose(found, options.most) if options.presence is None else options.presence
    yield _verdict(options, presence, found)
    if several:
        yield (
            f"{several} answers have several masks, which a model drops one by one; overlaps after "
            "are worked out as if it dropped all or none"
        )
    report: dict[str, Any] = {
        "config": options.config,
        "checkpoint": str(file),
        "sha256": hashed,
        "options": options.cfg_options or {},
        "scenes": options.scenes,
        "most": options.most if options.presence is None else None,
        "presence": presence,
        "figures": {},
    }
    for name, images in groups.items():
        some = [outcome for outcome in found if outcome.name in images]
        whole = comparison(some, presence)
        by_class = {key: comparison(one, presence) for key, one in by_prompt(some).items()}
        yield from _tables(name, whole, by_class)
        report["figures"][name] = {"together": whole, "by_class": by_class}
    rows = trades(found)
    yield f"\nwhat false refusals are worth, all images\n{_trade_table(rows)}"
    if options.out:
        _write(options.out, {**report, "trades": rows, "outcomes": found})
        yield f"\nwrote {options.out}"


def read(options: argparse.Namespace) -> Config:
    """The config, of a model that refuses nothing by its score; a `root` lies under `data_root`."""
    given: dict[str, Any] = {**(options.cfg_options or {}), "model.presence": 0.0}
    root = os.environ.get(DATA_VARIABLE)
    if root:
        given.setdefault("data_root", root)
    return checking.read(options.config, given)


def data_set(config: Config, key: str) -> Any:
    """The data set that a config has under some key.

    Raises:
        ConfigError: there is none, or it cannot be built.
        DataError: it is not where the config says.
    """
    part = config.get(key)
    if not isinstance(part, Mapping) or "type" not in part:
        keys = [name for name, value in config.items() if isinstance(value, Mapping)]
        near = plugins.nearest(key, keys)
        raise ConfigError(f"config {config.filename} has no data set {key}.{near}")
    registry.adopt(part)
    try:
        return DATASETS.build(_placed(part, Path(config.get("data_root", ""))))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"config {config.filename}: {key} cannot be built: {error}") from error


def _placed(part: Any, root: Path) -> Any:
    """A data set, and those that it is made of, with `root` before the relative one of each."""
    if isinstance(part, Mapping):
        placed = {key: _placed(value, root) for key, value in part.items()}
        if isinstance(placed.get("root"), str):
            placed["root"] = str(root / placed["root"])  # an absolute one stays
        return placed
    return [_placed(item, root) for item in part] if isinstance(part, list | tuple) else part


def sharing(path: Path) -> set[str]:
    """The first of each of the pairs in a file.

    Raises:
        ConfigError: it is no JSON, or holds no pairs.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    pairs = content.get("pairs") if isinstance(content, Mapping) else None
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and pair for pair in pairs):
        raise ConfigError(f'{path}: expected {{"pairs": [[IMAGE, IMAGE OF TRAIN], ...]}}')
    return {str(pair[0]) for pair in pairs}


def load(config: Config, checkpoint: Path) -> tuple[Trainable, Path]:
    """The model with its weights, and the file that they are from.

    Raises:
        CheckpointError: there is none that can be read, or it is another model's.
    """
    file: Path | None = checkpoint
    if checkpoint.is_dir():
        file = weights.newest(checkpoint, lambda told: sys.stderr.write(f"warning: {told}\n"))
    if file is None:
        raise CheckpointError(f"{checkpoint} holds no checkpoint (iter_*.pth) that can be read")
    trainable = Trainable(cast(nn.Module, build(config.model)), **config.get("trainable", {}))
    weights.load(cast(nn.Module, trainable.model), weights.read(file), file)
    return trainable.to(get_device()).eval(), file


def ask(trainable: Trainable, scenes: Any) -> tuple[list[Outcome], int]:
    """All outcomes, and how many answers have several masks."""
    found: list[Outcome] = []
    several = 0
    for place in tqdm(range(len(scenes)), desc="scenes", disable=None, dynamic_ncols=True):
        sample: LabelledSample = scenes[place]
        wanted = [one for one in sample.exchanges if one.task in (PRESENT, ABSENT)]
        examined = trainable.test(replace(sample, exchanges=tuple(wanted)))
        found += examined.outcomes
        several += sum(len(finding.masks) > 1 for finding in examined.findings)
    return found, several


def _verdict(options: argparse.Namespace, presence: float, found: Sequence[Outcome]) -> str:
    if options.presence is not None:
        return f"presence {presence}, as given"
    refused = figures(found).false_refusals.value
    if refused > options.most:
        return f"presence {presence}: {refused:.1%} of what is there are refused whatever it is"
    return f"presence {presence}: the highest that refuses at most {options.most:.1%}"


def _tables(name: str, whole: Comparison, by_class: Mapping[str, Comparison]) -> Iterator[str]:
    yield (
        f"\n{name}: {whole.images}, with {whole.present} exchanges for what is there and "
        f"{whole.absent} for what is not"
    )
    head = ("", "presence 0", "with presence")
    both = (whole.before, whole.after)
    yield machine.table(
        head, [(text, *(_shown(getattr(one, key)) for one in both)) for key, text in ROWS.items()]
    )
    yield ""
    yield machine.table(
        ("mean IoU by class", "images", *head[1:]),
        [
            (prompt, str(one.present), _shown(one.before.mean_iou), _shown(one.after.mean_iou))
            for prompt, one in by_class.items()
        ],
    )


def _trade_table(rows: Sequence[Trade]) -> str:
    return machine.table(
        ("at most", "presence", *ROWS.values()),
        [
            (
                f"{row.most:.0%}",
                f"{row.presence:.4f}",
                *(_shown(getattr(row.figures, key)) for key in ROWS),
            )
            for row in rows
        ],
    )


def _shown(figure: Figure) -> str:
    if figure.value != figure.value:
        return "nothing asked"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _write(path: Path, report: Mapping[str, Any]) -> None:
    with weights.replacing(path) as temporary:
        text = json.dumps(plain(report), indent=1, allow_nan=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
