"""What happens around the iterations: the learning rate, the clock, the seeds, the progress bar."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook, IterTimerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .. import weights
from ..contracts import Sourced
from ..errors import CheckpointError, ConfigError
from ..plugins import nearest

PROGRESS = "progress"
"""The share of training that is done, in mmengine's message hub."""
TRAINED = "seconds_trained"


@HOOKS.register_module()
class Schedule(Hook):
    """Warms the learning rate up, lets it fall along a cosine, and ends a run when its time is up.

    Progress counts iterations, or seconds where `seconds` bounds the run and that is further on.
    The first `warm_up` of a run climbs to the optimizer's learning rate, the rest falls to `end` of
    it. A run that is out of time stops after a whole iteration, with a checkpoint; one that is
    resumed has what was left of its time.
    """

    priority = "HIGHEST"

    def __init__(
        self, warm_up: float = 0.03, end: float = 0.02, seconds: float | None = None
    ) -> None:
        self.warm_up = warm_up
        self.end = end
        self.seconds = seconds
        self._elapsed = 0.0
        self._before = 0.0
        self._began = 0.0

    def rate(self, progress: float) -> float:
        """The learning rate at some progress in [0, 1], as a share of the optimizer's."""
        if progress < self.warm_up:
            return max(progress / self.warm_up, 0.01)
        falling = (progress - self.warm_up) / max(1 - self.warm_up, 1e-9)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * min(falling, 1.0))) / 2

    def before_train(self, runner: Runner) -> None:
        for group in runner.optim_wrapper.param_groups:
            # Saved with the optimizer, so a resumed run knows where it started from.
            group.setdefault("initial_lr", group["lr"])
        self._before = runner.message_hub.get_info(TRAINED, 0.0)
        self._elapsed = self._before
        self._began = time.monotonic()
        self._note(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        rate = self.rate(runner.message_hub.get_info(PROGRESS))
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = group["initial_lr"] * rate

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        elapsed = torch.tensor(self._before + time.monotonic() - self._began, dtype=torch.float64)
        if self.seconds is not None:
            broadcast(elapsed)  # all processes have to stop after the same iteration
        self._elapsed = float(elapsed)
        self._note(runner, runner.iter + 1)

    def _note(self, runner: Runner, done: int | None = None) -> None:
        progress = (runner.iter if done is None else done) / runner.max_iters
        if self.seconds is not None:
            progress = max(progress, self._elapsed / self.seconds)
            if self._elapsed >= self.seconds:
                runner.train_loop.stop_training = True
        runner.message_hub.update_info(TRAINED, self._elapsed)
        runner.message_hub.update_info(PROGRESS, min(progress, 1.0), resumed=False)


@HOOKS.register_module()
class StartFrom(Hook):
    """Starts one part of the model from what another training made of it.

    `checkpoint` is a file, or a work folder for its newest; every tensor of `part` has to fit. What
    is resumed already has it.

    Raises:
        CheckpointError: there is none, it is damaged, or it holds another `part`.
        ConfigError: the model has no such part.
    """

    def __init__(self, checkpoint: str, part: str = "vision_encoder") -> None:
        self.checkpoint = Path(checkpoint)
        self.part = part

    def before_train(self, runner: Runner) -> None:
        if runner.iter:
            return
        path: Path | None = self.checkpoint
        if self.checkpoint.is_dir():
            path = weights.newest(self.checkpoint, runner.logger.warning)
        if path is None:
            raise CheckpointError(
                f"{self.checkpoint} holds no checkpoint (iter_*.pth) to start from"
            )
        state = weights.unwrapped(weights.read(path))
        prefix = f"{self.part}."
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        module = getattr(runner.trainable.model, self.part, None)
        if not isinstance(module, nn.Module):
            named = [name for name, _ in runner.trainable.model.named_children()]
            raise ConfigError(
                f"StartFrom: there is no part {self.part!r}.{nearest(self.part, named)}"
            )
        again = module.sourced() if isinstance(module, Sourced) else ()
        weights.load(module, {"state_dict": own}, f"{path} ({self.part})", again)
        runner.logger.info(f"{self.part} starts from {path}")


@HOOKS.register_module()
class Timer(IterTimerHook):
    """Times iterations; what is left is told by progress, so that a time limit counts."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        done = runner.message_hub.get_info(PROGRESS)
        if done:
            left = runner.message_hub.get_info(TRAINED) * (1 - done) / done
            runner.message_hub.update_info("eta", left)


@HOOKS.register_module()
class IterationSeed(Hook):
    """Seeds every iteration by its number and process.

    What is drawn in an iteration does not depend on the ones before it, so a run that is resumed
    draws what an unbroken one draws, and no generator has to be saved.
    """

    priority = "HIGHEST"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        entropy = [runner.seed or 0, runner.iter, runner.rank]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


@HOOKS.register_module()
class ProgressBar(Hook):
    """One bar for training and one for testing, on the terminal of the main process.

    Log lines appear above it. Where the output is no terminal there is no bar.
    """

    priority = "LOW"

    def __init__(self) -> None:
        self._bar: Any = None
        self._open = contextlib.ExitStack()

    def before_train(self, runner: Runner) -> None:
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._start(runner, "training", 1.0, form)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._bar is None:
            return
        shown = {name: f"{value:.3f}" for name, value in (outputs or {}).items()}
        self._bar.set_postfix({"iteration": runner.iter + 1, **shown}, refresh=False)
        done = runner.message_hub.get_info(PROGRESS, (runner.iter + 1) / runner.max_iters)
        self._bar.update(max(done - self._bar.n, 0))

    def after_train(self, runner: Runner) -> None:
        self._stop()

    def before_test(self, runner: Runner) -> None:
        self._start(runner, "testing", len(runner.test_dataloader), None)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def after_test(self, runner: Runner) -> None:
        self._stop()

    def _start(self, runner: Runner, task: str, total: float, form: str | None) -> None:
        if is_main_process():
            self._bar = tqdm(
                total=total, desc=task, bar_format=form, disable=None, dynamic_ncols=True
            )
        if self._bar is not None and not self._bar.disable:
            self._open.enter_context(_above_the_bar(runner.logger))

    def _stop(self) -> None:
        self._open.close()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextlib.contextmanager
def _above_the_bar(logger: logging.Logger) -> Iterator[None]:
    """Log lines go through tqdm meanwhile, with the level and the filters that they had."""
    level = max((one.level for one in logger.handlers), default=logging.NOTSET)
    filters = [one for handler in logger.handlers for one in handler.filters]
    with logging_redirect_tqdm([logger]):
        for handler in logger.handlers:
            handler.setLevel(level)
            handler.filters = list(dict.fromkeys([*handler.filters, *filters]))
        yield
