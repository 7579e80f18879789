"""Pretrained weights on a disk: which files, what they hold, whether they fit in memory.

Of a folder, `config.json`, the tokenizer's text files and safetensors are read, and nothing else:
pickles can run code, and so can the Python files that some folders bring.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from geomag.errors import CheckpointError

WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors")
"""What is fetched of a hub repository; from its top level only."""
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
MEMORY = Path("/proc/meminfo")
_LISTED = 3


def folder_of(weights: str) -> Path:
    """A local folder as it is, or the snapshot of a hub name: text and safetensors files alone.

    Raises:
        CheckpointError: there is no such folder, and no such name can be fetched.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        return path
    _check_is_hub_name(weights)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    try:
        found = snapshot_download(weights, allow_patterns=list(WANTED), ignore_patterns=["*/*"])
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"weights {weights!r}: no folder of that name here, and it cannot be fetched from "
            f"{constants.ENDPOINT} or found in {constants.HF_HUB_CACHE} "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); where there is a network, "
            f"'hf download {weights} --local-dir FOLDER' makes a folder: copy it here and give its "
            "path"
        ) from error
    return Path(found)


def file_of(weights: str) -> Path | None:
    """The safetensors file that is named itself, in place of a folder."""
    path = Path(weights).expanduser()
    return path if path.suffix == ".safetensors" and path.is_file() else None


def config_of(weights: str) -> dict[str, Any]:
    """What `config.json` says; of a hub name that file alone is fetched.

    Raises:
        CheckpointError: there is none, or it is no JSON object.
    """
    folder = Path(weights).expanduser()
    path = folder / "config.json" if folder.is_dir() else _config_from_hub(weights)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"weights {weights}: it holds no config.json (it holds {listing(path.parent)}); "
            "expected a folder as save_pretrained writes it"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"weights {weights}: its config.json is damaged: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"weights {weights}: its config.json holds no object")
    return found


def files_of(weights: str) -> list[Path]:
    """The safetensors files of a model, or the one file that is named.

    Raises:
        CheckpointError: there are none, they are pickles, or some are missing.
    """
    path = file_of(weights)
    if path is not None:
        return [path]
    folder = folder_of(weights)
    index = folder / INDEX
    if not index.is_file():
        if (folder / WEIGHTS).is_file():
            return [folder / WEIGHTS]
        raise CheckpointError(_no_weights(folder))
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"weights {folder}: {INDEX} is damaged: {error!r}") from error
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise CheckpointError(f"weights {folder}: {INDEX} names files outside: {outside}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"weights {folder}: {len(missing)} of {len(names)} files that {INDEX} names are not "
            f"there ({shortened(missing)}); download them again"
        )
    return [folder / name for name in names]


def headers_of(files: Sequence[Path]) -> dict[str, list[int]]:
    """The shape of every tensor, read from the heads of the files; all have to be whole.

    Raises:
        CheckpointError: a file is cut off, or no safetensors.
    """
    shapes: dict[str, list[int]] = {}
    for file in files:
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length)) if length < file.stat().st_size else {}
            tensors = {key: item for key, item in header.items() if key != "__metadata__"}
            ends = [item["data_offsets"][1] for item in tensors.values()]
            expected = 8 + length + max(ends, default=0)
            shapes |= {key: [int(side) for side in item["shape"]] for key, item in tensors.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise CheckpointError(
                f"weights {file} are damaged: its head cannot be read ({error!r}); download it "
                "again"
            ) from error
        if file.stat().st_size != expected:
            raise CheckpointError(
                f"weights {file} are damaged: {file.stat().st_size} bytes where its head says "
                f"{expected}; download it again"
            )
    return shapes


def read_tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors of some safetensors files, by name."""
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                state |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"weights {file} are damaged: {error}") from error
    return state


def check_memory(name: str, shapes: Mapping[str, Sequence[int]], bytes_each: int) -> None:
    """Lets pass what fits into the memory that is free, where the machine tells.

    Raises:
        CheckpointError: it does not fit.
    """
    needed = sum(math.prod(shape) for shape in shapes.values()) * bytes_each
    available = available_memory()
    if available is not None and needed > available:
        raise CheckpointError(
            f"weights {name} need {needed / 2**30:.1f} GiB of memory and {available / 2**30:.1f} "
            "GiB are free; use dtype='bfloat16', a smaller model or a machine with more memory"
        )


def available_memory() -> int | None:
    """Bytes that a program can still have; None where the machine does not tell."""
    try:
        lines = MEMORY.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def listing(folder: Path) -> str:
    """What a folder holds, in a few words."""
    names = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    return shortened(names) if names else "nothing"


def shortened(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _config_from_hub(weights: str) -> Path:
    _check_is_hub_name(weights)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(weights, "config.json"))
    except (OSError, ValueError):
        # Says what is wrong with the whole of it, once.
        return folder_of(weights) / "config.json"


def _check_is_hub_name(weights: str) -> None:
    """Lets pass what may be the name of a hub repository and is not meant as a path."""
    path = Path(weights).expanduser()
    if path.exists():
        raise CheckpointError(
            f"weights {weights}: it is a file; expected a folder as save_pretrained writes it, or "
            "the name of one on the hub (of a checkpoint of open_clip, 'python -m "
            "geomag_reference.open_clip FILE -o FOLDER' makes one)"
        )
    if path.is_absolute() or weights.startswith(".") or weights.count("/") != 1:
        raise CheckpointError(
            f"weights {weights}: there is no such folder; expected a folder as save_pretrained "
            "writes it, or the name of one on the hub ('owner/name')"
        )


def _no_weights(folder: Path) -> str:
    pickles = sorted(item.name for item in folder.iterdir() if item.suffix in PICKLES)
    if pickles:
        return (
            f"weights {folder}: it holds pickles ({shortened(pickles)}), which could run code and "
            "are not read; where you trust them, convert them with "
            "save_pretrained(FOLDER, safe_serialization=True), or open_clip's with "
            "'python -m geomag_reference.open_clip FILE -o FOLDER'"
        )
    if (folder / "adapter_config.json").is_file():
        return (
            f"weights {folder}: it holds an adapter alone; merge it into its model with peft's "
            "merge_and_unload and give the folder of that"
        )
    return f"weights {folder}: it holds no {WEIGHTS} and no {INDEX} (it holds {listing(folder)})"
