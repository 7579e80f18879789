"""Segment Anything (Kirillov et al. 2023) as a mask head.

- The image encoder sees each look by itself, once; what it makes of it is kept with the look.
- The prompt encoder only says that there is neither click nor mask; a query is the prompt.
- Of the decoder's four masks the first is drawn, the one for a prompt that is not ambiguous. The
  score is what the decoder thinks of that mask's overlap, through a learnt sigmoid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.errors import ConfigError
from geomag.values import Look, LookMasks

from . import tuning
from .pretrained import RANDOM, architecture_of, load
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

VIT_H: Mapping[str, Any] = {
    "model_type": "sam",
    "vision_config": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}
FAIR = 0.5
"""The overlap that scores one half at first; COCO too takes a mask for a hit from there on."""
STEEPNESS = 10.0


class Sam(nn.Module):
    """One mask a query, drawn by the decoder of SAM.

    `tune` is about the image encoder alone: "frozen", "all" or the arguments of LoRA. The prompt
    encoder stays as it is. Images are fitted to the square that the encoder was made for, their
    longer side to its side, and what is left over is blank.

    Raises:
        CheckpointError: the weights are not those of a SAM of that architecture.
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
        from transformers import SamConfig, SamModel

        config = architecture_of(architecture, weights, VIT_H)
        if not isinstance(config, SamConfig):
            raise ConfigError(f"a {config.model_type!r} is no SAM; expected model_type 'sam'")
        if weights in (None, RANDOM):
            # As transformers would start it, 1e-10, no image could be told from another.
            config.vision_config.initializer_range = config.initializer_range
        self.model: Any = load(SamModel, config, weights, dtype=dtype)
        self.side: int = config.vision_config.image_size
        self.prompting = Prompting(query_dim, config.mask_decoder_config.hidden_size)
        self.confidence = Confidence(FAIR, STEEPNESS)
        self.prompting.to(self.model.dtype)
        self.confidence.to(self.model.dtype)
        self.model.requires_grad_(False)
        tuning.tune(self.model.vision_encoder, tune)
        decoder = self.model.mask_decoder.requires_grad_(train_decoder)
        decoder.output_hypernetworks_mlps[1:].requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        settle(self.model)
        return self

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Image embeddings, `[N, C, side / 16, side / 16]`."""
        height, width = self._fitted(*pixels.shape[-2:])
        image = F.pad(framed(pixels, height, width), (0, self.side - width, 0, self.side - height))
        encoder = self.model.vision_encoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and tuning.trains(encoder)):
            return (encoder(image.to(self.model.dtype)).last_hidden_state,)

    def forward(self, looks: Sequence[Look], queries: Sequence[Tensor]) -> list[LookMasks]:
        if not looks:
            return []
        rows, (image,) = paired(looks, queries, self.encode, self.model.dtype)
        places, dense = unprompted(self.model)
        masks, overlap = self.model.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=places.to(image.dtype),
            sparse_prompt_embeddings=self.prompting(rows),
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        logits = shared_out(masks[:, 0, 0], queries)
        score = shared_out(self.confidence(overlap[:, 0, 0]), queries)
        return [
            over_canvas(self._cropped(drawn, look), sure, look, masks.shape[-1])
            for look, drawn, sure in zip(looks, logits, score, strict=True)
        ]

    def sourced(self) -> Collection[str]:
        return tuning.sourced(self.model, self.weights, "model.")

    def export(self, folder: Path) -> None:
        """SAM as transformers saves it; what turns queries into prompts, and the decoder's
        estimates into scores, is GeoMag's own and not in it."""
        tuning.export(self.model, folder)

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        scale = self.side / max(height, width)
        return round(height * scale), round(width * scale)

    def _cropped(self, logits: Tensor, look: Look) -> Tensor:
        """Logits over the square to those over what the look fills of it."""
        height, width = self._fitted(*look.pixels.shape[-2:])
        if height == width:
            return logits
        size = (self.side, self.side)
        square = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        return square[:, :height, :width]
