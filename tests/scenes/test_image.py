from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from geomag.errors import SceneError
from geomag.scenes import open_scene
from geomag.values import Box, Pixels, Size, View

COLOURS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


def read(path: Path | str) -> Pixels:
    scene = open_scene(path)
    height, width = scene.info.size.height, scene.info.size.width
    return scene.read(View(Box(0, 0, width, height), Size(height, width), scene.info.size), 32)


def same(seen: Pixels, colours: np.ndarray, tolerance: float = 0) -> None:
    expected = np.broadcast_to(colours.reshape(20, 30, -1), (20, 30, 3)) / 255
    found = seen.pixels[:, :20, :30].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= tolerance + 1e-6


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_lossless_colour_is_exact(tmp_path: Path, ending: str) -> None:
    Image.fromarray(COLOURS).save(tmp_path / f"a.{ending}", lossless=True)
    same(read(tmp_path / f"a.{ending}"), COLOURS)


def test_jpeg_is_what_pillow_decodes_whatever_it_is_called(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.txt")
    same(read(tmp_path / "a.txt"), np.asarray(Image.open(tmp_path / "a.txt")))


def test_grey_bilevel_palette_and_cmyk_become_colour(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS)
    for mode in ("L", "1", "P"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
        expected = np.asarray(image.convert(mode).convert("L" if mode == "1" else "RGB"))
        same(read(tmp_path / f"{mode}.png"), expected)
    image.convert("CMYK").save(tmp_path / "c.tif")
    same(read(tmp_path / "c.tif"), np.asarray(image.convert("CMYK").convert("RGB")))


def test_transparent_pixels_are_not_valid(tmp_path: Path) -> None:
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:5] = 0
    alpha[5:7] = 10
    Image.fromarray(np.dstack([COLOURS, alpha])).save(tmp_path / "a.png")
    grey = Image.fromarray(COLOURS).convert("L")
    grey.putalpha(Image.fromarray(alpha))
    grey.save(tmp_path / "la.png")
    for name in ("a.png", "la.png"):
        seen = read(tmp_path / name)
        assert not seen.valid[:5].any()
        assert seen.valid[5:20, :30].all()
        assert float(seen.pixels[:, :5].abs().max()) == 0


def test_transparency_of_a_palette_is_not_valid(tmp_path: Path) -> None:
    indices = np.zeros((20, 30), np.uint8)
    indices[10:] = 1
    image = Image.fromarray(indices, "L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "p.png", transparency=0)
    seen = read(tmp_path / "p.png")
    assert not seen.valid[:10].any()
    assert seen.valid[10:20, :30].all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_grey_is_stretched(tmp_path: Path, ending: str) -> None:
    values = np.linspace(500, 2500, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    seen = read(tmp_path / f"a.{ending}").pixels[:, :20, :30]
    assert (float(seen.min()), float(seen.max())) == (0, 1)
    assert float(seen.mean()) == pytest.approx(0.5, abs=0.01)


def test_sixteen_bit_colour_keeps_its_depth_and_its_order(tmp_path: Path) -> None:
    values = np.zeros((20, 30, 3), np.uint16)
    values[..., 0] = np.linspace(0, 255, 600).reshape(20, 30)
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    seen = read(tmp_path / "a.png").pixels[:, :20, :30]
    # Eight bits of sixteen would leave this black.
    assert float(seen[0].max()) == 1
    assert float(seen[1:].max()) == 0


def test_floating_point_tiff_is_stretched(tmp_path: Path) -> None:
    values = np.linspace(-3, 9, 600, dtype=np.float32).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "a.tif")
    seen = read(tmp_path / "a.tif").pixels[:, :20, :30]
    assert float(seen.mean()) == pytest.approx(0.5, abs=0.01)


def test_orientation_is_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    same(read(tmp_path / "a.png"), COLOURS)


def test_one_pixel_is_a_scene(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (255, 0, 0)).save(tmp_path / "a.png")
    seen = read(tmp_path / "a.png")
    assert int(seen.valid.sum()) == 1
    assert seen.pixels[:, 0, 0].tolist() == [1, 0, 0]


def test_another_process_gets_the_scene_without_its_pixels(tmp_path: Path) -> None:
    Image.fromarray(np.tile(COLOURS, (9, 9, 1))).save(tmp_path / "a.png")
    scene = open_scene(tmp_path / "a.png")
    view = View(Box(0, 0, 30, 20), Size(20, 30), scene.info.size)
    seen = scene.read(view, 32)
    sent = pickle.dumps(scene)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent).read(view, 32).pixels, seen.pixels)


def fails(path: Path, words: str) -> None:
    with pytest.raises(SceneError) as caught:
        read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_truncated_is_an_error_of_one_line(tmp_path: Path, ending: str, share: float) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{ending}")
    content = (tmp_path / f"a.{ending}").read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(content[: int(len(content) * share)])
    fails(tmp_path / f"a.{ending}", "")


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_damaged_sixteen_bit_colour_is_an_error(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(2).integers(0, 65536, (100, 100, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: int(len(content) * share)])
    fails(tmp_path / "a.png", "damaged")


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    fails(tmp_path / "missing.png", "no such file")
    fails(tmp_path, "folder")
    (tmp_path / "empty.png").touch()
    fails(tmp_path / "empty.png", "empty")
    (tmp_path / "text.png").write_text("not an image, but long enough to be read as one")
    fails(tmp_path / "text.png", "expected PNG, JPEG, WebP or TIFF")
    Image.fromarray(COLOURS).save(tmp_path / "a.bmp")
    fails(tmp_path / "a.bmp", "expected PNG, JPEG, WebP or TIFF")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    fails(tmp_path / "a.png", "too many pixels")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 301)
    same(read(tmp_path / "a.png"), COLOURS)
