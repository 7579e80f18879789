"""Makes the weights of plugins/tiny from nothing: python tools/train_default.py

Stages, each in a folder of its own under --work-dir:

  encoder    trains the encoder alone, with one output channel a class
  model      trains the model, which starts from that encoder
  yardstick  goes on with stage encoder for as many iterations as the model had
  calibrate  chooses the presence of both (tools/calibrate.py)
  publish    writes the model's weights with their card, where --publish names a file

Stopped at any moment, the same command goes on from the last checkpoint. What is finished is
skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from geomag import weights
from geomag.engine import checking
from geomag.engine.publish import read_card
from geomag.errors import CheckpointError, ConfigError, GeoMagError

ROOT = Path(__file__).resolve().parents[1]
# Checkpoints and cards note the command, and are no place for a path of this machine.
MODEL = os.path.relpath(ROOT / "configs" / "tiny_nwpu.py")
YARDSTICK = os.path.relpath(ROOT / "configs" / "yardstick_nwpu.py")
RATE = 3e-4
"""The learning rate with which the yardstick goes on: the model's for what is learnt already."""
STOPPED = 130
SPECIAL = ",()[]'\" "
"""What --cfg-options of tools/train.py would not take for part of a file name."""


@dataclass(frozen=True, slots=True)
class Training:
    """One stage of training, bounded by its `seconds` and by the iterations of its config, which
    `settings` change. It starts once `base` is finished, and with all its weights if `loads`."""

    name: str
    config: str
    folder: Path
    settings: tuple[str, ...]
    seconds: float | None
    base: Training | None = None
    loads: bool = False


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a training has come, in its newest checkpoint that is whole."""

    checkpoint: Path
    seconds: float
    iterations: int

    def __str__(self) -> str:
        return f"{self.iterations} iterations, {self.seconds:.0f} s"


def main() -> int:
    """Says what it does; returns 2 where the user is wrong, or a tool failed."""
    options = _parser().parse_args()
    try:
        for line in run(options):
            print(line, flush=True)
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return STOPPED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, default="work_dirs/default", help="(%(default)s)")
    parser.add_argument("--encoder-seconds", type=_positive, default=2400, help="(2400)")
    parser.add_argument("--model-seconds", type=_positive, default=3300, help="(3300)")
    stages = list(STAGES)
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages, help="(all)")
    parser.add_argument("--publish", type=Path, help="file for the weights, .safetensors")
    parser.add_argument("--card", type=Path, help=".json, as tools/publish_model.py takes it")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings to change in both configs; those that make a stage what it is go before",
    )
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise ValueError
    return number


def run(options: argparse.Namespace) -> Iterator[str]:
    """The stages that were asked for, in order; all that can be wrong is found before the first."""
    check(options)
    for stage, made in STAGES.items():
        if stage in options.stages:
            yield from made(options)


def check(options: argparse.Namespace) -> None:
    """Nothing, where the stages can be run as they are asked for.

    Raises:
        ConfigError: a setting, the work folder or what is to be published does not fit.
    """
    odd = [text for text in options.cfg_options if "=" not in text]
    if odd:
        raise ConfigError(f"--cfg-options {' '.join(odd)}: expected KEY=VALUE")
    if any(letter in SPECIAL for letter in str(options.work_dir)):
        raise ConfigError(f"--work-dir {options.work_dir}: expected a folder without any {SPECIAL}")
    for training in (encoder(options), model(options)):
        most_iterations(training)
    if options.publish is None:
        return
    if options.publish.suffix != ".safetensors" or options.card is None:
        raise ConfigError("--publish: expected a name that ends in .safetensors, and a --card")
    read_card(_json(options.card), options.card)


def encoder(options: argparse.Namespace) -> Training:
    """Stage encoder."""
    seconds, folder = options.encoder_seconds, options.work_dir / "encoder"
    settings = (*options.cfg_options, f"custom_hooks.0.seconds={seconds}")
    return Training("encoder", YARDSTICK, folder, settings, seconds)


def model(options: argparse.Namespace) -> Training:
    """Stage model."""
    seconds, folder, base = options.model_seconds, options.work_dir / "model", encoder(options)
    own = (f"custom_hooks.0.seconds={seconds}", f"custom_hooks.1.checkpoint={base.folder}")
    return Training("model", MODEL, folder, (*options.cfg_options, *own), seconds, base)


def yardstick(options: argparse.Namespace) -> Training:
    """Stage yardstick, which has as many iterations as stage model.

    Raises:
        CheckpointError: that is not finished.
    """
    own = (
        f"train_cfg.max_iters={completed(model(options)).iterations}",
        f"optim_wrapper.optimizer.lr={RATE}",
        "custom_hooks.0.seconds=None",
    )
    settings, folder = (*options.cfg_options, *own), options.work_dir / "yardstick"
    return Training("yardstick", YARDSTICK, folder, settings, None, encoder(options), loads=True)


def calibrate(options: argparse.Namespace) -> Iterator[str]:
    """Chooses the presence of both models, unless that was done for these very weights."""
    for training in (model(options), yardstick(options)):
        checkpoint = completed(training).checkpoint
        report = options.work_dir / f"calibration_{training.name}.json"
        # Names alone come again in another training.
        weighed = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        if report.is_file() and _json(report)["sha256"] == weighed:
            yield f"calibrate: {training.name} is finished; skipped"
        else:
            yield f"calibrate: {training.name}, {checkpoint}"
            given = ("--cfg-options", *options.cfg_options) if options.cfg_options else ()
            call("calibrate.py", training.config, checkpoint, "--out", report, *given)
        yield f"calibrate: presence of {training.name} is {_json(report)['presence']} ({report})"


def publish(options: argparse.Namespace) -> Iterator[str]:
    """Writes the model's weights and their card, where a file for them is named."""
    if options.publish is None:
        yield "publish: no file is named (--publish); skipped"
        return
    checkpoint = completed(model(options)).checkpoint
    yield f"publish: {checkpoint} as {options.publish}"
    call("publish_model.py", checkpoint, options.publish, "--card", options.card)


STAGES = {
    "encoder": lambda options: train(encoder(options)),
    "model": lambda options: train(model(options)),
    "yardstick": lambda options: train(yardstick(options)),
    "calibrate": calibrate,
    "publish": publish,
}


def train(training: Training) -> Iterator[str]:
    """Trains until the stage's time or iterations are up, from where it was stopped."""
    found, settings, going_on = reached(training.folder), list(training.settings), ["--resume"]
    if found is not None and finished(training, found):
        yield f"{training.name}: finished with {found}; skipped"
        return
    start = completed(training.base).checkpoint if training.base and not found else None
    if start and training.loads:
        # With --resume, tools/train.py would leave load_from out of account.
        going_on, settings = [], [*settings, f"load_from={start}"]
    first = f"starts from {start}" if start else "starts"
    yield f"{training.name}: {f'goes on after {found}' if found else first}"
    place = ("--work-dir", training.folder)
    call("train.py", training.config, *place, *going_on, "--cfg-options", *settings)
    yield f"{training.name}: finished with {completed(training)}"


def call(tool: str, *arguments: str | Path) -> None:
    """Runs a tool, in this environment and on this terminal.

    Raises:
        KeyboardInterrupt: it was stopped.
        GeoMagError: it failed, and has said why.
    """
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    code = subprocess.run(command).returncode
    if code in (STOPPED, -signal.SIGINT):
        raise KeyboardInterrupt
    if code:
        raise GeoMagError(
            f"{tool} ended with exit code {code}; once that is mended, the same command goes on"
        )


def completed(training: Training) -> Reached:
    """What a stage that is finished has reached.

    Raises:
        CheckpointError: it is not.
    """
    found = reached(training.folder)
    if found is None or not finished(training, found):
        raise CheckpointError(
            f"stage {training.name} is not finished in {training.folder}, which holds "
            f"{found or 'nothing'}; run it first, or say for how long it was meant to be trained"
        )
    return found


def reached(folder: Path) -> Reached | None:
    """How far a training in some folder has come, None where there is no checkpoint yet."""
    newest = weights.newest(folder, lambda told: sys.stderr.write(f"warning: {told}\n"))
    if newest is None:
        return None
    contents = weights.read(newest)
    noted = contents.get("message_hub", {}).get("runtime_info", {})
    return Reached(newest, noted.get("seconds_trained", 0.0), contents["meta"].get("iter", 0))


def finished(training: Training, found: Reached) -> bool:
    """Whether the time of a stage is up, or all its iterations are done."""
    out_of_time = training.seconds is not None and found.seconds >= training.seconds
    return out_of_time or found.iterations >= most_iterations(training)


def most_iterations(training: Training) -> int:
    """How many iterations the config of a stage allows.

    Raises:
        ConfigError: one of its settings is of nothing that there is.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    given = parser.parse_args(["--cfg-options", *training.settings]).cfg_options
    return int(checking.read(training.config, given).train_cfg.max_iters)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error


if __name__ == "__main__":
    # What runs is ended with this process, so that no second run meets it in its folder.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
