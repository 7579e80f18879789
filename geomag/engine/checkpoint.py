"""When checkpoints are written, and what training notes in them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .. import __version__, weights
from .runner import GeoMagRunner, is_plain, plain


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Saves every `interval` iterations, at the last one, and where training is stopped early.

    An old checkpoint is deleted once the new one is safe on the disk, so there is always one to
    resume from. `last_checkpoint` holds a file name, so that a work folder can be moved.
    """

    def __init__(self, interval: int = 500, max_keep_ckpts: int = 2, **options: Any) -> None:
        super().__init__(
            interval=interval, by_epoch=False, max_keep_ckpts=max_keep_ckpts, **options
        )
        self._saved = -1

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if is_main_process():
            # What a run that was killed while saving has left.
            for stale in Path(self.out_dir).glob(".*.part"):
                stale.unlink(missing_ok=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if runner.train_loop.stop_training and self._saved != runner.iter + 1:
            runner.logger.info(f"Saving checkpoint at {runner.iter + 1} iterations")
            self._save_checkpoint(runner)

    def before_save_checkpoint(self, runner: GeoMagRunner, checkpoint: dict[str, Any]) -> None:
        """Leaves tensors and plain values alone in it, and notes where it comes from."""
        runner.complete(checkpoint)
        checkpoint["message_hub"] = plain(checkpoint["message_hub"])
        meta = checkpoint["meta"]
        meta.update(
            geomag_version=__version__,
            torch_version=str(torch.__version__),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            processes=runner.world_size,
        )
        checkpoint["meta"] = {key: value for key, value in meta.items() if is_plain(value)}

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            while len(self.keep_ckpt_ids) >= self.max_keep_ckpts:
                outdated.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        folder, name = Path(self.out_dir), self.filename_tmpl.format(step)
        self.last_ckpt = str(folder / name)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            # Where the schedule is a hook there is nothing to save, which mmengine warns of.
            save_param_scheduler=self.save_param_scheduler and bool(runner.param_schedulers),
            meta=meta,
            by_epoch=self.by_epoch,
        )
        self._saved = step
        if not is_main_process():
            return
        with weights.replacing(Path(runner.work_dir) / "last_checkpoint") as temporary:
            temporary.write_text(os.path.relpath(self.last_ckpt, runner.work_dir), encoding="utf-8")
        for old in outdated:
            (folder / self.filename_tmpl.format(old)).unlink(missing_ok=True)
