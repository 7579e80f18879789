"""What the mask heads of the SAM family share: a query stands where a click would.

As LISA does (Lai et al. 2024, Sec. 3.2): a small network turns the query into one sparse prompt
embedding, and the mask decoder draws its single mask. Each query is an entry of its own in the
batch of the decoder, so neither looks nor queries can mix.

Letters: N images, K queries of one look, M queries of all looks, D query width, C decoder width,
h w canvas pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.errors import ConfigError
from geomag.values import Look, LookMasks

from .tuning import trains

BANDS = 3
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, which the family was trained with."""


class Prompting(nn.Module):
    """Queries `[M, D]` to sparse prompts `[M, 1, 1, C]`."""

    def __init__(self, query_dim: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(query_dim, query_dim)
        self.outer = nn.Linear(query_dim, width)

    def forward(self, queries: Tensor) -> Tensor:
        prompts: Tensor = self.outer(F.relu(self.inner(queries)))
        return prompts[:, None, None]


class Confidence(nn.Module):
    """What a decoder says of its mask to a score in [0, 1], by a sigmoid that is learnt.

    `middle` starts as the value of score 1/2 and `steepness` as its slope there times four. Slopes
    stay above zero: a score never falls where the decoder is surer.
    """

    def __init__(self, middle: float, steepness: float) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor([middle]))
        self.log_steepness = nn.Parameter(torch.tensor([math.log(steepness)]))

    def forward(self, values: Tensor) -> Tensor:
        steepness = self.log_steepness.float().exp()
        return (steepness * (values.float() - self.middle.float())).sigmoid()


def framed(pixels: Tensor, height: int, width: int) -> Tensor:
    """Images `[N, bands, h, w]` in [0, 1] at another size, normalised as the family is used to.

    Raises:
        ConfigError: the images are not in colour.
    """
    if pixels.shape[1] != BANDS:
        raise ConfigError(
            f"images of {pixels.shape[1]} bands: the SAM family sees red, green and blue; choose "
            f"{BANDS} bands of the scenes, or another mask head"
        )
    # Half precision has no antialiased kernel everywhere, and loses levels of brightness.
    pixels = pixels.float()
    shrinks = height < pixels.shape[-2] or width < pixels.shape[-1]
    pixels = F.interpolate(
        pixels, (height, width), mode="bilinear", align_corners=False, antialias=shrinks
    )
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pixels - mean) / std


def paired(
    looks: Sequence[Look],
    queries: Sequence[Tensor],
    encode: Callable[[Tensor], tuple[Tensor, ...]],
    dtype: torch.dtype,
) -> tuple[Tensor, list[Tensor]]:
    """The queries of all looks `[M, D]`, and beside each what its look was encoded to, `[M, ...]`.

    Where nothing is asked, the first look gets a query of zeros: the decoder then runs once
    whatever is asked, and every weight has a gradient. Looks that were not encoded before are
    encoded now, one by one.
    """
    encoded = [
        look.encoded or tuple(part[0] for part in encode(look.pixels[None])) for look in looks
    ]
    rows, counts = torch.cat(list(queries)), [len(item) for item in queries]
    if not len(rows):
        rows, counts[0] = rows.new_zeros(1, rows.shape[1]), 1
    beside = [
        torch.cat(
            [
                part[None].to(dtype).expand(count, *part.shape)
                for part, count in zip(parts, counts, strict=True)
            ]
        )
        for parts in zip(*encoded, strict=True)
    ]
    return rows.to(dtype), beside


def shared_out(values: Tensor, queries: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What was made of `paired` queries, `[M, ...]`, as the parts `[K, ...]` of each look."""
    counts = [len(item) for item in queries]
    return values[: sum(counts)].split(counts)


def stride_of(look: Look, cells: int) -> int:
    """The whole stride nearest to that of `cells` along the longer side of the canvas."""
    height, width = look.pixels.shape[-2:]
    common = math.gcd(height, width)
    own = max(height, width) / cells
    return min((n for n in range(1, common + 1) if common % n == 0), key=lambda n: abs(n - own))


def over_canvas(logits: Tensor, score: Tensor, look: Look, cells: int) -> LookMasks:
    """Masks of one look, one a query in order, from logits `[K, ., .]` that cover its canvas."""
    stride = stride_of(look, cells)
    height, width = (side // stride for side in look.pixels.shape[-2:])
    fitted = F.interpolate(
        logits[:, None].float(), (height, width), mode="bilinear", align_corners=False
    )[:, 0]
    return LookMasks(fitted, torch.arange(len(fitted), device=fitted.device), score)


def settle(model: nn.Module) -> None:
    """Parts in which nothing trains stay as they are at prediction."""
    for part in model.children():
        if not trains(part):
            part.eval()


def unprompted(model: Any) -> tuple[Tensor, Tensor]:
    """What the decoder is told beside the query: where its cells lie, and that there is no mask as
    a prompt; `[1, C, ., .]` both."""
    device = model.device
    # In half precision the waves that say where a cell lies would be off by a twentieth.
    exact: AbstractContextManager[object] = nullcontext()
    if torch.amp.is_autocast_available(device.type):
        exact = torch.autocast(device.type, enabled=False)
    with torch.no_grad(), exact:
        places = model.get_image_wide_positional_embeddings()
        _, dense = model.prompt_encoder(
            input_points=None, input_labels=None, input_boxes=None, input_masks=None
        )
    return places, dense
