"""Vision encoder: any image model of transformers, its hidden states as levels.

CLIP (Radford et al. 2021), SigLIP 2 (Tschannen et al. 2025) and DINOv3 (Siméoni et al. 2025) have
no entry of their own here. What differs between models is read off them: the stride from the size
of patches or of feature maps, prefix tokens (class, registers) from what is left beside the grid,
and how they like their pixels from the arguments of their `forward`.

Letters: N images, h w pixels, p side of a patch, T tokens, C channels.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.errors import CheckpointError, ConfigError

from . import tuning
from .folder import file_of, folder_of
from .pretrained import RANDOM, architecture_of, load, on_meta

DEFAULT: Mapping[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
"""CLIP ViT-L/14 at 336 pixels."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own, for weights that bring no preprocessor_config.json."""
PAIRED = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias")
"""What a whole image-text pair holds beside its image model."""
_PROBE = 64
"""Patches, or pixels, along the image that shows the strides of a model."""


class Encoder(nn.Module):
    """Chosen hidden states of a pretrained image model.

    `layers` count as in transformers' `hidden_states`: 0 is what enters the first block, -1 and the
    number of blocks are the model's last, with the norm that its own heads read it through. All
    levels of a plain ViT have the stride of its patches. `shrink` averages so many pixels along
    each side before the model sees them: a canvas of 1008 shrunk by 3 is 336 pixels to it.
    `mean` and `std` are those of `preprocessor_config.json` where the weights bring one, else
    CLIP's. Nothing is random in training but the dropout of LoRA.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
        layers: Sequence[int] = (-1,),
        tune: str | Mapping[str, Any] = tuning.FROZEN,
        dtype: str = "float32",
        shrink: int = 1,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        from transformers import AutoModel

        super().__init__()
        if shrink < 1 or not layers:
            raise ConfigError(
                f"shrink={shrink}, layers={list(layers)}: expected at least 1 of each"
            )
        config = architecture_of(architecture, weights, DEFAULT, part="vision_config")
        self.weights, self.layers, self.shrink = weights, tuple(layers), shrink
        self.model: Any = load(AutoModel, config, weights, dtype=dtype, may_bring=PAIRED)
        self.bands: int = getattr(config, "num_channels", 3)
        self.patch = _patch_of(config)
        own_mean, own_std = _normalisation(weights)
        for name, values in (("mean", mean or own_mean), ("std", std or own_std)):
            if len(values) != self.bands:
                raise ConfigError(
                    f"{name}={list(values)}: expected one for each of {self.bands} bands"
                )
            spread = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, spread, persistent=False)
        taken = inspect.signature(self.model.forward).parameters
        self.way = next(name for name in WAYS if name in taken)
        tuning.tune(self.model, tune)
        self.embed_dims, self.strides = self._levels(shrink * _PROBE * max(self.patch, 1))
        tuning.freeze_unreached(self, self._blank(self.strides[-1]))

    @property
    def is_end(self) -> bool:
        """Whether the last level is what the model's own heads read."""
        blocks = getattr(self.model.config, "num_hidden_layers", None)
        return self.layers[-1] in (-1, blocks)

    def train(self, mode: bool = True) -> Encoder:
        """The model itself stays as in prediction: dropout, or the random scale that DINOv3 gives
        to positions, belongs to pretraining."""
        super().train(mode)
        tuning.calm(self.model, mode)
        return self

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if self.shrink > 1:
            pixels = F.avg_pool2d(pixels, self.shrink)
        normalised = ((pixels - self.mean) / self.std).to(self.model.dtype)
        handed = WAYS[self.way](normalised, self.patch)
        with torch.set_grad_enabled(torch.is_grad_enabled() and tuning.trains(self.model)):
            found = self.model(**handed, output_hidden_states=True)
        return tuple(self._level(found, layer, normalised) for layer in self.layers)

    def sourced(self) -> Collection[str]:
        return tuning.sourced(self.model, self.weights, "model.")

    def export(self, folder: Path) -> None:
        tuning.export(self.model, folder)

    def _levels(self, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths and strides, seen in an image of `side` pixels without memory."""
        shapes = [level.shape for level in tuning.outputs_on_meta(self, self._blank(side))]
        strides = tuple(side // shape[2] for shape in shapes)
        try:
            tuning.outputs_on_meta(self, self._blank(strides[-1]))
        except RuntimeError as error:
            raise ConfigError(
                f"layers={list(self.layers)} have strides {list(strides)}, but the model needs "
                f"more than {strides[-1]} pixels: name its coarsest layer too, and last"
            ) from error
        return tuple(shape[1] for shape in shapes), strides

    def _blank(self, side: int) -> Tensor:
        return torch.empty(1, self.bands, side, side, device="meta")

    def _level(self, found: Any, layer: int, pixels: Tensor) -> Tensor:
        """One hidden state as `[N, C, h/s, w/s]`."""
        states = found.hidden_states
        if not -len(states) <= layer < len(states):
            raise ConfigError(
                f"layers={list(self.layers)}: the model has hidden states 0 to {len(states) - 1}"
            )
        values: Tensor = states[layer]
        if values.ndim == 4:
            return values
        if layer in (-1, len(states) - 1):
            values = found.last_hidden_state
        rows, columns = (side // self.patch if self.patch else 0 for side in pixels.shape[-2:])
        prefix = values.shape[1] - rows * columns
        if not rows or prefix < 0:
            raise ConfigError(
                f"{type(self.model).__name__} does not keep one token a patch; it cannot be a "
                "vision encoder"
            )
        cells: Tensor = values[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
        return cells


def patches_of(pixels: Tensor, side: int) -> Tensor:
    """`pixels [N, bands, h, w]` cut into `[N, T, p p bands]`, in raster order."""
    rows, columns = (length // side for length in pixels.shape[-2:])
    cut: Tensor = pixels.unflatten(2, (rows, side)).unflatten(4, (columns, side))
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _whole(pixels: Tensor, _: int) -> dict[str, Any]:
    return {"pixel_values": pixels}


def _interpolating(pixels: Tensor, _: int) -> dict[str, Any]:
    return {"pixel_values": pixels, "interpolate_pos_encoding": True}


def _cut(pixels: Tensor, side: int) -> dict[str, Any]:
    rows, columns = (length // side for length in pixels.shape[-2:])
    # Read as numbers by the model, and so kept where numbers are.
    shapes = torch.tensor([[rows, columns]] * len(pixels), device="cpu")
    return {
        "pixel_values": patches_of(pixels, side),
        "pixel_attention_mask": None,
        "spatial_shapes": shapes,
    }


WAYS: Mapping[str, Callable[[Tensor, int], dict[str, Any]]] = {
    "spatial_shapes": _cut,
    "interpolate_pos_encoding": _interpolating,
    "pixel_values": _whole,
}
"""How pixels are handed over, by the first of these that a model's `forward` takes."""


def _patch_of(config: Any) -> int:
    """Pixels along a patch; 0 where the model has feature maps and no patches."""
    size = getattr(config, "patch_size", 0)
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise ConfigError(f"patches of {sides} pixels; expected square ones")
    return int(sides.pop())


def _normalisation(weights: str | None) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and spread that the weights want, where they bring a word about it."""
    if weights is None or weights == RANDOM or on_meta() or file_of(weights) is not None:
        return MEAN, STD
    path = folder_of(weights) / "preprocessor_config.json"
    if not path.is_file():
        return MEAN, STD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found.get("image_mean", MEAN), found.get("image_std", STD)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"weights {weights}: {path.name} is damaged: {error}") from error
