from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geomag.contracts import Scene
from geomag.errors import SceneError
from geomag.geometry import overview
from geomag.scenes import open_scene
from geomag.scenes.array import ArrayScene
from geomag.values import Box, Size, View

SIDE = 32


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def native(scene: Scene, top: int, left: int, height: int, width: int) -> View:
    box = Box(left, top, left + width, top + height)
    return View(box, Size(height, width), scene.info.size)


def test_is_a_scene() -> None:
    assert isinstance(open_scene(noise(3, 4, 3)), Scene)


def test_native_window_is_the_pixels_themselves_with_padding_not_valid() -> None:
    array = noise(50, 60, 3)
    scene = ArrayScene(array)
    seen = scene.read(native(scene, 20, 40, 30, 20), SIDE)
    assert seen.pixels.shape == (3, SIDE, SIDE)
    assert seen.pixels.dtype == torch.float32
    expected = torch.from_numpy(array[20:50, 40:60]).permute(2, 0, 1) / 255
    assert torch.equal(seen.pixels[:, :30, :20], expected)
    assert seen.valid[:30, :20].all()
    assert int(seen.valid.sum()) == 30 * 20
    assert float(seen.pixels.sum()) == pytest.approx(float(expected.sum()), rel=1e-6)


def test_shrinking_is_the_mean_over_the_area() -> None:
    array = noise(64, 64, 3)
    scene = ArrayScene(array)
    seen = scene.read(View(Box(0, 0, 64, 64), Size(16, 16), scene.info.size), SIDE)
    means = array.reshape(16, 4, 16, 4, 3).mean((1, 3)) / 255
    assert np.abs(seen.pixels[:, :16, :16].permute(1, 2, 0).numpy() - means).max() <= 0.51 / 255


def test_enlarging_works() -> None:
    scene = ArrayScene(noise(8, 8, 3))
    seen = scene.read(View(Box(2, 2, 6, 6), Size(16, 16), scene.info.size), SIDE)
    assert seen.valid[:16, :16].all()
    assert float(seen.pixels[:, :16, :16].std()) > 0


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_grey_is_shown_in_all_bands(shape: tuple[int, ...]) -> None:
    scene = ArrayScene(noise(*shape))
    seen = scene.read(overview(scene.info.size, SIDE), SIDE)
    assert scene.info.bands == 3
    assert torch.equal(seen.pixels[0], seen.pixels[2])


def test_transparent_is_zero_and_not_valid_and_does_not_darken_its_neighbours() -> None:
    array = np.full((64, 64, 4), 200, np.uint8)
    array[:, :33, 3] = 0
    array[:, :33, :3] = 255
    scene = ArrayScene(array)
    seen = scene.read(View(Box(0, 0, 64, 64), Size(16, 16), scene.info.size), 16)
    # Column 8 is three quarters valid; its mean is that of the valid ones.
    assert not seen.valid[:, :8].any()
    assert seen.valid[:, 8:].all()
    assert float(seen.pixels[:, :, :8].abs().max()) == 0
    assert torch.allclose(seen.pixels[:, :, 8:], torch.tensor(200 / 255))


def test_floats_are_kept_and_what_is_not_finite_is_not_valid() -> None:
    array = np.full((4, 4, 3), 0.25, np.float64)
    array[1, 2] = np.nan
    array[3, 3, 0] = np.inf
    scene = ArrayScene(array)
    seen = scene.read(native(scene, 0, 0, 4, 4), 4)
    assert not seen.valid[1, 2]
    assert not seen.valid[3, 3]
    assert int(seen.valid.sum()) == 14
    assert torch.equal(seen.pixels[0][seen.valid], torch.full((14,), 0.25))


def test_sixteen_bits_are_stretched_between_percentiles() -> None:
    array = np.linspace(1000, 3000, 100 * 100).reshape(100, 100).astype(np.uint16)
    scene = ArrayScene(array)
    seen = scene.read(native(scene, 0, 0, 100, 100), 100)
    assert float(seen.pixels.min()) == 0
    assert float(seen.pixels.max()) == 1
    assert float(seen.pixels.mean()) == pytest.approx(0.5, abs=0.01)
    flat = ArrayScene(np.full((4, 4), 65535, np.uint16))
    assert float(flat.read(native(flat, 0, 0, 4, 4), 4).pixels.min()) == 1


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 2), np.uint8), "expected [H, W]"),
        (np.zeros((3, 40, 40), np.uint8), "move the bands last"),
        (np.zeros((4,), np.uint8), "expected [H, W]"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.full((4, 4), 255.0), "expected [0, 1]"),
        ([[1, 2]], "numpy array"),
    ],
)
def test_what_is_no_scene_is_named(array: Any, words: str) -> None:
    with pytest.raises(SceneError, match="array") as caught:
        open_scene(array)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_view_of_any_scene_fills_its_size_and_nothing_else(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    scene = ArrayScene(np.full((height, width), 255, np.uint8))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    size = Size(data.draw(st.integers(1, SIDE)), data.draw(st.integers(1, SIDE)))
    seen = scene.read(View(Box(left, top, right, bottom), size, scene.info.size), SIDE)
    expected = torch.zeros(SIDE, SIDE)
    expected[: size.height, : size.width] = 1
    assert torch.equal(seen.valid.float(), expected)
    assert torch.equal(seen.pixels, expected.expand(3, -1, -1))
