"""Several processes, also where there is no GPU.

mmengine's launchers set a CUDA device whatever the backend is, and its wrapper names one. On the
CPU the group is therefore made before mmengine looks for it, and the wrapper is told of no device.
"""

from __future__ import annotations

import gc
import os

import torch
from mmengine.config import Config

from ..errors import ConfigError

_PLACES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
_STARTERS = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}


def prepare(config: Config, launcher: str) -> None:
    """Readies a config, and on the CPU the process group, for one of several processes.

    Raises:
        ConfigError: it was not started the way that `launcher` says.
    """
    config.launcher = launcher
    if launcher == "none":
        return
    missing = [name for name in _PLACES[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher}: {', '.join(missing)} not set; start it with "
            f"{_STARTERS[launcher]}, or use --launcher none"
        )
    if torch.cuda.is_available():
        return
    for name, source in zip(_PLACES["pytorch"], _PLACES[launcher], strict=True):
        os.environ[name] = os.environ[source]
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher}: {' and '.join(missing)} not set; name a host and a free port "
            "that all processes reach"
        )
    torch.distributed.init_process_group("gloo")
    if config.get("sharded") is not None:
        return
    config.model_wrapper_cfg = {
        "find_unused_parameters": config.get("find_unused_parameters", False),
        **config.get("model_wrapper_cfg", {}),
        "type": "MMDistributedDataParallel",
        "device_ids": None,
    }


def finish() -> None:
    """Leaves the process group, if there is one, and ends its threads."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # The runner, held by cycles, holds the group; and a thread of it that outlives Python and
        # then wants to free a tensor aborts the process.
        gc.collect()
