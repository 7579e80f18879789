"""What a vision encoder promises.

Letters: N images, h w pixels, C channels, s strides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .checks import expect, expect_none, promise
from .comparison import EXACT, differences, distance, quarters
from .subject import Subject

LEAK = 0.4
"""How far the corner furthest from the padding may move: attention to blank cells moves it a
little, a mean and variance over the whole canvas move it a lot."""


@promise("vision_encoder")
def check_stride_is_true(build: Subject) -> None:
    """A level of stride s is h/s high and w/s wide."""
    encoder = build()
    step = encoder.strides[-1]
    levels = encoder(_pixels(build, encoder, 2 * step, 3 * step))
    expect(
        len(levels) == len(encoder.strides),
        f"it returns {len(levels)} levels and states {len(encoder.strides)} strides",
    )
    wrong = []
    for place, (level, stride) in enumerate(zip(levels, encoder.strides, strict=True)):
        promised = [2 * step // stride, 3 * step // stride]
        if list(level.shape[-2:]) != promised:
            wrong.append(
                f"level {place} is {list(level.shape[-2:])} for {2 * step} x {3 * step} pixels, "
                f"stride {stride} promises {promised}"
            )
    expect_none(wrong)


@promise("vision_encoder")
def check_width_is_true(build: Subject) -> None:
    """A level has as many channels as `embed_dims` says, and one entry for each image."""
    encoder = build()
    levels = encoder(_pixels(build, encoder, count=3))
    found = [tuple(level.shape[:2]) for level in levels]
    promised = [(3, width) for width in encoder.embed_dims]
    expect(found == promised, f"levels [N, C] are {found}, embed_dims promise {promised}")


@promise("vision_encoder")
def check_finest_first(build: Subject) -> None:
    """Levels go from finest to coarsest."""
    encoder = build()
    cells = [level.shape[-2:].numel() for level in encoder(_pixels(build, encoder))]
    expect(cells == sorted(cells, reverse=True), f"levels of {cells} cells are not finest first")


@promise("vision_encoder")
def check_any_size(build: Subject) -> None:
    """Any height and width that are multiples of the largest stride will do."""
    encoder = build()
    step = encoder.strides[-1]
    whole = [level.shape[-2:] for level in encoder(_pixels(build, encoder, 4 * step, 4 * step))]
    for rows, columns in ((1, 1), (1, 5), (3, 2), (7, 3)):
        levels = encoder(_pixels(build, encoder, rows * step, columns * step))
        found = [(4 * level.shape[-2], 4 * level.shape[-1]) for level in levels]
        grown = [(height * rows, width * columns) for height, width in whole]
        expect(
            found == grown,
            f"levels do not follow the size of {rows * step} x {columns * step} pixels",
        )


@promise("vision_encoder")
def check_bands_are_true(build: Subject) -> None:
    """It takes as many bands as it states, and every one of them counts."""
    encoder = build()
    pixels = _pixels(build, encoder)
    before = encoder(pixels)
    for band in range(encoder.bands):
        changed = pixels.clone()
        changed[:, band] = 1 - changed[:, band]
        same = [distance(a, b) <= EXACT for a, b in zip(before, encoder(changed), strict=True)]
        expect(not all(same), f"band {band} of {encoder.bands} changes nothing")


@promise("vision_encoder")
def check_flat_images(build: Subject) -> None:
    """An image all black or all white has finite features: it normalises its own input, without
    dividing by what may be zero."""
    encoder = build()
    pixels = _pixels(build, encoder)
    for name, image in (("black", torch.zeros_like(pixels)), ("white", torch.ones_like(pixels))):
        for place, level in enumerate(encoder(image)):
            expect(level.isfinite().all(), f"level {place} of a {name} image is not finite")


@promise("vision_encoder")
def check_images_do_not_mix(build: Subject) -> None:
    """The features of an image do not depend on the other images of its batch."""
    _expect_unmixed(build, build())


@promise("vision_encoder")
def check_images_do_not_mix_in_training(build: Subject) -> None:
    """In training they do not either: statistics over a batch would make a step depend on how it
    is shared out."""
    _expect_unmixed(build, build().train())


@promise("vision_encoder")
def check_features_lie_where_pixels_lie(build: Subject) -> None:
    """What changes in one quarter of an image changes most in that quarter of every level: neither
    turned, mirrored nor shifted."""
    encoder = build()
    # Every level has many cells to each quarter: what a border does is felt in few of them.
    side = max(8 * encoder.strides[-1], build.samples(encoder).side)
    pixels = _pixels(build, encoder, side, side)
    before = encoder(pixels)
    half = pixels.shape[-1] // 2
    for top, left in ((True, False), (False, True)):
        rows = slice(0, half) if top else slice(half, None)
        columns = slice(0, half) if left else slice(half, None)
        changed = pixels.clone()
        # Turned, not inverted: a normalisation over the image sees no other image.
        changed[..., rows, columns] = changed[..., rows, columns].flip(-2, -1)
        for place, (old, new) in enumerate(zip(before, encoder(changed), strict=True)):
            moved = quarters(new - old)
            expect(
                max(moved, key=moved.__getitem__) == (top, left),
                f"level {place} changes most elsewhere than the pixels did",
            )


@promise("vision_encoder")
def check_padding_does_not_leak(build: Subject) -> None:
    """Blank canvas below and to the right of a view leaves the far corner of the view as it is: a
    normalisation is per position, or masked."""
    for mode in (False, True):
        encoder = build().train(mode)
        pixels = _pixels(build, encoder, *(16 * encoder.strides[-1],) * 2, count=1)
        half = pixels.shape[-1] // 2
        # The same view four times over, or once: the data alone does not tell them apart.
        pixels = pixels[..., :half, :half].repeat(1, 1, 2, 2)
        padded = pixels.clone()
        padded[..., half:, :] = 0
        padded[..., :, half:] = 0
        old, new = _call(encoder, pixels)[0], _call(encoder, padded)[0]
        rows, columns = old.shape[-2] // 8, old.shape[-1] // 8
        old, new = old[..., :rows, :columns], new[..., :rows, :columns]
        moved = float((new - old).norm() / old.norm().clamp_min(1e-6))
        expect(
            moved <= LEAK,
            f"three quarters of blank canvas move the corner furthest away by {moved:.0%}",
        )


def _expect_unmixed(build: Subject, encoder: Any) -> None:
    pixels = _pixels(build, encoder, count=3)
    for place in range(3):
        others = 1 - pixels
        others[place] = pixels[place]
        old, new = _call(encoder, pixels), _call(encoder, others)
        found = differences(
            {f"level {level} of image {place}": value[place] for level, value in enumerate(old)},
            {f"level {level} of image {place}": value[place] for level, value in enumerate(new)},
        )
        expect_none([f"beside other images {problem}" for problem in found])


def _call(encoder: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    """With the same random numbers every time: dropout is not what is checked here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        levels: tuple[Tensor, ...] = encoder(pixels)
    return levels


def _pixels(
    build: Subject, encoder: Any, height: int = 0, width: int = 0, count: int = 2
) -> Tensor:
    samples = build.samples(encoder)
    return samples.pixels(count, height or samples.side, width or samples.side)
