from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from geomag.contracts import Scene, Shape
from geomag.data.augmentation import lit, random_frame, random_light
from geomag.data.directions import SYMMETRIES, Symmetry, cell_of
from geomag.data.drawn import DrawnScenes
from geomag.data.frames import Frame, FramedScene, FramedShape, cuts, framed
from geomag.data.samples import Bitmap, LabelledSample, Polygons
from geomag.geometry import overview, tiles
from geomag.scenes.array import ArrayScene
from geomag.values import Box, Exchange, Level, Reply, Size, Turn, View

HEIGHT, WIDTH, SIDE = 90, 130, 32
SIZE, WHOLE = Size(HEIGHT, WIDTH), Box(0, 0, WIDTH, HEIGHT)
ARRAY = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
ARRAY[..., 3] = 255
ARRAY[:40, :30, 3] = 0
RING = np.array([[10.5, 20], [70, 25.2], [61, 71], [33, 66.6]])
BITMAP = np.zeros((HEIGHT, WIDTH), bool)
BITMAP[13:58, 60:99] = True
BITMAP[30:40, 99:120] = True


def frame(symmetry: Symmetry, window: Box = WHOLE, scale: float = 1) -> Frame:
    height, width = round(window.height * scale), round(window.width * scale)
    size = Size(width, height) if symmetry.transpose else Size(height, width)
    return Frame(SIZE, window, size, symmetry)


def laid(array: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """What a symmetry says it does: transposed first, then flipped."""
    array = array.swapaxes(0, 1) if symmetry.transpose else array
    array = array[:, ::-1] if symmetry.across else array
    return array[::-1] if symmetry.down else array


def views(size: Size) -> list[View]:
    return [overview(size, SIDE), *tiles(size, SIDE, 1)]


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("window", [WHOLE, Box(20, 10, 101, 77)])
def test_a_framed_scene_reads_as_the_turned_array_would(symmetry: Symmetry, window: Box) -> None:
    new = FramedScene(ArrayScene(ARRAY), frame(symmetry, window))
    cut = ARRAY[int(window.top) : int(window.bottom), int(window.left) : int(window.right)]
    expected = ArrayScene(np.ascontiguousarray(laid(cut, symmetry)))
    assert isinstance(new, Scene)
    assert new.info.size == expected.info.size
    for view in views(new.info.size):
        one, other = new.read(view, SIDE), expected.read(view, SIDE)
        assert torch.equal(one.valid, other.valid)
        assert (one.pixels - other.pixels).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("scale", [1, 1.3])
def test_every_shape_is_drawn_where_the_scene_shows_it(symmetry: Symmetry, scale: float) -> None:
    new = frame(symmetry, scale=scale)
    for shape in (Polygons([RING], SIZE), Bitmap(BITMAP)):
        sample = framed(labelled(shape), new)
        assert isinstance(sample.shapes[0], Shape)
        dense = shape.draw(View(WHOLE, SIZE, SIZE), WIDTH)[:HEIGHT].numpy()
        turned = Bitmap(laid(dense, symmetry) > 0.5) if isinstance(shape, Bitmap) else None
        for view in views(new.size):
            drawn = sample.shapes[0].draw(view, SIDE, 2)
            slow = FramedShape(shape, new).draw(view, SIDE, 2)
            assert torch.allclose(drawn, slow, atol=1e-3)
            if turned is not None and scale == 1:
                assert torch.allclose(drawn, turned.draw(view, SIDE, 2), atol=1e-3)
        grown = new.size.area / SIZE.area
        assert sample.shapes[0].area == pytest.approx(shape.area * grown, rel=2e-3)
        assert FramedShape(shape, new).box.width == pytest.approx(sample.shapes[0].box.width)


def labelled(*shapes: Shape) -> LabelledSample:
    turn = Turn("user", "the ship at the top left")
    exchange = Exchange((turn,), Reply("Here it is. [SEG]"), Level.PIXEL, ((0,),), extent=10)
    scene = ArrayScene(ARRAY, resolution=0.5)
    return LabelledSample(scene, shapes, ("ship",) * len(shapes), (exchange,), "a")


def test_texts_extents_and_resolution_follow_the_frame() -> None:
    sample = framed(
        labelled(Polygons([RING], SIZE)), frame(Symmetry(transpose=True, down=True), scale=2)
    )
    asked = sample.exchanges[0]
    assert asked.conversation[0].text == "the ship at the bottom left"
    assert asked.extent == 20
    assert sample.scene.info.resolution == 0.25


def test_a_window_keeps_what_is_in_it_and_says_nothing_of_the_rest() -> None:
    near, far = Polygons([RING], SIZE), Polygons([RING / 10 + (115, 75)], SIZE)
    window = Box(5, 15, 80, 80)
    assert not cuts(labelled(near, far), window)
    assert cuts(labelled(near, far), Box(5, 15, 60, 80))
    sample = framed(labelled(near, far), frame(Symmetry(), window))
    assert len(sample.shapes) == len(sample.labels) == 1
    assert sample.shapes[0].area == pytest.approx(near.area)
    assert sample.shapes[0].box.left == 5.5
    assert sample.exchanges == sample.expressions == ()


def test_random_frames_vary_and_never_cut_an_object() -> None:
    dataset = DrawnScenes(8, size=(200, 300))
    windows = symmetries = scales = 0
    seen = set()
    for index in range(8):
        sample = dataset[index]
        for seed in range(12):
            drawn = random_frame(sample, Random(seed))
            size = sample.scene.info.size
            windowed = drawn.window != Box(0, 0, size.width, size.height)
            windows += windowed
            scales += abs(drawn.scale - 1) > 0.02
            seen.add(drawn.symmetry)
            new = framed(sample, drawn)
            assert 0.68 < drawn.scale < 1.43
            assert not cuts(sample, drawn.window) or not windowed
            if not windowed:
                assert len(new.expressions) == len(sample.expressions)
            for before, after in zip(sample.expressions, new.expressions, strict=False):
                for member in before.members:
                    cell = cell_of(new.shapes[member].box, new.scene.info.size)
                    old = cell_of(sample.shapes[member].box, size)
                    assert drawn.symmetry.cell(old) == cell
                assert len(after.text.split()) == len(before.text.split())
    symmetries = len(seen)
    assert symmetries == 8
    assert windows > 10
    assert scales > 20


def test_exchanges_written_elsewhere_are_never_windowed() -> None:
    sample = replace(labelled(Polygons([RING], SIZE)), kinds=())
    assert all(random_frame(sample, Random(seed)).window == WHOLE for seed in range(40))


def test_light_changes_values_gently_and_leaves_padding_dark() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    valid = torch.ones(16, 16, dtype=torch.bool)
    valid[:, 8:] = False
    changed = [lit(pixels, valid, random_light(3, Random(seed))) for seed in range(20)]
    for one in changed:
        assert one.dtype == torch.uint8
        assert not one[:, ~valid].any()
        # White stays bright, black dark, and gray gray: expressions name colours.
        assert int(one[:, 15, 7].min()) > 170
        assert int(one[:, 0, 0].max()) < 80
        middle = one[:, 8, 0].int()
        assert int(middle.max() - middle.min()) < 24
    assert len({tuple(one[:, 8, 0].tolist()) for one in changed}) > 15
