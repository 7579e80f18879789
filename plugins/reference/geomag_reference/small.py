"""Small numbers for any architecture: one table of config keys, whatever the family.

The numbers fit each other: heads of 16 channels, positions of rotary embeddings that add up to half
of a head, grids that belong to images of `SIDE` pixels. What is a matter of kind and not of size
(strides, activations, prefix tokens, norms) stays as it is, and so a small model walks the same
code as the full one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WIDTH = 32
HEADS = 2
DEPTH = 2
SIDE = 128
"""Pixels along an image."""
STAGES = 4
TOKENS: Mapping[str, int] = {
    "pad_token_id": 256,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "image_token_id": 259,
    "video_token_id": 260,
    "vision_start_token_id": 261,
    "vision_end_token_id": 262,
}
"""The special tokens of the byte-level vocabulary, which comes without a file."""
VOCABULARY = 512

SMALL: Mapping[str, Any] = {
    # widths
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "mlp_dim": 2 * WIDTH,
    "projection_dim": WIDTH,
    "projection_size": WIDTH,
    "out_hidden_size": WIDTH,
    "output_channels": WIDTH,
    "fpn_hidden_size": WIDTH,
    "iou_head_hidden_dim": WIDTH,
    "num_pos_feats": WIDTH // 2,
    "head_dim": WIDTH // HEADS,
    "hidden_sizes": [WIDTH] * STAGES,
    "embed_dim_per_stage": [32, 48, 64, 80],  # Hiera pools its shortcut only where it widens
    "backbone_channel_list": [80, 64, 48, 32],
    # counts
    "num_attention_heads": HEADS,
    "num_attention_heads_per_stage": [HEADS] * STAGES,
    "num_heads": HEADS,
    "num_key_value_heads": 1,
    "num_hidden_layers": DEPTH,
    "depth": DEPTH,
    "depths": [1] * STAGES,
    "blocks_per_stage": [1, 1, 2, 1],
    "max_window_layers": DEPTH,
    # which blocks
    "fullatt_block_indexes": [DEPTH - 1],
    "global_attn_indexes": [DEPTH - 1],
    "deepstack_visual_indexes": [DEPTH - 1],
    "global_attention_blocks": [3],  # the first of a stage pools, and cannot be global
    # grids
    "image_size": SIDE,
    "num_patches": 64,
    "num_position_embeddings": 64,
    "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    "mrope_section": [WIDTH // HEADS // 4, WIDTH // HEADS // 8, WIDTH // HEADS // 8],
    # words
    "vocab_size": VOCABULARY,
}
DERIVED = ("stage_names", "out_features", "out_indices", "layer_types", "image_embedding_size")
"""Fields that a config works out from others."""


def shrunk(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """A full config as a mapping, made small at every depth."""
    made: dict[str, Any] = {}
    for key, value in architecture.items():
        if key in DERIVED:
            continue
        if isinstance(value, Mapping):
            made[key] = shrunk(value)
        elif value is None or key not in SMALL:
            made[key] = value
        else:
            made[key] = _fitting(key, value, architecture)
    return byte_level(made)


def byte_level(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the special tokens of the byte-level vocabulary."""
    made: dict[str, Any] = {}
    for key, value in architecture.items():
        if isinstance(value, Mapping):
            made[key] = byte_level(value)
        else:
            made[key] = value if value is None else TOKENS.get(key, value)
    return made


def _fitting(key: str, value: Any, beside: Mapping[str, Any]) -> Any:
    """The small number in the form that the full one has."""
    number = SMALL[key]
    if key == "image_size":
        patch = beside.get("patch_size", 1)
        side = SIDE // 16 * patch if isinstance(patch, int) and patch > 1 else SIDE
        return [side, side] if isinstance(value, list | tuple) else side
    if isinstance(value, list | tuple) and isinstance(number, int):
        return [min(item, number) for item in value]
    if isinstance(number, int):
        return min(value, number)
    return number
