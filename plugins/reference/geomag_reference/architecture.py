"""Architectures: what a config says, what weights say, and a small one for tests.

`architecture` is a config.json as a mapping. It is data only: fields that name code are left out.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from geomag import plugins
from geomag.errors import CheckpointError, ConfigError

from . import folder, open_clip, small

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

RANDOM = "random"
CODE = (
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
    "custom_pipelines",
    "fusion_config",
    "transformers_weights",
)
"""Fields of a config.json that name code or other files; they are left out."""
BOOKKEEPING = ("transformers_version", "architectures", "_name_or_path", "dtype", "torch_dtype")
"""Fields that say how a model was saved, not what it is."""
_CLOSE = 0.9
"""How near a misspelled field is to a true one."""


def architecture_of(
    architecture: Mapping[str, Any] | None,
    weights: str | None,
    default: Mapping[str, Any],
    part: str = "",
) -> PreTrainedConfig:
    """The config of one model.

    `weights` None: `architecture`, or else `default`, made small; `RANDOM`: as it is; a folder or a
    hub name: what its config.json says, of its `part` ("vision_config") where it has that. What
    `architecture` states has to be so there. Without a vocabulary of its own, the special tokens
    are those of the byte-level one.

    Raises:
        CheckpointError: the weights are of another architecture; lists what differs.
        ConfigError: `architecture` is none that transformers knows.
    """
    with quiet():
        if weights in (None, RANDOM):
            full = _built(default) if architecture is None else _stated(architecture)
            made = small.shrunk if weights is None else small.byte_level
            return _built(made(full.to_dict()))
        if architecture is not None and on_meta():
            return _stated(architecture)
        found = _found(str(weights), _data(architecture or {}))
        try:
            built = _built(found)
        except ConfigError as error:
            raise CheckpointError(f"weights {weights}: its config.json: {error}") from error
        if part in found:
            built = getattr(built, part)
        if architecture is not None:
            _check_agrees(str(weights), built, _data(architecture))
        return built


def same(first: PreTrainedConfig, second: PreTrainedConfig) -> bool:
    """Whether two configs are of one model, however it was saved."""
    # What a model is projected to is no part of it.
    left, right = (
        {
            key: value
            for key, value in config.to_dict().items()
            if key not in (*BOOKKEEPING, "projection_dim")
        }
        for config in (first, second)
    )
    return left == right


def on_meta() -> bool:
    """Whether modules are being built without memory, to be counted."""
    return torch.get_default_device().type == "meta"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from writing warnings and progress bars: what matters is raised."""
    from transformers import utils

    loud: Any = utils.logging
    level, bars = loud.get_verbosity(), loud.is_progress_bar_enabled()
    loud.set_verbosity(logging.CRITICAL)
    loud.disable_progress_bar()
    try:
        yield
    finally:
        loud.set_verbosity(level)
        if bars:
            loud.enable_progress_bar()


def _found(weights: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says, or the tensors where they lie alone."""
    path = folder.file_of(weights)
    if path is not None:
        return open_clip.architecture(folder.headers_of([path]), stated)
    found: dict[str, Any] = _data(folder.config_of(weights))
    if found.get("quantization_config"):
        raise CheckpointError(
            f"weights {weights} are quantised; expected plain tensors: take the release that is not"
        )
    return found


def _stated(architecture: Mapping[str, Any]) -> PreTrainedConfig:
    _check_spelling(_class_of(architecture), architecture)
    return _built(architecture)


def _built(architecture: Mapping[str, Any]) -> PreTrainedConfig:
    fields, kind = _data(architecture), _class_of(architecture)
    try:
        built: PreTrainedConfig = kind.from_dict(fields)
    except Exception as error:  # a config class may raise anything about its fields
        raise ConfigError(f"architecture {kind.model_type!r} cannot be built: {error}") from error
    return built


def _class_of(architecture: Mapping[str, Any]) -> type[PreTrainedConfig]:
    from transformers import CONFIG_MAPPING

    kind = architecture.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        near = plugins.nearest(str(kind), list(CONFIG_MAPPING)) if kind else ""
        raise ConfigError(f"model_type {kind!r} is not one that transformers knows.{near}")
    found: type[PreTrainedConfig] = CONFIG_MAPPING[kind]
    return found


def _check_spelling(kind: type[PreTrainedConfig], stated: Mapping[str, Any]) -> None:
    """Configs keep whatever they are given; what is nearly a field of theirs is a slip."""
    known = [*kind().to_dict(), *kind.attribute_map]
    slips = []
    for name in stated:
        near = difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)
        if name not in known and near and near[0] not in stated:
            slips.append(f"{name!r} (nearest: {near[0]!r})")
    if slips:
        raise ConfigError(f"architecture {kind.model_type!r} has no field {', '.join(slips)}")
    for name, inner in kind.sub_configs.items():
        # Where any config may stand, an Auto class does, which has no fields.
        if isinstance(stated.get(name), Mapping) and hasattr(inner, "to_dict"):
            _check_spelling(inner, stated[name])


def _data(value: Any) -> Any:
    """A config as plain data, without what names code."""
    if isinstance(value, Mapping):
        return {str(key): _data(item) for key, item in value.items() if key not in CODE}
    if isinstance(value, list | tuple):
        return [_data(item) for item in value]
    return value


def _check_agrees(weights: str, built: PreTrainedConfig, stated: Mapping[str, Any]) -> None:
    """Compares as configs, which know other names and defaults of fields."""
    there = built.to_dict()
    kind = stated.get("model_type", built.model_type)
    if kind != built.model_type:
        raise CheckpointError(
            f"weights {weights} are of another architecture: model_type is {built.model_type!r} "
            f"there and {kind!r} in the config"
        )
    _check_spelling(type(built), stated)
    wanted = _overlaid(there, stated)
    # Numbers that do not go together cannot be built.
    with contextlib.suppress(ConfigError):
        wanted = _built(wanted).to_dict()
    apart = list(_differences(there, wanted))
    if apart:
        raise CheckpointError(
            f"weights {weights} are of another architecture: {'; '.join(apart)}; change "
            "architecture, or leave it out to take what the weights say"
        )


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        under = made.get(key)
        nested = isinstance(value, Mapping) and isinstance(under, Mapping)
        made[key] = _overlaid(under, value) if nested else value  # type: ignore[arg-type]
    return made


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], path: str = ""
) -> Iterator[str]:
    for key in sorted(here.keys() - set(BOOKKEEPING)):
        first, second = there.get(key), here[key]
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _differences(first, second, f"{path}{key}.")
        elif first != second:
            yield f"{path}{key} is {first!r} there and {second!r} in the config"
