"""Stages of a longer training, each of which is run in its own folder and resumed there."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import DictAction

from geomag import weights
from geomag.engine import checking
from geomag.errors import CheckpointError, GeoMagError

TOOLS = Path(__file__).resolve().parent
STOPPED = 130


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
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a training has come, in its newest checkpoint that is whole."""

    checkpoint: Path
    seconds: float
    iterations: int

    def __str__(self) -> str:
        return f"{self.iterations} iterations, {self.seconds:.0f} s"


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
    several = ("--launcher", "pytorch") if training.processes > 1 else ()
    arguments = (training.config, *place, *several, *going_on, "--cfg-options", *settings)
    call("train.py", *arguments, processes=training.processes)
    yield f"{training.name}: finished with {completed(training)}"


def call(tool: str, *arguments: str | Path, processes: int = 1) -> None:
    """Runs a tool, in this environment and on this terminal, in one or several processes.

    Raises:
        KeyboardInterrupt: it was stopped.
        GeoMagError: it failed, and has said why.
    """
    several = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    program = [sys.executable, *several] if processes > 1 else [sys.executable]
    command = [*program, str(TOOLS / tool), *map(str, arguments)]
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
