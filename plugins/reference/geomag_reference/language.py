"""A language model of transformers as a config asks for it: loaded, tuned, written out again."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from geomag.errors import CheckpointError, ConfigError

from . import pretrained, tuning
from .answering import Speaker
from .conversation import Dialogue


def speaker(
    auto_class: Any,
    default: Mapping[str, Any],
    architecture: Mapping[str, Any] | None,
    weights: str | None,
    tune: str | Mapping[str, Any],
    query_dim: int,
    dtype: str,
    gradient_checkpointing: bool,
    attention: str,
    prompt_limit: int,
) -> Speaker:
    """A language model of an Auto class of transformers, with the tokenizer beside its weights.

    Raises:
        ConfigError: an argument is none that the model, its tokenizer or its tuning can be built
            from.
        CheckpointError: the weights or their tokenizer cannot be used.
    """
    config = pretrained.architecture_of(architecture, weights, default)
    tokenizer = pretrained.tokenizer_of(weights)
    if not tokenizer.chat_template:
        tokenizer.chat_template = _template_beside(weights)
    dialogue = Dialogue(tokenizer, prompt_limit)
    try:
        language = pretrained.load(auto_class, config, weights, dtype=dtype)
    except ValueError as error:
        raise ConfigError(
            f"model_type {config.model_type!r} is none that {auto_class.__name__} can build: "
            f"{str(error).splitlines()[0]}"
        ) from error
    try:
        language.set_attn_implementation(attention)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"attention={attention!r} is none that {type(language).__name__} can use: {error}"
        ) from error
    made = Speaker(language, dialogue, query_dim)
    tuning.tune(language, tune)
    if gradient_checkpointing:
        language.activation_checkpointing_enable({"use_reentrant": False})
    return made


def export(speaker: Speaker, folder: Path) -> None:
    """Writes the language model and its tokenizer as transformers does: adapters merged, markers in
    the matrices and among the tokens."""
    language, dialogue = speaker.language, speaker.dialogue
    state = speaker.markers.written(language, tuning.merged(language))
    config = copy.deepcopy(language.config)
    with pretrained.quiet():
        plain = _plain(type(language), config, state, speaker.rows)
        plain.generation_config.eos_token_id = dialogue.end
        plain.save_pretrained(folder)
        dialogue.tokenizer.save_pretrained(folder)


def _template_beside(weights: str | None) -> str | None:
    """The chat template that some releases keep in a file for their processor."""
    if weights in (None, pretrained.RANDOM) or pretrained.on_meta():
        return None
    file = pretrained.folder_of(str(weights)) / "chat_template.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["chat_template"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"weights {weights}: {file.name} is damaged: {error!r}") from error


def _plain(model_class: Any, config: Any, state: Mapping[str, torch.Tensor], rows: int) -> Any:
    """A model without adapters of a state dict, whose matrices have so many rows."""
    config.get_text_config().vocab_size = rows
    with torch.device("meta"):
        plain = model_class._from_config(config)
    plain.load_state_dict(state, strict=True, assign=True)
    plain.tie_weights()
    return plain
