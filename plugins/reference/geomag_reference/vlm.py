"""LLM adapter: a vision language model of the Qwen-VL kind, which sees the pixels of the looks.

A sequence is the chat template with what was said in it. At the head of what the user said first
stand the looks, each after the token that names it in boxes. The features of the encoder are not
read: of each look the model sees the part that its cells cover, and their number bounds how finely.
Positions are those of M-RoPE (Wang et al. 2024, Sec. 2.1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomag.errors import ConfigError
from geomag.spelling import first_name
from geomag.values import Conversation, Lesson, Prompt, Reading, Reply, VisualTokens

from . import language, patches, tuning
from .script import Script, Seen

DEFAULT: Mapping[str, Any] = {
    "model_type": "qwen2_5_vl",
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1000000.0,
            "mrope_section": [16, 24, 24],
        },
    },
    "vision_config": {"hidden_size": 1280, "out_hidden_size": 3584},
}
"""Qwen2.5-VL-7B."""


class VisionLanguageModel(nn.Module):
    """Markers and queries always train; `tune` says what of the model does.

    `weights` and `architecture` are those of `pretrained`; the tokenizer and what images are
    normalised with lie beside the weights. All of it is built in `dtype`. `attention` is one of
    transformers' implementations, and `prompt_limit` bounds the tokens of a conversation, the chat
    template's among them.

    Raises:
        ConfigError: an argument is none that it can be built from.
        CheckpointError: the weights, or what lies beside them, cannot be used.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
        tune: str | Mapping[str, Any] = "frozen",
        query_dim: int = 256,
        max_visual_tokens: int = 1024,
        dtype: str = "float32",
        gradient_checkpointing: bool = False,
        attention: str = "sdpa",
        prompt_limit: int = 512,
    ) -> None:
        from transformers import AutoModelForImageTextToText

        super().__init__()
        self.weights = weights
        self.speaker = language.speaker(
            AutoModelForImageTextToText,
            DEFAULT,
            architecture,
            weights,
            tune,
            query_dim,
            dtype,
            gradient_checkpointing,
            attention,
            prompt_limit,
        )
        config: Any = self.speaker.language.config
        _check_kind(config)
        self._patching = patches.patching_of(config, weights)
        self._begin, self._finish = config.vision_start_token_id, config.vision_end_token_id
        self._packed = attention.startswith("flash")
        self.prompt_dim = self.speaker.width
        self.query_dim = query_dim
        self.max_visual_tokens = max_visual_tokens

    def read(self, conversations: Sequence[Conversation]) -> list[Prompt]:
        return self.speaker.read(conversations)

    def forward(
        self,
        tokens: Sequence[Sequence[VisualTokens]],
        prompts: Sequence[Prompt],
        answers: Sequence[Reply],
    ) -> Lesson:
        flat = [item for looks in tokens for item in looks]
        pictures = patches.pictures(flat, self._patching)
        remaining = iter(pictures)
        scripts = [
            self._script([next(remaining) for _ in looks], first_name(looks), prompt)
            for looks, prompt in zip(tokens, prompts, strict=True)
        ]
        seen = self._seen([picture for picture in pictures if picture is not None])
        return self.speaker.learn(scripts, seen, tokens, answers)

    @torch.no_grad()
    def generate(
        self, tokens: Sequence[VisualTokens], prompt: Prompt, max_new_tokens: int
    ) -> Reading:
        pictures = patches.pictures(tokens, self._patching)
        script = self._script(pictures, first_name(tokens), prompt)
        seen = self._seen([picture for picture in pictures if picture is not None])
        return self.speaker.answer(script, seen, tokens, max_new_tokens)

    def train(self, mode: bool = True) -> VisionLanguageModel:
        super().train(mode)
        eyes = self._eyes
        if not tuning.trains(eyes):
            eyes.eval()
        return self

    def sourced(self) -> Collection[str]:
        return tuning.sourced(self.speaker.language, self.weights, "speaker.language.")

    def export(self, folder: Path) -> None:
        """The whole vision language model, and how images are prepared for it."""
        language.export(self.speaker, folder)
        patches.write_processor(self._patching, folder)

    @property
    def _eyes(self) -> nn.Module:
        eyes: nn.Module = self.speaker.language.get_encoder(modality="image")
        return eyes

    def _script(
        self, pictures: Sequence[patches.Picture | None], first: int, prompt: Prompt
    ) -> Script:
        ids, after = self.speaker.dialogue.prompt(prompt.turns)
        visual: list[int] = []
        axes = [list(range(len(ids))) for _ in range(3)]
        place = len(ids)

        def say(*more: int) -> None:
            nonlocal place
            ids.extend(more)
            for axis in axes:
                axis.extend(range(place, place + len(more)))
            place += len(more)

        for number, picture in enumerate(pictures):
            if picture is None:
                continue
            say(self.speaker.answers.named(number, first), self._begin)
            rows, columns = picture.rows, picture.columns
            visual += range(len(ids), len(ids) + rows * columns)
            ids += [0] * (rows * columns)
            axes[0] += [place] * (rows * columns)
            axes[1] += [place + row for row in range(rows) for _ in range(columns)]
            axes[2] += [place + column for _ in range(rows) for column in range(columns)]
            place += max(rows, columns)
            say(self._finish)
        say(*after)
        return Script(ids, axes, visual, place)

    def _seen(self, pictures: Sequence[patches.Picture]) -> Seen:
        """What the model makes of the pictures, all in one call; one of nothing where there is
        none, so that every step calls the same modules."""
        eyes = self._eyes
        model: Any = self.speaker.language
        shown = pictures or [patches.blank(self._patching)]
        merge = self._patching.merge
        sides = [[1, one.rows * merge, one.columns * merge] for one in shown]
        grid = torch.tensor(sides, device="cpu")
        like = self.speaker.markers.inputs.weight
        pixels = torch.cat([one.patches.to(like.device, like.dtype) for one in shown])
        with torch.set_grad_enabled(torch.is_grad_enabled() and tuning.trains(eyes)):
            with torch.device("cpu"):  # also where all else is on the meta device
                layout = self._layout(eyes, grid, like.device)
            output = model.get_image_features(pixels, image_grid_thw=grid, **layout)
        count = None if pictures else 0
        deep = getattr(output, "deepstack_features", None) or ()
        return Seen(
            torch.cat(list(output.pooler_output))[:count],
            tuple(torch.cat(list(rows))[:count] for rows in deep),
        )

    def _layout(self, eyes: Any, grid: Tensor, device: torch.device) -> dict[str, Any]:
        """Where patches stand, worked out on the host, where the grid is known."""
        from transformers import vision_utils

        merge = self._patching.merge
        known = {"position_ids": vision_utils.get_vision_position_ids(grid, merge)}
        ends = {"cu_seqlens": vision_utils.get_vision_cu_seqlens(grid)}
        if hasattr(eyes, "window_size"):
            known["window_index"], ends["cu_window_seqlens"] = vision_utils.get_vision_window_index(
                grid, merge, eyes.window_size, self._patching.patch
            )
        if hasattr(eyes, "num_grid_per_side"):
            known["interp_indices"], known["interp_weights"] = (
                vision_utils.get_vision_interpolation_indices_and_weights(
                    grid,
                    eyes.num_grid_per_side,
                    eyes.interpolation_mode,
                    eyes.interpolation_align_corners,
                    merge,
                )
            )
        # Without packed attention, images are told apart on the host.
        known |= ends if self._packed else {}
        placed = {name: value.to(device) for name, value in known.items()}
        return {f"image_{name}": value for name, value in (ends | placed).items()}


def _check_kind(config: Any) -> None:
    needed = {
        "": ("vision_start_token_id", "vision_end_token_id"),
        "vision_config": ("patch_size", "spatial_merge_size", "temporal_patch_size"),
    }
    lacking = [
        f"{part}.{name}".lstrip(".")
        for part, names in needed.items()
        for name in names
        if getattr(getattr(config, part) if part else config, name, None) is None
    ]
    if lacking:
        raise ConfigError(
            f"model_type {config.model_type!r} is not of the Qwen-VL kind: its config has no "
            f"{', '.join(lacking)}; choose one that is, or an adapter that sees features"
        )
