"""mmengine's Runner, made safe: it reads no code, and no checkpoint is ever half written."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import Tensor, nn

from .. import weights
from ..errors import CheckpointError
from . import sharding
from .trainable import Trainable, build

RESUMABLE = ("message_hub", "optimizer")
LEAST = 1_000_000
"""Parameters from which a block of a sharded model is worth sending by itself."""


@RUNNERS.register_module()
class GeoMagRunner(Runner):
    """Trains and tests what a config's `model` describes, wrapped as its `trainable` says."""

    _load_from: str | None
    _has_loaded: bool
    _gathered: Mapping[str, Any] = {}
    """What a checkpoint of a sharded run will hold, while it is being written."""

    @property
    def trainable(self) -> Trainable:
        model = self.model.module if is_model_wrapper(self.model) else self.model
        assert isinstance(model, Trainable)
        return model

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        if self.cfg.get("sharded") is None or not self.distributed:
            wrapped: nn.Module = super().wrap_model(model_wrapper_cfg, model)
            return wrapped
        device = torch.device(get_device())
        sharding.shard(model.to(device), device, self.cfg.sharded.get("least", LEAST))
        self.logger.info("The weights are shared out among the processes.")
        return model

    def _init_model_weights(self) -> None:
        if not sharding.is_sharded(self.trainable):  # or else they were made equal before
            super()._init_model_weights()

    def build_model(self, model: Mapping[str, Any] | nn.Module) -> Trainable:
        if isinstance(model, Trainable):
            return model
        return Trainable(build(model), **self.cfg.get("trainable", {}))  # type: ignore[arg-type]

    def build_logger(self, *args: Any, **options: Any) -> MMLogger:
        logger = super().build_logger(*args, **options)
        for handler in logger.handlers:
            handler.addFilter(_is_news)
        return logger

    @staticmethod
    def build_dataloader(*args: Any, **options: Any) -> Any:
        loader = Runner.build_dataloader(*args, **options)
        if not hasattr(loader.dataset, "metainfo"):
            loader.dataset.metainfo = {}  # mmengine warns where there is none
        return loader

    def load_or_resume(self) -> None:
        """Resumes from the newest checkpoint that is whole, where none is named.

        Raises:
            CheckpointError: the one that is named cannot be used.
        """
        if self._resume and self._load_from is None and not self._has_loaded:
            newest = weights.newest(Path(self.work_dir), self.logger.warning)
            if newest is None:
                self.logger.info(f"Nothing to resume from in {self.work_dir}; starting anew.")
                self._has_loaded = True
                return
            self._load_from = str(newest)
        super().load_or_resume()

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: object = "cpu",
    ) -> None:
        schedulers = resume_param_scheduler and self.param_schedulers is not None
        super().resume(filename, resume_optimizer, schedulers, map_location)

    def load_checkpoint(
        self,
        filename: str,
        map_location: object = "cpu",
        strict: bool = True,
        revise_keys: object = (),
    ) -> dict[str, Any]:
        """Loads weights, all of them or none; the other arguments of mmengine's change nothing.

        Raises:
            CheckpointError: the file is missing, damaged, holds code, or fits another model.
        """
        contents = weights.read(filename)
        if self._resume:
            lacking = [part for part in RESUMABLE if part not in contents]
            if lacking or not {"iter", "epoch"} <= contents["meta"].keys():
                raise CheckpointError(
                    f"checkpoint {filename} holds weights alone and cannot be resumed from; start "
                    "from it with --cfg-options load_from=..."
                )
            contents["message_hub"] = revived(contents["message_hub"])
        # Under the names of the wrapped model: mmengine's averaging hook compares them.
        own = weights.unwrapped(contents)
        contents["state_dict"] = {f"model.{name}": tensor for name, tensor in own.items()}
        self.call_hook("after_load_checkpoint", checkpoint=contents)
        model = cast(nn.Module, self.trainable.model)
        if sharding.is_sharded(self.trainable):
            self._scatter(contents, own, model)
        weights.load(model, contents, filename, weights.sourced(model))
        self._has_loaded = True
        self.logger.info(f"Loaded {filename}")
        return contents

    def _scatter(
        self, contents: dict[str, Any], own: Mapping[str, Tensor], model: nn.Module
    ) -> None:
        """Shares out what was read as the model's own weights are."""
        shared = sharding.scattered(own, model.state_dict())
        contents["state_dict"] = {f"model.{name}": tensor for name, tensor in shared.items()}
        if self._resume:
            groups = self.optim_wrapper.param_groups
            parameters = [parameter for group in groups for parameter in group["params"]]
            contents["optimizer"] = sharding.scattered_optimizer(contents["optimizer"], parameters)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **options: Any) -> None:
        """Writes a checkpoint, whole or not at all.

        Raises:
            OutputError: the folder cannot be written to, or the disk is full.
        """
        if sharding.is_sharded(self.trainable):  # all processes have to bring their share
            self._gathered = {
                "state_dict": sharding.gathered(self._own(self.trainable.state_dict())),
                "optimizer": sharding.gathered(self.optim_wrapper.state_dict()),
            }
        if is_main_process():
            with weights.replacing(Path(out_dir) / filename) as temporary:
                super().save_checkpoint(str(temporary.parent), temporary.name, *args, **options)
        self._gathered = {}

    def complete(self, checkpoint: dict[str, Any]) -> None:
        """Puts whole tensors into a checkpoint that is about to be written, and leaves out those
        that the model's parts read from elsewhere."""
        checkpoint.update(
            (part, whole) for part, whole in self._gathered.items() if part in checkpoint
        )
        checkpoint["state_dict"] = self._own(checkpoint["state_dict"])

    def _own(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict without what the model's parts read from elsewhere."""
        again = weights.sourced(cast(nn.Module, self.trainable.model))
        return {
            name: tensor
            for name, tensor in state.items()
            if name.removeprefix("model.") not in again
        }


def _is_news(record: logging.LogRecord) -> bool:
    """Keeps back what mmengine says of its own deprecated parts, which it uses in every run."""
    return not record.getMessage().startswith(('"FileClient" will', '"HardDiskBackend" is'))


def plain(message_hub: Mapping[str, Any]) -> dict[str, Any]:
    """mmengine's message hub as tensors and plain values, which can be read without unpickling."""
    scalars = {
        name: {
            "values": torch.as_tensor(buffer.data[0], dtype=torch.float64),
            "counts": torch.as_tensor(buffer.data[1], dtype=torch.int64),
            "longest": buffer.max_length,
        }
        for name, buffer in message_hub["log_scalars"].items()
    }
    known = {
        name: value.item() if hasattr(value, "item") else value
        for name, value in message_hub["runtime_info"].items()
    }
    known = {name: value for name, value in known.items() if is_plain(value)}
    kept = {
        name: bool(resumed)
        for name, resumed in message_hub["resumed_keys"].items()
        if name in scalars or name in known
    }
    return {"log_scalars": scalars, "runtime_info": known, "resumed_keys": kept}


def revived(message_hub: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `plain`."""
    scalars = {
        name: HistoryBuffer(kept["values"].tolist(), kept["counts"].tolist(), kept["longest"])
        for name, kept in message_hub["log_scalars"].items()
    }
    return {**message_hub, "log_scalars": scalars}


def is_plain(value: object) -> bool:
    """Whether a value is made of numbers, texts and None, in lists and dicts."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(part) for part in value)
    return value is None or type(value) in (bool, int, float, str)
