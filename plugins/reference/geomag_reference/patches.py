"""What a vision language model sees of a look: the part that its cells cover, as patches.

As the image processor of Qwen2-VL does it (Wang et al. 2024, Sec. 2.1), on tensors: `merge` x
`merge` neighbouring patches become one token, and so they lie behind each other.

Letters: N patches, h w pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geomag.errors import CheckpointError, ConfigError
from geomag.values import VisualTokens

from .pretrained import RANDOM, folder_of, on_meta

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PROCESSOR = "preprocessor_config.json"
GRAY = (0.5, 0.5, 0.5)
"""Mean and spread where nothing pretrained says otherwise."""


@dataclass(frozen=True, slots=True)
class Patching:
    """How images are cut into patches. An image is shown `frames` times, as if it did not move."""

    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def step(self) -> int:
        """Pixels along a token."""
        return self.patch * self.merge

    def grid(self, height: int, width: int, room: int) -> tuple[int, int]:
        """Rows and columns of tokens for an image, at most `room` in all and no finer than the
        image is; its aspect is kept as far as whole tokens can."""
        rows, columns = max(1, round(height / self.step)), max(1, round(width / self.step))
        if rows * columns > room:
            shrunk = math.sqrt(height * width / room)
            rows, columns = max(1, int(height / shrunk)), max(1, int(width / shrunk))
        return min(rows, room), max(1, min(columns, room // min(rows, room)))

    def patches(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        """An image `[3, h, w]` in [0, 1] at `rows` x `columns` tokens, to `[N, 3 frames patch²]`.

        Raises:
            ConfigError: the image is not in colour.
        """
        if len(pixels) != len(self.mean):
            raise ConfigError(
                f"a look of {len(pixels)} bands: the vision language model sees {len(self.mean)}; "
                f"choose {len(self.mean)} bands of the scenes, or an adapter that sees features"
            )
        size = (rows * self.step, columns * self.step)
        # Half precision has no antialiased kernel everywhere.
        fine = pixels if pixels.dtype == torch.float64 else pixels.float()
        if fine.shape[-2:] != size:
            fine = F.interpolate(fine[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        mean, std = (fine.new_tensor(part)[:, None, None] for part in (self.mean, self.std))
        cut = ((fine - mean) / std).unflatten(1, (rows, self.merge, self.patch))
        cut = cut.unflatten(4, (columns, self.merge, self.patch))
        # band, row, down, y, column, across, x
        ordered = cut.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)
        shown: Tensor = ordered.expand(*(-1,) * 5, self.frames, -1, -1)
        return shown.flatten(4).flatten(0, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is shown of one look: `patches [N, bands frames patch²]`, `rows` x `columns` tokens."""

    patches: Tensor
    rows: int
    columns: int


def pictures(tokens: Sequence[VisualTokens], patching: Patching) -> list[Picture | None]:
    """One for each look, of at most as many tokens as it has cells; None where it has none."""
    shown: list[Picture | None] = []
    for item, region in zip(tokens, _regions(tokens), strict=True):
        if not len(item.cells):
            shown.append(None)
            continue
        top, left, bottom, right = region
        rows, columns = patching.grid(bottom - top, right - left, len(item.cells))
        pixels = item.look.pixels[:, top:bottom, left:right]
        shown.append(Picture(patching.patches(pixels, rows, columns), rows, columns))
    return shown


def blank(patching: Patching) -> Picture:
    """Nothing at all, in one token."""
    nothing = torch.zeros(len(patching.mean), patching.step, patching.step)
    return Picture(patching.patches(nothing, 1, 1), 1, 1)


def patching_of(config: PreTrainedConfig, weights: str | None) -> Patching:
    """The patches of a vision language model, normalised as the folder of its weights says.

    Raises:
        CheckpointError: the folder does not say.
    """
    vision = config.vision_config
    sizes = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
    nowhere = weights in (None, RANDOM)
    if nowhere or (on_meta() and not Path(str(weights)).expanduser().is_dir()):
        return Patching(*sizes, GRAY, GRAY)
    said = _processor(folder_of(str(weights)))
    return Patching(*sizes, *(tuple(map(float, said[key])) for key in ("image_mean", "image_std")))


def write_processor(patching: Patching, folder: Path) -> None:
    """Writes down how images are prepared, for the image processor of transformers."""
    said = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": patching.patch,
        "merge_size": patching.merge,
        "temporal_patch_size": patching.frames,
        "image_mean": list(patching.mean),
        "image_std": list(patching.std),
    }
    (folder / PROCESSOR).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _regions(tokens: Sequence[VisualTokens]) -> list[tuple[int, int, int, int]]:
    """The smallest rectangle of each canvas that holds its cells, without padding: top, left,
    bottom and right in pixels. Without a cell it means nothing."""
    boxes = [_whole(item) for item in tokens]
    known = [
        place
        for place, item in enumerate(tokens)
        if len(item.cells) and not item.cells.is_meta  # there nothing says where cells lie
    ]
    if known:
        limits = [
            torch.cat([tokens[place].cells[:, :2].amin(0), tokens[place].cells[:, 2:].amax(0)])
            for place in known
        ]
        for place, cells in zip(known, torch.stack(limits).tolist(), strict=True):
            boxes[place] = _region(tokens[place], cells)
    return boxes


def _whole(tokens: VisualTokens) -> tuple[int, int, int, int]:
    return 0, 0, tokens.look.view.size.height, tokens.look.view.size.width


def _region(tokens: VisualTokens, cells: Sequence[int]) -> tuple[int, int, int, int]:
    _, _, bottom, right = _whole(tokens)
    canvas, grid = tokens.look.pixels.shape[-2:], tokens.look.features[-1].shape[-2:]
    down, across = canvas[0] / grid[0], canvas[1] / grid[1]
    top, left = min(int(cells[0] * down), bottom - 1), min(int(cells[1] * across), right - 1)
    return (
        top,
        left,
        max(top + 1, min(math.ceil(cells[2] * down), bottom)),
        max(left + 1, min(math.ceil(cells[3] * across), right)),
    )


def _processor(folder: Path) -> Mapping[str, Any]:
    """What a folder says of its image processor, by itself or within the whole processor."""
    for name, part in ((PROCESSOR, None), ("processor_config.json", "image_processor")):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise CheckpointError(f"weights {folder}: {name} is damaged: {error}") from error
        said = said.get(part) if part and isinstance(said, Mapping) else said
        if isinstance(said, Mapping) and {"image_mean", "image_std"} <= said.keys():
            return said
    raise CheckpointError(
        f"weights {folder}: neither {PROCESSOR} nor processor_config.json says image_mean and "
        "image_std, which its images are normalised with; copy the file from where the weights are "
        "from"
    )
