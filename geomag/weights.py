"""Weights in files: read without running anything that stands in them, written whole or not at all.

Two kinds are read: safetensors, which hold tensors and text and nothing else, and training
checkpoints, torch archives of which only tensors and plain values are accepted.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .contracts import Sourced
from .errors import CheckpointError, OutputError

WRAPPERS = ("module.", "model.")
"""Prefixes that training puts before the names of the model's own tensors."""
CHECKSUM = "sha256"
"""Under this name, the metadata of safetensors hold a checksum of their tensors."""
_LISTED = 3


def read(path: str | Path) -> dict[str, Any]:
    """The contents of a file of weights: `state_dict`, `meta`, and what training adds to resume.

    Nothing is unpickled but tensors and plain values, and all has to match its checksum where there
    is one: torch and safetensors themselves read over a flipped bit.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds code.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {path} {kind}; expected a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_archive(path)


def load(
    model: nn.Module,
    contents: Mapping[str, Any],
    name: str | Path,
    may_lack: Collection[str] = (),
) -> None:
    """Puts the weights of `contents`, as `read` gave them, into a model; every tensor has to fit.

    Those of the names in `may_lack` stay as they are where `contents` have none.

    Raises:
        CheckpointError: they are another model's; names what differs.
    """
    state = unwrapped(contents)
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys() - set(may_lack))
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    faults = [
        _summary(faulty, what)
        for faulty, what in (
            (missing, "missing"),
            (unexpected, "unknown"),
            (shapes, "of another shape"),
        )
        if faulty
    ]
    if faults:
        raise CheckpointError(
            f"checkpoint {name} is of another model: {'; '.join(faults)}; use the config that it "
            "was trained with"
        )
    model.load_state_dict(own | state)


def sourced(model: nn.Module) -> set[str]:
    """The names in a model's state dict that its parts have again whenever they are built."""
    return {
        f"{part}.{name}"
        for part, module in model.named_children()
        if isinstance(module, Sourced)
        for name in module.sourced()
    }


def unwrapped(contents: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of `contents` under the names that the model itself gives them."""
    state: dict[str, Tensor] = dict(contents["state_dict"])
    for prefix in WRAPPERS:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def save(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors and text as safetensors, with a checksum that `read` compares.

    Tensors that share their memory are stored once.

    Raises:
        OutputError: the file cannot be written.
    """
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for key, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        first = seen.setdefault(place, key) if tensor.numel() else key
        if first == key:
            kept[key] = tensor.contiguous()
        else:
            aliases[key] = first
    metadata = {**metadata, CHECKSUM: _checksum(kept)}
    taken = sorted(aliases.keys() & metadata.keys())
    if taken:
        raise OutputError(f"{path}: the metadata names {taken[0]!r}, as a tensor does")
    with replacing(path) as temporary:
        safetensors.torch.save_file(kept, temporary, {**metadata, **aliases})


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary file beside `path` which takes its place, once it is safe on the disk.

    Whatever happens, `path` is the old file or the new one, whole.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except (OSError, safetensors.SafetensorError) as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def newest(folder: Path, warn: Callable[[str], object]) -> Path | None:
    """The newest checkpoint in a folder that can be read; `warn` is told of those that cannot."""
    numbered = sorted(folder.glob("iter_*.pth"), key=_number, reverse=True)
    for path in _pointed_at(folder, numbered):
        try:
            read(path)
        except CheckpointError as error:
            warn(f"{error}; trying an older one")
        else:
            return path
    return None


def _pointed_at(folder: Path, numbered: list[Path]) -> Iterable[Path]:
    """`numbered`, with the one that `last_checkpoint` names at the head."""
    try:
        name = (folder / "last_checkpoint").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return numbered
    # By name first: a folder that was moved resumes from where it is now.
    for last in (folder / Path(name).name, folder / name):
        if last.is_file():
            return [last, *(path for path in numbered if path != last)]
    return numbered


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error
    if metadata.pop(CHECKSUM, None) not in (None, _checksum(state)):
        raise CheckpointError(
            f"checkpoint {path} is damaged: its tensors do not match their checksum; get it again"
        )
    aliases = [key for key, first in metadata.items() if first in state and key not in state]
    state |= {key: state[metadata[key]] for key in aliases}
    meta = {key: value for key, value in metadata.items() if key not in aliases}
    return {"state_dict": state, "meta": meta}


def _checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes, whatever the order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(
            state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        )
    return digest.hexdigest()


def _read_archive(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged, or no archive that torch.save writes: {error}"
        ) from error
    if broken:
        raise CheckpointError(f"checkpoint {path} is damaged: {broken} does not match its checksum")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} holds more than tensors and plain values, and reading it could run "
            "code; it was not read; publish it as safetensors where it was made"
        ) from error
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error
    if not isinstance(contents, dict) or not _is_state(contents.get("state_dict")):
        raise CheckpointError(f"checkpoint {path} has no state_dict of tensors by name")
    if not isinstance(contents.setdefault("meta", {}), dict):
        raise CheckpointError(f"checkpoint {path}: its meta is not a dict")
    # mmengine would run this text as a config on resuming.
    contents["meta"].pop("config", None)
    return contents


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()
    )


def _summary(names: list[str], what: str) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} {what} ({', '.join(names[:_LISTED])}{more})"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
