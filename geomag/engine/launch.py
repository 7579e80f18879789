"""Training and testing from the command line, with the flags that OpenMMLab's users know."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import barrier, is_main_process

from .. import registry, weights
from ..errors import CheckpointError, ConfigError, GeoMagError
from ..evaluation.controls import Blanked, PromptSwapped
from ..evaluation.outcomes import OutcomeKeeper
from ..hookspecs import SLOT_KINDS
from . import checking, distributed, stages
from .pictures import PictureHook
from .runner import GeoMagRunner

DATA_VARIABLE = "GEOMAG_DATA"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")
CONTROLS = {"blanked": Blanked, "swapped": PromptSwapped}


def train(arguments: Sequence[str]) -> int:
    """Trains what a config describes; returns the exit code."""
    parser = _parser("Train a GeoMag.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from a checkpoint, or from the newest in the work folder",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision, on a GPU")
    parser.add_argument("--stage", help="one of the config's stages; goes on from the one before")
    parser.add_argument(
        "--sharded", action="store_true", help="share the weights out among the processes"
    )
    return _guarded(_train, parser.parse_args(arguments))


def test(arguments: Sequence[str]) -> int:
    """Tests a checkpoint on what a config describes; returns the exit code."""
    parser = _parser("Test a GeoMag.")
    parser.add_argument(
        "checkpoint", help=".pth or .safetensors, or a work folder for its newest checkpoint"
    )
    parser.add_argument("--out", help="file for all figures and outcomes, .json")
    parser.add_argument("--show-dir", help="folder for a picture of every answer")
    return _guarded(_test, parser.parse_args(arguments))


def _parser(description: str) -> ArgumentParser:
    parser = ArgumentParser(description=description)
    parser.add_argument("config", help="config file, as in configs/")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints (work_dirs/CONFIG)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="settings to change in the config, by dotted key",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--small",
        action="store_true",
        help="random and small weights in place of those that the config names",
    )
    # Older torch launchers pass it; newer ones, and we, use the environment.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    return parser


def _guarded(run: Callable[[Namespace], None], options: Namespace) -> int:
    os.environ.setdefault("LOCAL_RANK", str(options.local_rank))
    # mmengine reads a checkpoint again without this safeguard where reading it safely fails.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        run(options)
    except GeoMagError as error:
        sys.stderr.write(f"error: {_original(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; --resume goes on from the last checkpoint\n")
        return 130
    finally:
        distributed.finish()
    return 0


def _original(error: GeoMagError) -> str:
    """The message as it was before a data worker wrapped it in its traceback."""
    message = str(error)
    if message.startswith(f"Caught {type(error).__name__} in DataLoader worker"):
        return message.rpartition(f"{type(error).__name__}: ")[2]
    return message


def _train(options: Namespace) -> None:
    config = _config(options, options.stage)
    for key in ("train_dataloader", "train_cfg", "optim_wrapper"):
        if config.get(key) is None:
            raise ConfigError(f"config {options.config} lacks {key}, which training needs")
    _check_side(config)
    if options.amp:
        _use_mixed_precision(config)
    if options.resume not in (None, "auto"):
        config.resume, config.load_from = True, options.resume
    elif options.resume and not (config.get("load_from") and _nothing_in(config.work_dir)):
        config.resume, config.load_from = True, None
    if options.sharded:
        config.setdefault("sharded", {})
    if config.get("sharded") is not None:
        _use_shards(config, options.launcher)
    distributed.prepare(config, options.launcher)
    GeoMagRunner.from_cfg(config).train()
    barrier()  # no process is done before the main one has written the last checkpoint


def _test(options: Namespace) -> None:
    config = _config(options)
    for key in ("test_dataloader", "test_cfg", "test_evaluator"):
        if config.get(key) is None:
            raise ConfigError(f"config {options.config} lacks {key}, which testing needs")
    config.load_from, config.resume = str(_found(options.checkpoint)), False
    control = config.get("control")
    if control is not None:
        if control not in CONTROLS:
            raise ConfigError(f"control {control!r} is unknown; expected {' or '.join(CONTROLS)}")
        loader = config.test_dataloader
        loader.dataset = {"type": CONTROLS[control], "dataset": loader.dataset}
    config.sharded = None  # scenes cost each process another number of steps
    distributed.prepare(config, options.launcher)
    runner = GeoMagRunner.from_cfg(config)
    if options.show_dir:
        folder = str(Path(options.show_dir).absolute())
        runner.register_hook(
            PictureHook(testing=True, folder=folder, scenes=None, prompts=None, interval=None)
        )
    keeper = OutcomeKeeper()
    runner.test_evaluator.metrics.append(keeper)
    metrics = runner.test()
    if options.out and is_main_process():
        _write(Path(options.out), options, metrics, keeper)


def _found(checkpoint: str) -> Path:
    """The file to test, seen to be readable before minutes are spent on data."""
    path = Path(checkpoint)
    if path.is_dir():
        newest = weights.newest(path, _warn)
        if newest is None:
            raise CheckpointError(f"{path} holds no checkpoint (iter_*.pth) that can be read")
        return newest
    weights.read(path)
    return path


def _nothing_in(folder: str) -> bool:
    """Whether a work folder has nothing to resume from."""
    return weights.newest(Path(folder), _warn) is None


def _warn(message: str) -> None:
    sys.stderr.write(f"warning: {message}\n")


def _write(path: Path, options: Namespace, metrics: dict[str, Any], keeper: OutcomeKeeper) -> None:
    report = {
        "config": options.config,
        "checkpoint": options.checkpoint,
        "options": options.cfg_options or {},
        "metrics": metrics,
        "outcomes": keeper.outcomes,
    }
    with weights.replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1, default=str), encoding="utf-8")


def _config(options: Namespace, stage: str | None = None) -> Config:
    given = dict(options.cfg_options or {})
    root = os.environ.get(DATA_VARIABLE)
    if root:
        given.setdefault("data_root", root)
    if stage is not None:
        given = stages.options(checking.read(options.config), stage, options.config) | given
    config = checking.read(options.config, given)
    if options.small:
        _shrink(config)
    stem = Path(options.config).stem
    config.work_dir = options.work_dir or config.get("work_dir") or f"work_dirs/{stem}"
    if stage is not None:
        stages.enter(config, stage, _warn)
    root = config.get("data_root", "")
    for key in (*LOADERS, *EVALUATORS, "default_hooks", "custom_hooks"):
        _root_data(config.get(key), root)
        registry.adopt(config.get(key))
    return config


def _root_data(part: Any, root: str) -> None:
    """Lays `data_root` before the relative `root` of every data set."""
    if isinstance(part, Mapping):
        if isinstance(part.get("root"), str) and isinstance(part, dict):
            part["root"] = str(Path(root) / part["root"])  # an absolute one stays
        part = list(part.values())
    if isinstance(part, list | tuple):
        for item in part:
            _root_data(item, root)


def _check_side(config: Config) -> None:
    """Training has to show views of the size that the model asks for when it answers."""
    side = config.train_dataloader.get("dataset", {}).get("side")
    own = config.model.get("overview_side") if isinstance(config.model, Mapping) else None
    if side is not None and own is not None and side != own:
        raise ConfigError(
            f"train_dataloader.dataset.side is {side} and model.overview_side {own}; expected the "
            "same number"
        )


def _shrink(config: Config) -> None:
    """Asks every part that reads weights from elsewhere for a small one from a random start."""
    for slot in SLOT_KINDS:
        part = config.model.get(slot)
        if isinstance(part, Mapping) and "weights" in part:
            part["weights"] = None  # type: ignore[index]  # mmengine's dict


def _use_mixed_precision(config: Config) -> None:
    if not torch.cuda.is_available():
        raise ConfigError("--amp needs a GPU; leave it out to train in full precision")
    config.optim_wrapper.type = "AmpOptimWrapper"
    if torch.cuda.is_bf16_supported():
        config.optim_wrapper.setdefault("dtype", "bfloat16")
    else:
        config.optim_wrapper.setdefault("loss_scale", "dynamic")


def _use_shards(config: Config, launcher: str) -> None:
    if launcher == "none":
        raise ConfigError(
            "--sharded shares weights out among processes; start several, with --launcher pytorch, "
            "or leave it out"
        )
    pictures = config.get("default_hooks", {}).get("pictures") or {}
    if pictures.get("interval") is not None:
        pictures["interval"] = None
        _warn("no pictures are drawn in a sharded run: one process alone cannot answer")
