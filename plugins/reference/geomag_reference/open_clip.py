"""CLIP as open_clip stores it, as RemoteCLIP and GeoRSCLIP are published, for transformers.

    python -m geomag_reference.open_clip RemoteCLIP-ViT-L-14.pt -o remoteclip --tokenizer clip

writes a folder as save_pretrained does; `clip` is a folder of any CLIP with a tokenizer. A
.safetensors file in open_clip's naming can also be given as `weights=` of an encoder directly.

All numbers but two are read off the tensors. The activation is `quick_gelu` in what was trained
from OpenAI's weights: in RemoteCLIP as its own evaluation builds it (remoteclip_retrieval.py; its
demo builds it with gelu) and in GeoRSCLIP ViT-B-32; it is `gelu` in LAION's models and GeoRSCLIP
ViT-H-14, which comes from one. The heads of the image model are those of open_clip's model_configs.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomag.errors import CheckpointError, GeoMagError, OutputError
from geomag.weights import unwrapped

from .folder import read_tensors, shortened

ACTIVATIONS = ("quick_gelu", "gelu")
UNSAID = ("hidden_act", "num_attention_heads")
"""Fields that tensors do not tell; a config may state them."""
HEAD_WIDTHS: Mapping[int, int] = {1280: 80, 1408: 88, 1664: 104}
"""Of the image models ViT-H, ViT-g and ViT-bigG, by their width; of all other models, `_HEAD`."""
_HEAD = 64
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_IN_BLOCK: Mapping[str, str] = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NAMES: Mapping[str, str] = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TURNED: Mapping[str, str] = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_IDLE = ("attn_mask", "input_resolution", "context_length", "vocab_size")
_MARK = "visual.conv1.weight"


def is_named_so(names: Iterable[str]) -> bool:
    """Whether tensors carry the names that open_clip gives them."""
    return _MARK in names


def architecture(shapes: Mapping[str, Sequence[int]], stated: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a `CLIPModel` from the shapes of its tensors; what they do not tell is `stated`
    or else as this module's docstring says.

    Raises:
        CheckpointError: tensors that tell the size of a CLIP are missing.
    """
    try:
        width, bands, patch, _ = shapes[_MARK]
        side = math.isqrt(shapes["visual.positional_embedding"][0] - 1)
        joint = shapes["visual.proj"][1]
        vocabulary, text_width = shapes["token_embedding.weight"]
        length = shapes["positional_embedding"][0]
        vision = _blocks(shapes, "visual.", width, HEAD_WIDTHS.get(width, _HEAD))
        text = _blocks(shapes, "", text_width, _HEAD)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"these are not the tensors of a ViT-CLIP in open_clip's naming: {error!r}"
        ) from error
    vision |= {"image_size": side * patch, "patch_size": patch, "num_channels": bands}
    text |= {"vocab_size": vocabulary, "max_position_embeddings": length}
    text |= {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": 0}
    made: dict[str, Any] = {"model_type": "clip", "projection_dim": joint}
    for part, fields in (("text", text), ("vision", vision)):
        said = stated.get(f"{part}_config") or stated
        unsaid = {key: said[key] for key in UNSAID if key in said}
        kind = {"model_type": f"clip_{part}_model", "projection_dim": joint}
        made[f"{part}_config"] = {**kind, **fields, **unsaid}
    return made


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names, and turned the way, of a `CLIPModel` of transformers.

    Raises:
        CheckpointError: there are tensors that such a model has no place for.
    """
    made: dict[str, Tensor] = {}
    strange = []
    for name, tensor in state.items():
        block = _BLOCK.fullmatch(name)
        if block:
            part, number, rest = block.groups()
            prefix = f"{'vision' if part else 'text'}_model.encoder.layers.{number}"
            found = {f"{prefix}.{key}": value for key, value in _in_block(rest, tensor).items()}
        elif name in _TURNED:
            found = {_TURNED[name]: tensor.T.contiguous()}
        elif name in _NAMES:
            found = {_NAMES[name]: tensor}
        else:
            found = {}
        if not found and name not in _IDLE:
            strange.append(name)
        made |= found
    if strange:
        raise CheckpointError(
            f"{len(strange)} tensors have no place in a CLIP of transformers "
            f"({shortened(strange)}); expected open_clip's plain ViT-CLIP"
        )
    return made


def read(source: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of open_clip, read without running anything that stands in it.

    Raises:
        CheckpointError: it is damaged, or holds more than tensors and plain values.
    """
    if not source.is_file():
        raise CheckpointError(f"{source}: there is no such file")
    if source.suffix == ".safetensors":
        found: Any = read_tensors([source])
    else:
        found = _unpickled(source)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(one, Tensor) for one in found.values()):
        raise CheckpointError(f"{source}: expected tensors by name, or a state_dict of them")
    state = unwrapped({"state_dict": found})
    # open_clip's CustomTextCLIP keeps the text model apart.
    return {name.removeprefix("text."): tensor for name, tensor in state.items()}


def convert(
    source: Path, folder: Path, stated: Mapping[str, Any], tokenizer: str | None = None
) -> None:
    """Writes a checkpoint of open_clip as a folder of transformers.

    Raises:
        CheckpointError: it cannot be read, or is of another kind of model.
        OutputError: the folder holds something.
    """
    from transformers import CLIPConfig, CLIPModel

    from .pretrained import filled, quiet, tokenizer_of

    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder} holds something; name an empty folder, or one to be made")
    state = read(source)
    fields = architecture({name: list(one.shape) for name, one in state.items()}, stated)
    fields.pop("model_type")
    model = filled(CLIPModel, CLIPConfig(**fields), renamed(state), str(source), "float32")
    with quiet():
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer_of(tokenizer).save_pretrained(folder)


def _unpickled(source: Path) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{source} holds more than tensors and plain values, and reading it could run code; it "
            "was not read"
        ) from error
    except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        raise CheckpointError(
            f"{source} is damaged, or a program and no weights: {error}"
        ) from error


def _blocks(shapes: Mapping[str, Any], part: str, width: int, head: int) -> dict[str, Any]:
    prefix = f"{part}transformer.resblocks."
    numbers = {name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)}
    return {
        "hidden_size": width,
        "intermediate_size": shapes[f"{prefix}0.mlp.c_fc.weight"][0],
        "num_hidden_layers": len(numbers),
        "num_attention_heads": max(1, width // head),
    }


def _in_block(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One tensor of a block; the three projections of attention lie in one."""
    stem, _, kind = name.rpartition(".")
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = name.rpartition("_")[2]
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"self_attn.{part}_proj.{kind}": value.contiguous() for part, value in parts}
    return {f"{_IN_BLOCK[stem]}.{kind}": tensor} if stem in _IN_BLOCK else {}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m geomag_reference.open_clip")
    parser.add_argument("source", type=Path, help="a checkpoint of open_clip: .pt or .safetensors")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--activation", choices=ACTIVATIONS, default=ACTIVATIONS[0])
    parser.add_argument("--heads", type=int, help="of the image model, where its width is unusual")
    parser.add_argument("--tokenizer", help="a folder or hub name with the tokenizer of a CLIP")
    given = parser.parse_args(arguments)
    act = {"hidden_act": given.activation}
    heads = {} if given.heads is None else {"num_attention_heads": given.heads}
    stated = {"text_config": act, "vision_config": {**act, **heads}}
    try:
        convert(given.source, given.output, stated, given.tokenizer)
    except GeoMagError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
