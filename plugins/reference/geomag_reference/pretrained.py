"""Models of transformers: built small, random, from a folder or by a name of the hub.

Every reference component takes `architecture`, a config.json as a mapping, and `weights`: None for
a small model with random weights, `RANDOM` for a full one, else a folder or a hub name. On torch's
meta device, where parameters and FLOPs of full models are counted, nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geomag.errors import CheckpointError, ConfigError

from . import folder, open_clip
from .architecture import RANDOM, architecture_of, on_meta, quiet
from .folder import folder_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["RANDOM", "architecture_of", "folder_of", "load", "on_meta", "quiet", "tokenizer_of"]

DTYPES = ("float32", "bfloat16", "float16", "float64")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
"""One of these holds the words of a tokenizer."""
CHAT = (
    "{% for message in messages %}<|start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|{{ part.type }}|><|vision_end|>{% endif %}{% endfor %}{% endif %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_PARTS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def load(
    model_class: Any,
    config: PreTrainedConfig,
    weights: str | None,
    *,
    dtype: str = "float32",
    may_lack: Sequence[str] = (),
    may_bring: Sequence[str] = (),
    key_mapping: Mapping[str, str] | None = None,
) -> PreTrainedModel:
    """A model of `model_class`, a class or an Auto class of transformers, in eval mode.

    Random from `config` where `weights` is None or `RANDOM`, and on the meta device. Else from
    safetensors: every tensor has to be there in its shape, but for names that begin with one of
    `may_lack`, which stay random, and none may be left over but for `may_bring`. `key_mapping`
    renames tensors beforehand, regular expressions to what takes their place.

    Raises:
        CheckpointError: the weights are missing, damaged, too large or of another model.
        ConfigError: `dtype` is none that weights can have.
    """
    kind = dtype_of(dtype)
    if weights in (None, RANDOM) or on_meta():
        with quiet():
            random: PreTrainedModel = _made(model_class, config, kind).eval()
        return random
    files = folder.files_of(str(weights))
    folder.check_memory(str(weights), folder.headers_of(files), kind.itemsize)
    state = _renamed(folder.read_tensors(files), key_mapping or {})
    if open_clip.is_named_so(state):
        state = open_clip.renamed(state)
    return filled(model_class, config, state, str(weights), dtype, may_lack, may_bring)


def filled(
    model_class: Any,
    config: PreTrainedConfig,
    state: Mapping[str, Tensor],
    name: str,
    dtype: str = "float32",
    may_lack: Sequence[str] = (),
    may_bring: Sequence[str] = (),
) -> PreTrainedModel:
    """A model with the tensors of `state`, as `load` makes it; `name` is what errors call them.

    Of a folder, transformers itself would also read adapters, pickles and code.
    """
    with quiet():
        with torch.device("meta"):
            # An Auto class picks by config; and without a name it does not load.
            blank = _made(model_class, config, torch.float32)
        model, found = type(blank).from_pretrained(
            None,
            config=blank.config,
            state_dict=dict(state),
            dtype=dtype_of(dtype),
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are told below, with all the rest
            output_loading_info=True,
        )
    _check_complete(name, type(model).__name__, found, may_lack, may_bring)
    loaded: PreTrainedModel = model
    return loaded


def tokenizer_of(weights: str | None) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder; for random weights, and on the meta device beside a hub name, a
    byte-level one with the tokens of `small.TOKENS` and a plain chat template.

    Raises:
        CheckpointError: the folder holds none that can be read.
    """
    nowhere = weights in (None, RANDOM)
    if nowhere or (on_meta() and not Path(str(weights)).expanduser().is_dir()):
        return _byte_level()
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    place = folder_of(str(weights))
    problem = f"{place}: its tokenizer cannot be read (it holds {folder.listing(place)})"
    # Of a folder without one, transformers makes a tokenizer that knows no word.
    if not any((place / name).is_file() for name in VOCABULARIES):
        raise CheckpointError(f"{problem}; expected tokenizer.json")
    try:
        with quiet():
            if (place / VOCABULARIES[0]).is_file():
                # As it stands: the class that goes with a model may put parts of its own in place.
                tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(
                    str(place), local_files_only=True
                )
            else:
                tokenizer = AutoTokenizer.from_pretrained(
                    str(place), local_files_only=True, trust_remote_code=False
                )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"{problem}: {error}") from error
    if not tokenizer.is_fast:
        raise CheckpointError(f"{problem}; expected tokenizer.json")
    found: PreTrainedTokenizerFast = tokenizer
    return found


def dtype_of(name: str) -> torch.dtype:
    """The type of weights by its name.

    Raises:
        ConfigError: weights cannot be of that type.
    """
    if name not in DTYPES:
        raise ConfigError(f"dtype={name!r}: expected one of {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _made(model_class: Any, config: PreTrainedConfig, kind: torch.dtype) -> Any:
    make = getattr(model_class, "from_config", None) or model_class._from_config
    return make(config, dtype=kind)


def _renamed(state: Mapping[str, Tensor], mapping: Mapping[str, str]) -> dict[str, Tensor]:
    made = {}
    for key, tensor in state.items():
        for pattern, replacement in mapping.items():
            key = re.sub(pattern, replacement, key)
        made[key] = tensor
    return made


def _check_complete(
    weights: str,
    name: str,
    found: Mapping[str, Any],
    may_lack: Sequence[str],
    may_bring: Sequence[str],
) -> None:
    missing, unexpected, mismatched = (sorted(found[key]) for key in _PARTS)
    missing = [key for key in missing if not key.startswith(tuple(may_lack))]
    unexpected = [key for key in unexpected if not key.startswith(tuple(may_bring))]
    shapes = [f"{key} {list(there)} instead of {list(here)}" for key, there, here in mismatched]
    faults = [
        f"{len(names)} {what} ({folder.shortened(names)})"
        for names, what in (
            (missing, "missing"),
            (unexpected, "left over"),
            (shapes, "of another shape"),
        )
        if names
    ]
    faults += [str(message) for message in found.get("error_msgs") or ()]
    if faults:
        raise CheckpointError(
            f"weights {weights} are not those of a {name}: tensors {'; '.join(faults)}; check "
            "architecture, or take the folder of another model"
        )


def _byte_level() -> PreTrainedTokenizerFast:
    """One token a byte, then the special ones."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: n for n, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ("pad", "start", "end", "image", "video", "vision_start", "vision_end")
    signs = [f"<|{name}|>" for name in names]
    tokenizer.add_special_tokens([AddedToken(sign, special=True) for sign in signs])
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=signs[0],
        bos_token=signs[1],
        eos_token=signs[2],
        chat_template=CHAT,
    )
    return made
