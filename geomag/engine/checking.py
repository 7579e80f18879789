"""Reads configs, and finds what is misspelt in them before anything is built.

mmengine ignores a top-level key it does not know, and creates whatever `--cfg-options` names.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..errors import ConfigError
from ..plugins import nearest
from .trainable import Trainable

OURS = ("trainable", "control", "data_root", "sharded", "stages")
"""Top-level keys that mean something to us and nothing to mmengine."""
_MMENGINE = ("model_wrapper_cfg", "find_unused_parameters", "sync_bn", "compile")
KNOWN = (*inspect.signature(Runner.__init__).parameters, *OURS, *_MMENGINE)
NEAR_MISS = 0.85
"""How alike a config's own name and a known one must be to be taken for a misspelling."""
REQUIRED = ("model",)
_LOADER = {
    *inspect.signature(DataLoader.__init__).parameters,
    *("num_batch_per_epoch", "disable_subprocess_warning"),
}
PARTS: Mapping[str, Iterable[str]] = {
    **dict.fromkeys(("train_dataloader", "val_dataloader", "test_dataloader"), _LOADER),
    "randomness": inspect.signature(Runner.set_randomness).parameters,
    "trainable": inspect.signature(Trainable.__init__).parameters,
    "sharded": ("least",),
}
"""What may stand in the parts of a config that name no type."""
# Read by whoever builds the part, before the rest goes to its constructor.
_TAKEN = {
    "type": (),
    "priority": ("Hook",),
    "constructor": ("OptimWrapper", "AmpOptimWrapper"),
    "paramwise_cfg": ("OptimWrapper", "AmpOptimWrapper"),
}
_GIVEN = {
    *("self", "params", "optimizer", "dataset", "seed", "sampler", "batch_size", "runner"),
    *("dataloader", "evaluator", "module", "samples"),
}
"""What constructors get without the config saying so."""


def read(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """A config file with `options` laid over it, by dotted key.

    Raises:
        ConfigError: the file cannot be read, or names something that there is not; lists all of it.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config {path} does not exist; expected a .py file, as in configs/")
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # whatever a config raises is its author's to mend
        raise ConfigError(f"config {path} cannot be read: {_described(error)}") from error
    wrong = [f"--cfg-options {fault}" for key in options or () for fault in _unknown(config, key)]
    if wrong:
        raise ConfigError(f"config {path}: {'; '.join(wrong)}")
    config.merge_from_dict(dict(options or {}))
    try:
        faults = list(_faults(config))
    except (ImportError, AttributeError, ConfigParsingError) as error:
        # mmengine imports a config's symbols when they are first touched, which is here.
        raise ConfigError(f"config {path} cannot be read: {_described(error)}") from error
    if faults:
        raise ConfigError(f"config {path}: {'; '.join(faults)}")
    return config


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _unknown(config: Config, key: str) -> Iterator[str]:
    """What is wrong with the place that an option is for.

    Only the last name may be new: at the top level where it is known, and elsewhere unless it looks
    like a misspelling; whether a constructor takes it is asked later.
    """
    *above, last = key.split(".")
    part: Any = config._cfg_dict
    if len(above) == 1 and above[0] in PARTS and above[0] not in config:
        return
    for place, name in enumerate(above):
        if isinstance(part, list | tuple) and name.isdecimal() and int(name) < len(part):
            part = part[int(name)]
        elif isinstance(part, Mapping) and name in part:
            part = part[name]
        else:
            yield f"{key}: there is no {'.'.join(above[: place + 1])}.{_like(name, part)}"
            return
    if isinstance(part, list | tuple):
        fine = last.isdecimal() and int(last) < len(part)
    elif not isinstance(part, Mapping):
        fine = False
    elif above:
        close = difflib.get_close_matches(last, part, n=1, cutoff=NEAR_MISS)
        fine = last in part or "type" in part or ".".join(above) in PARTS or not close
    else:
        fine = last in part or last in KNOWN
    if not fine:
        yield f"{key}: there is no {key}.{_like(last, part, () if above else KNOWN)}"


def _like(name: str, part: Any, more: Sequence[str] = ()) -> str:
    return nearest(name, [*part, *more]) if isinstance(part, Mapping) else ""


def _faults(config: Config) -> Iterator[str]:
    for key in REQUIRED:
        if key not in config:
            yield f"it lacks {key}"
    # A config may define names of its own, and imported symbols are keys too; near misses are not
    # that.
    for key, value in config._cfg_dict.items():
        if key not in KNOWN and isinstance(value, dict | list):
            unused = [known for known in KNOWN if known not in config]
            for known in difflib.get_close_matches(key, unused, n=1, cutoff=NEAR_MISS):
                yield f"there is no {key}. Nearest: {known!r}."
    for key in KNOWN:
        if key in config and key not in ("cfg", "model"):
            yield from _part_faults(key, config[key])
    for part, names in PARTS.items():
        for key in config.get(part) or {}:
            if key not in names:
                yield f"{part} takes no {key}.{nearest(key, list(names))}"
    if isinstance(config.get("model"), Mapping):
        yield from _argument_faults("model", config.model)


def _part_faults(place: str, part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if "type" in part:
            yield from _argument_faults(place, part)
        for key in part:
            yield from _part_faults(f"{place}.{key}", part[key])
    elif isinstance(part, list | tuple):
        for count, item in enumerate(part):
            yield from _part_faults(f"{place}.{count}", item)


def _argument_faults(place: str, part: Mapping[str, Any]) -> Iterator[str]:
    target = part.get("type")
    if isinstance(target, str):
        named = _registered(target)
        if named is None and "/" not in target and "." not in target:
            listed = sorted({name for one in _all() for name in one.module_dict})
            yield f"{place}: there is no {target!r}.{nearest(target, listed)}"
        target = named
    if not callable(target):
        return
    name = getattr(target, "__name__", repr(target))
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # some classes written in C tell nothing
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    family = {"Hook"} if _is_hook(target) else set()
    taken = {key for key, owners in _TAKEN.items() if not owners or {name, *family} & {*owners}}
    for key in part:
        if key not in parameters and key not in taken:
            yield f"{place}: {name} takes no {key}.{nearest(key, list(parameters))}"
    for key, parameter in parameters.items():
        positional = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        needed = positional and parameter.default is parameter.empty
        if needed and key not in part and key not in _GIVEN:
            yield f"{place}: {name} needs {key}"


def _all() -> list[Registry]:
    return [one for one in vars(registries).values() if isinstance(one, Registry)]


def _registered(name: str) -> Any:
    for one in _all():
        found = one.module_dict.get(name)
        if found is None:
            one.import_from_location()  # mmengine fills its registries on first use
            found = one.module_dict.get(name)
        if found is not None:
            return found
    return None


def _is_hook(target: Any) -> bool:
    return inspect.isclass(target) and any(parent.__name__ == "Hook" for parent in target.__mro__)
