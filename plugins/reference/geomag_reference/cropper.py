"""Cropper (PSC): cells of a look compared with the prompt's words, by an image-text pair.

CLIP (Radford et al. 2021) and SigLIP 2 (Tschannen et al. 2025) learnt to compare whole images with
texts; here each cell is sent by itself through what follows the last block, and so into the space
of the texts (MaskCLIP, Zhou et al. 2022). What it is compared with is the prompt on the one side
and phrases for anything else on the other.

Letters: M cells of all looks, C channels, h w cells of one look, E joint width, T texts, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag import ranking
from geomag.errors import ConfigError
from geomag.registry import Borrowed
from geomag.values import Look, Plan, Prompt, View

from . import tuning
from .architecture import same
from .encoder import Encoder
from .pretrained import architecture_of, load, tokenizer_of

DEFAULT: Mapping[str, Any] = {
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    },
}
"""CLIP ViT-L/14 at 336 pixels."""
BACKGROUND = ("ground", "grass", "bare soil", "background", "an aerial photo")


class Cropper(nn.Module):
    """Relevance is the softmax of the prompt's text among `background` phrases, cell by cell.

    The text is what the user said last, put into `template`. Where `vision_encoder` is the pair's
    own image model, cells go through its last norm and projection, or its pooling head, one at a
    time; beside any other encoder a projection is learnt. A scale and a shift of the logit are
    learnt too; the pair's own scale stays. Views are ranked as by tiny/cropper: of every rung in
    turn, those first that should be fullest; one whose relevance is nowhere `threshold` is not
    worth a closer look.
    """

    def __init__(
        self,
        visual_dims: Sequence[int],
        strides: Sequence[int],
        vision_encoder: Borrowed,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
        tune: str | Mapping[str, Any] = tuning.FROZEN,
        dtype: str = "float32",
        background: Sequence[str] = BACKGROUND,
        template: str = "{}",
        threshold: float = 0.1,
    ) -> None:
        from transformers import AutoModel

        super().__init__()
        if not background or "{}" not in template:
            raise ConfigError(
                f"background={list(background)}, template={template!r}: expected at least one "
                "phrase, and {} where the prompt stands"
            )
        self.vision_encoder, self.weights = vision_encoder, weights
        self.stride, self.threshold = strides[-1], threshold
        self.background, self.template = tuple(background), template
        config = architecture_of(architecture, weights, DEFAULT)
        self.tokenizer = tokenizer_of(weights)
        self.pair: Any = load(AutoModel, config, weights, dtype=dtype)
        self.length: int = config.text_config.max_position_embeddings
        self.way = _way_of(self.pair, vision_encoder.module, weights)
        kind = self.pair.dtype
        width = _joint_width(config)
        self.project = None if self.way else nn.Linear(visual_dims[-1], width, dtype=kind)
        self.scale = nn.Parameter(torch.ones(1, dtype=kind))
        self.shift = nn.Parameter(torch.zeros(1, dtype=kind))
        del self.pair.vision_model  # looks are encoded already
        tuning.tune(self.pair, tune)
        for name, parameter in self.pair.named_parameters():
            if not name.startswith("text_"):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Cropper:
        super().train(mode)
        tuning.calm(self.pair, mode)
        return self

    def sourced(self) -> Collection[str]:
        return tuning.sourced(self.pair, self.weights, "pair.")

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        if not looks:
            return []
        cells = torch.cat([look.features[-1].flatten(1).T for look in looks])
        texts = [self.template.replace("{}", prompt.text), *self.background]
        likely = self(cells, self._ids(texts).to(cells.device)).sigmoid()
        grids = [look.features[-1].shape[-2:] for look in looks]
        maps = likely.split([grid.numel() for grid in grids])
        return [
            found.view(grid) * self._seen(look, found)
            for look, grid, found in zip(looks, grids, maps, strict=True)
        ]

    def forward(self, cells: Tensor, ids: Tensor) -> Tensor:
        """Logits `[M]` of cells `[M, C]` for the first of the texts `[T, L]` against the others."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and tuning.trains(self.pair)):
            texts = self.pair.get_text_features(input_ids=ids).pooler_output
        cells = cells.to(self.pair.dtype)
        joint = WAYS[self.way](self, cells) if self.project is None else self.project(cells)
        # Small differences of cosines count: no 16 bits from here on.
        kind = torch.promote_types(self.pair.dtype, torch.float32)
        alike = F.normalize(joint.to(kind), dim=1) @ F.normalize(texts.to(kind), dim=1).T  # [M, T]
        alike = alike * self.pair.logit_scale.to(kind).exp()
        apart: Tensor = alike[:, 0] - alike[:, 1:].logsumexp(1)
        return apart * self.scale.to(kind) + self.shift.to(kind)

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return ranking.by_turns(looks, relevance, candidates, self.threshold)

    def _ids(self, texts: Sequence[str]) -> Tensor:
        """`[T, L]`, filled up to what the text model was trained with, each with an end."""
        end, blank = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        rows = []
        for text in texts:
            # SigLIP 2 was trained so, and its tokenizer leaves that to others.
            text = text.lower()
            ids = self.tokenizer(text, truncation=True, max_length=self.length).input_ids
            ids = ids if ids[-1:] == [end] else [*ids[: self.length - 1], end]
            rows.append(ids + [end if blank is None else blank] * (self.length - len(ids)))
        return torch.tensor(rows)

    def _seen(self, look: Look, like: Tensor) -> Tensor:
        """The cells that hold any data, `[h, w]` of 0 and 1."""
        return F.max_pool2d(look.valid[None].to(like.dtype), self.stride)[0]


def _normed(cropper: Cropper, cells: Tensor) -> Tensor:
    image: Any = cropper.vision_encoder.module.model
    joint: Tensor = cropper.pair.visual_projection(image.post_layernorm(cells))
    return joint


def _pooled(cropper: Cropper, cells: Tensor) -> Tensor:
    image: Any = cropper.vision_encoder.module.model
    joint: Tensor = image.head(cells[:, None])
    return joint


WAYS: Mapping[str, Callable[[Cropper, Tensor], Tensor]] = {
    "visual_projection": _normed,
    "vision_model.head": _pooled,
}
"""From cells to the joint space, by the first of these modules that a pair has."""


def _way_of(pair: Any, encoder: nn.Module, weights: str | None) -> str:
    """One of `WAYS`; "" where the encoder's last level is not the end of the pair's image model."""
    if not isinstance(encoder, Encoder) or not encoder.is_end or encoder.weights != weights:
        return ""
    if not same(encoder.model.config, pair.vision_model.config):
        return ""
    known = {name for name, _ in pair.named_modules()}
    return next((way for way in WAYS if way in known), "")


def _joint_width(config: Any) -> int:
    """Channels of what the text model says of a text."""
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)
