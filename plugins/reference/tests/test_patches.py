from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomag import tokens as visual_tokens
from geomag.errors import ConfigError
from geomag.testing.samples import Facts, Samples
from geomag_reference import patches
from geomag_reference.patches import Patching

PREPARED = {"image_mean": [0.4, 0.45, 0.5], "image_std": [0.2, 0.25, 0.3]}
PATCHING = Patching(14, 2, 2, (0.4, 0.45, 0.5), (0.2, 0.25, 0.3))


def samples() -> Samples:
    """Canvases of 128 pixels, in cells of 16."""
    return Samples(Facts(overview_side=128))


def test_regions_hold_the_cells_and_no_padding() -> None:
    made = samples()
    overview, narrow = (made.tokens([made.looks()[place]])[0] for place in (0, -1))
    size = narrow.look.view.size
    assert min(size.height, size.width) < 128
    assert patches._regions([overview, narrow]) == [
        (0, 0, overview.look.view.size.height, overview.look.view.size.width),
        (0, 0, size.height, size.width),
    ]
    cells = torch.tensor([[1, 2, 2, 3], [3, 2, 5, 4]])
    assert patches._regions([replace(overview, cells=cells)]) == [(16, 32, 80, 64)]
    beyond = torch.tensor([[7, 7, 8, 8]])
    top, left, bottom, right = patches._regions([replace(narrow, cells=beyond)])[0]
    assert 0 < bottom - top <= 16
    assert right - left >= 1
    assert right <= size.width


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000))
def test_a_grid_keeps_to_its_room(height: int, width: int, room: int) -> None:
    rows, columns = PATCHING.grid(height, width, room)
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= room
    assert rows <= max(1, round(height / 28))
    assert columns <= max(1, round(width / 28))
    if min(rows, columns) > 4 and max(height, width) < 4 * min(height, width):
        assert abs(math.log(rows * width / columns / height)) < 0.45
        assert rows * columns > 0.5 * min(room, height * width / 28**2)


def test_tokens_of_the_model_never_outnumber_those_of_the_looks() -> None:
    made = samples()
    looks = made.looks()
    maps = [torch.rand(8, 8) * (place + 1) / 3 for place in range(len(looks))]
    for limit in (3, 40, 150):
        seen = visual_tokens.adjust(looks, maps, made.plan, limit)
        pictures = patches.pictures(seen, PATCHING)
        for picture, item in zip(pictures, seen, strict=True):
            assert (picture is None) == (len(item.cells) == 0)
            if picture is not None:
                assert 1 <= picture.rows * picture.columns <= len(item.cells)


@pytest.mark.parametrize(("height", "width"), [(56, 84), (28, 28), (112, 56)])
def test_patches_are_those_of_the_image_processor(height: int, width: int) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    made = Qwen2VLImageProcessorPil(**PREPARED)(
        images=[image], do_resize=False, return_tensors="pt"
    )
    pixels = torch.from_numpy(image).permute(2, 0, 1) / 255
    found = PATCHING.patches(pixels, height // 28, width // 28)
    torch.testing.assert_close(found, made["pixel_values"], atol=1e-5, rtol=1e-5)
    assert made["image_grid_thw"].tolist() == [[1, height // 14, width // 14]]


def test_images_are_resized_as_the_image_processor_does() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    rows = torch.linspace(0, 9, 150)[:, None] + torch.linspace(0, 7, 200)
    image = ((rows.sin() + 1) * 127).byte()[..., None].expand(-1, -1, 3).contiguous()
    room = 12
    made = Qwen2VLImageProcessorPil(**PREPARED)(
        images=[image.numpy()],
        size={"shortest_edge": 28 * 28, "longest_edge": room * 28 * 28},
        return_tensors="pt",
    )
    grid = PATCHING.grid(150, 200, room)
    assert made["image_grid_thw"].tolist() == [[1, 2 * grid[0], 2 * grid[1]]]
    found = PATCHING.patches(image.permute(2, 0, 1) / 255, *grid)
    # Pillow rounds to whole levels in between.
    torch.testing.assert_close(found, made["pixel_values"], atol=2 / 255 / 0.2, rtol=0)


def test_images_of_other_bands() -> None:
    with pytest.raises(ConfigError, match=r"a look of 4 bands: the vision language model sees 3"):
        PATCHING.patches(torch.zeros(4, 28, 28), 1, 1)
