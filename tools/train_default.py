"""Makes the weights of plugins/tiny from nothing: python tools/train_default.py

Stages, each in a folder of its own under --work-dir:

  encoder    trains the encoder alone, with one output channel a class
  model      trains the model, which starts from that encoder
  refined    goes on with the model, at half the rate and with more expressions of places
  yardstick  goes on with stage encoder for as many iterations as model and refined had
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
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages import STOPPED, Training, call, completed, most_iterations, train

from geomag.engine.publish import read_card
from geomag.errors import ConfigError, GeoMagError

ROOT = Path(__file__).resolve().parents[1]
# Checkpoints and cards note the command, and are no place for a path of this machine.
MODEL = os.path.relpath(ROOT / "configs" / "tiny_nwpu.py")
YARDSTICK = os.path.relpath(ROOT / "configs" / "yardstick_nwpu.py")
RATE = 5e-4
"""The learning rate of what goes on with what is learnt already."""
TASKS = (
    "[(referring,0.45),(class,0.26),(absent,0.15),(presence,0.02),(count,0.03),(grounding,0.03),"
    "(caption,0.02),(classification,0.01),(conversation,0.02),(follow_up,0.01)]"
)
"""What stage refined is asked for: nearly half of it is where things are."""
SPECIAL = ",()[]'\" "
"""What --cfg-options of tools/train.py would not take for part of a file name."""


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
    parser.add_argument("--refined-seconds", type=_positive, default=2700, help="(2700)")
    parser.add_argument(
        "--processes", type=int, default=1, help="a training; each has its batch (1)"
    )
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
    for training in (encoder(options), model(options), refined(options)):
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
    return Training("encoder", YARDSTICK, folder, settings, seconds, processes=options.processes)


def model(options: argparse.Namespace) -> Training:
    """Stage model."""
    seconds, folder, base = options.model_seconds, options.work_dir / "model", encoder(options)
    own = (f"custom_hooks.0.seconds={seconds}", f"custom_hooks.1.checkpoint={base.folder}")
    return replace(
        base,
        name="model",
        config=MODEL,
        folder=folder,
        settings=(*options.cfg_options, *own),
        seconds=seconds,
        base=base,
    )


def refined(options: argparse.Namespace) -> Training:
    """Stage refined."""
    seconds, base = options.refined_seconds, model(options)
    own = (
        f"custom_hooks.0.seconds={seconds}",
        f"custom_hooks.1.checkpoint={base.folder}",
        f"optim_wrapper.optimizer.lr={RATE}",
        "train_dataloader.dataset.seed=1",
        f"train_dataloader.dataset.tasks={TASKS}",
    )
    return replace(
        base,
        name="refined",
        folder=options.work_dir / "refined",
        settings=(*options.cfg_options, *own),
        seconds=seconds,
        base=base,
        loads=True,
    )


def yardstick(options: argparse.Namespace) -> Training:
    """Stage yardstick, which has as many iterations as stages model and refined.

    Raises:
        CheckpointError: one of them is not finished.
    """
    iterations = sum(completed(part(options)).iterations for part in (model, refined))
    own = (
        f"train_cfg.max_iters={iterations}",
        f"optim_wrapper.optimizer.lr={RATE}",
        "custom_hooks.0.seconds=None",
    )
    settings, folder = (*options.cfg_options, *own), options.work_dir / "yardstick"
    base = encoder(options)
    return replace(
        base,
        name="yardstick",
        folder=folder,
        settings=settings,
        seconds=None,
        base=base,
        loads=True,
    )


def calibrate(options: argparse.Namespace) -> Iterator[str]:
    """Chooses the presence of both models, unless that was done for these very weights."""
    for training in (refined(options), yardstick(options)):
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
    checkpoint = completed(refined(options)).checkpoint
    yield f"publish: {checkpoint} as {options.publish}"
    call("publish_model.py", checkpoint, options.publish, "--card", options.card)


STAGES = {
    "encoder": lambda options: train(encoder(options)),
    "model": lambda options: train(model(options)),
    "refined": lambda options: train(refined(options)),
    "yardstick": lambda options: train(yardstick(options)),
    "calibrate": calibrate,
    "publish": publish,
}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error


if __name__ == "__main__":
    # What runs is ended with this process, so that no second run meets it in its folder.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
