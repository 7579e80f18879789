"""Stages of training: a config names some, and each goes on from the one before.

A stage is a dict of options, by dotted key, that are laid over the config; `stages` holds them in
their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import weights
from ..errors import ConfigError
from ..plugins import nearest


def options(config: Config, stage: str, name: str) -> dict[str, Any]:
    """What a stage changes, by dotted key.

    Raises:
        ConfigError: the config has no such stage.
    """
    known: Mapping[str, Any] = config.get("stages") or {}
    if stage not in known:
        listed = ", ".join(known) or "none"
        raise ConfigError(
            f"config {name} has no stage {stage!r}.{nearest(stage, list(known))} Stages: {listed}."
        )
    return dict(known[stage])


def enter(config: Config, stage: str, warn: Callable[[str], object]) -> None:
    """Gives a stage a folder of its own in the work folder, and the weights to start from.

    Raises:
        ConfigError: the stage before has left no checkpoint, and `load_from` names none.
    """
    whole = Path(config.work_dir)
    config.work_dir = str(whole / stage)
    names = list(config.stages)
    before = names[: names.index(stage)]
    if not before or config.get("load_from"):
        return
    newest = weights.newest(whole / before[-1], warn)
    if newest is None:
        raise ConfigError(
            f"stage {stage!r} goes on from {before[-1]!r}, and {whole / before[-1]} holds no "
            f"checkpoint: run --stage {before[-1]} first, or name one with --cfg-options "
            "load_from=FILE"
        )
    config.load_from = str(newest)
