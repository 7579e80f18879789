"""Segment Anything 2 (Ravi et al. 2024) on still images, as a mask head.

- The image encoder, a Hiera with a feature pyramid, sees each look by itself, once. Three levels
  are kept with the look; the decoder adds the two finer ones while it draws.
- The prompt encoder only says that there is neither click nor mask; a query is the prompt.
- The decoder draws one mask, from its first token always. As released, SAM 2 takes another token's
  mask at prediction where that of the first is unstable; but these are never trained by a query.
- The score is whether the decoder finds its object present, through a learnt sigmoid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomag.errors import ConfigError
from geomag.values import Look, LookMasks

from . import tuning
from .pretrained import RANDOM, architecture_of, load, on_meta
from .prompting import (
    Confidence,
    Prompting,
    framed,
    over_canvas,
    paired,
    settle,
    shared_out,
    unprompted,
)

HIERA_L: Mapping[str, Any] = {
    "model_type": "sam2",
    "vision_config": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 144,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 6, 36, 4],
            "embed_dim_per_stage": [144, 288, 576, 1152],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 16, 8],
            "global_attention_blocks": [23, 33, 43],
        },
        "backbone_channel_list": [1152, 576, 288, 144],
    },
}
PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
LEVELS = 3


class Sam2(nn.Module):
    """One mask a query, drawn by the decoder of SAM 2.

    `tune` is about the image encoder: "frozen", "all" or the arguments of LoRA. The two layers that
    narrow its finer levels run with it, and train where all of it does. The prompt encoder stays as
    it is. Images are stretched to the square that the model was made for.

    Raises:
        CheckpointError: the weights are not those of a SAM 2 of that architecture.
        ConfigError: `architecture`, `tune` or `dtype` is nothing that can be built.
    """

    def __init__(
        self,
        query_dim: int,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
        tune: str | Mapping[str, Any] = tuning.FROZEN,
        train_decoder: bool = True,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.weights = weights
        from transformers import Sam2Model

        config = _config(architecture, weights)
        # It passes over what releases for videos remember earlier frames by.
        self.model: Any = load(Sam2Model, config, weights, dtype=dtype)
        self.side: int = config.prompt_encoder_config.image_size
        self.prompting = Prompting(query_dim, config.mask_decoder_config.hidden_size)
        self.confidence = Confidence(middle=0.0, steepness=1.0)
        self.prompting.to(self.model.dtype)
        self.confidence.to(self.model.dtype)
        self.model.requires_grad_(False)
        tuning.tune(self.model.vision_encoder, tune)
        decoder = self.model.mask_decoder.requires_grad_(train_decoder)
        decoder.output_hypernetworks_mlps[1:].requires_grad_(False)
        decoder.iou_prediction_head.requires_grad_(False)
        for part in (decoder.conv_s0, decoder.conv_s1, self.model.no_memory_embedding):
            part.requires_grad_(tune == tuning.ALL)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        settle(self.model)
        return self

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Levels of strides 4, 8 and 16 in the square, of C / 8, C / 4 and C channels."""
        image = framed(pixels, self.side, self.side).to(self.model.dtype)
        encoder, decoder = self.model.vision_encoder, self.model.mask_decoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and tuning.trains(encoder)):
            fine, middle, coarse = encoder(image).fpn_hidden_states
            # A still image is the first of its video.
            coarse = coarse + self.model.no_memory_embedding.view(-1, 1, 1)
            return decoder.conv_s0(fine), decoder.conv_s1(middle), coarse

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        if not looks:
            return []
        rows, (fine, middle, coarse) = paired(looks, queries, self.encode, self.model.dtype)
        places, dense = unprompted(self.model)
        masks, _, _, presence = self.model.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=places.to(coarse.dtype),
            sparse_prompt_embeddings=self.prompting(rows),
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=[fine, middle],
        )
        logits = shared_out(masks[:, 0, 0], queries)
        score = shared_out(self.confidence(presence[:, 0, 0]), queries)
        return [
            over_canvas(drawn, sure, look, masks.shape[-1])
            for look, drawn, sure in zip(looks, logits, score, strict=True)
        ]

    def sourced(self) -> Collection[str]:
        return tuning.sourced(self.model, self.weights, "model.")

    def export(self, folder: Path) -> None:
        """SAM 2 as transformers saves it, without the memory of its releases; what turns queries
        into prompts, and presence into scores, is GeoMag's own and not in it."""
        tuning.export(self.model, folder)


def _config(architecture: Mapping[str, Any] | None, weights: str | None) -> Any:
    """The `Sam2Config` for still images; that of releases, for videos, holds all of it."""
    from transformers import Sam2Config, Sam2VideoConfig

    if architecture is not None and weights not in (None, RANDOM) and not on_meta():
        # Either kind of folder has the same image model.
        architecture = {key: architecture[key] for key in architecture if key != "model_type"}
    found = architecture_of(architecture, weights, HIERA_L)
    if not isinstance(found, Sam2Config | Sam2VideoConfig):
        raise ConfigError(
            f"a {found.model_type!r} is no SAM 2; expected model_type 'sam2' or 'sam2_video'"
        )
    config = Sam2Config(**{part: getattr(found, part).to_dict() for part in PARTS})
    if config.vision_config.num_feature_levels != LEVELS:
        raise ConfigError(
            f"a SAM 2 of {config.vision_config.num_feature_levels} feature levels: its decoder "
            f"takes {LEVELS}"
        )
    config.mask_decoder_config.dynamic_multimask_via_stability = False
    return config
