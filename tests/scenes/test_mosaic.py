from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geomag.errors import SceneError
from geomag.scenes import mosaic, open_scene
from geomag.scenes.array import ArrayScene
from geomag.scenes.mosaic import MosaicScene
from tests.scenes.rasters import NORTH_UP, Affine, noise, view, whole, write

ARRAY = noise(3, 100, 150)
SOUTH_UP = Affine(0.5, 0, 500_000, 0, 0.5, 4_600_000)


def cut(
    folder: Path, parts: dict[str, tuple[int, int, int, int]], array: Any = ARRAY, **more: Any
) -> Path:
    """Tiles (top, left, bottom, right) of `array` in a folder."""
    folder.mkdir(exist_ok=True)
    transform = more.pop("transform", NORTH_UP)
    for name, (top, left, bottom, right) in parts.items():
        write(
            folder / name,
            array[:, top:bottom, left:right],
            transform=transform @ Affine.translation(left, top),
            **more,
        )
    return folder


QUARTERS = {
    "a.tif": (0, 0, 40, 70),
    "b.TIF": (0, 70, 40, 150),
    "c.tiff": (40, 0, 100, 70),
    "d.tif": (40, 70, 100, 150),
}


@pytest.mark.parametrize(
    "transform", [NORTH_UP, SOUTH_UP, NORTH_UP @ Affine.rotation(20)], ids=["north", "south", "20"]
)
def test_tiles_are_one_scene(tmp_path: Path, transform: Affine) -> None:
    folder = cut(tmp_path / "tiles", QUARTERS, transform=transform)
    scene = open_scene(folder)
    assert isinstance(scene, MosaicScene)
    assert (scene.info.size.height, scene.info.size.width) == (100, 150)
    assert scene.info.name == "tiles"
    assert scene.info.resolution == pytest.approx(0.5, rel=1e-3)
    assert scene.georeference is not None
    assert np.allclose(scene.georeference.transform, tuple(transform)[:6])
    found, valid = whole(scene)
    assert np.abs(found - ARRAY).max() < 1e-3
    assert valid.all()


@pytest.mark.parametrize("box", [(0, 0, 100, 150), (13, 17, 93, 141), (38.4, 66, 60.2, 90)])
@pytest.mark.parametrize("size", [(10, 15), (7, 13), (33, 29)])
def test_a_view_across_tiles_is_that_of_the_whole(
    tmp_path: Path, box: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    scene = MosaicScene(cut(tmp_path / "tiles", QUARTERS))
    size = (min(size[0], int(box[2] - box[0])), min(size[1], int(box[3] - box[1])))
    same = ArrayScene(ARRAY.transpose(1, 2, 0))
    found = scene.read(view(scene, box, size), 64)
    expected = same.read(view(scene, box, size), 64)
    assert torch.equal(found.valid, expected.valid)
    assert float((found.pixels - expected.pixels).abs().max()) < 0.6 / 255


def test_gaps_are_not_valid_and_only_tiles_in_view_are_read(tmp_path: Path) -> None:
    parts = {"a.tif": QUARTERS["a.tif"], "d.tif": QUARTERS["d.tif"]}
    scene = MosaicScene(cut(tmp_path / "tiles", parts))
    expected = np.zeros((100, 150), bool)
    expected[:40, :70] = expected[40:, 70:] = True
    assert (whole(scene)[1] == expected).all()
    before = scene.bytes_read
    assert not scene.read(view(scene, (0, 70, 40, 150), (40, 80)), 80).valid.any()
    assert scene.bytes_read == before
    (tmp_path / "tiles" / "d.tif").unlink()
    scene.close()
    assert scene.read(view(scene, (0, 0, 40, 70), (40, 70)), 80).valid.any()
    with pytest.raises(SceneError, match=r"d\.tif"):
        scene.read(view(scene, (0, 0, 100, 150), (10, 15)), 16)


def test_the_later_tile_covers_the_earlier_where_it_has_pixels(tmp_path: Path) -> None:
    low, high = np.full((1, 60, 60), 50, np.uint8), np.full((1, 60, 60), 200, np.uint8)
    high[:, :, 20:30] = 0
    write(tmp_path / "b.tif", low, nodata=0)
    write(tmp_path / "a.tif", high, nodata=0, transform=NORTH_UP @ Affine.translation(30, 0))
    (tmp_path / "tiles.txt").write_text("# the last one wins\nb.tif\n\na.tif\n")
    found, valid = whole(open_scene(tmp_path / "tiles.txt"))
    expected = np.full((60, 90), 200.0)
    expected[:, :30] = expected[:, 50:60] = 50
    assert np.abs(found[0] - expected).max() < 1e-3
    assert valid.all()
    found, _ = whole(open_scene(tmp_path))
    assert np.abs(found[0, :, :60] - 50).max() < 1e-3


def test_one_stretch_for_all_tiles(tmp_path: Path) -> None:
    array = np.linspace(100, 900, 15000).reshape(1, 100, 150).astype(np.uint16)
    scene = MosaicScene(cut(tmp_path / "tiles", QUARTERS, array))
    assert np.allclose(scene.stretch, np.percentile(array, (2, 98)), atol=1)
    found, _ = whole(scene)
    low, high = scene.stretch
    assert np.abs(found - ((array - low) / (high - low)).clip(0, 1) * 255).max() < 1e-3


def test_few_files_are_open_and_other_processes_get_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "_MOST_OPEN", 2)
    scene = MosaicScene(cut(tmp_path / "tiles", QUARTERS))
    asked = view(scene, (0, 0, 100, 150), (100, 150))
    expected = scene.read(asked, 150).pixels
    assert sum(len(tile._open) for tile in scene._tiles) == 2
    again = pickle.loads(pickle.dumps(scene))
    assert not any(tile._open for tile in again._tiles)
    assert torch.equal(again.read(asked, 150).pixels, expected)


@pytest.mark.filterwarnings("ignore:The given matrix")
def test_all_tiles_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = cut(tmp_path / "tiles", QUARTERS)
    moved = Affine(0.5, 0, 500_000.2, 0, -0.5, 4_600_000)
    write(folder / "e.tif", noise(3, 9, 9), crs="EPSG:32634")
    write(folder / "f.tif", noise(3, 9, 9), transform=Affine.scale(1, -1))
    write(folder / "g.tif", noise(3, 9, 9), transform=moved)
    write(folder / "h.tif", noise(1, 9, 9))
    write(folder / "i.tif", noise(3, 9, 9), crs=None)
    write(folder / "j.tif", noise(3, 9, 9, dtype=np.uint16))
    (folder / "k.tif").write_text("<VRTDataset/>")
    with pytest.raises(SceneError) as caught:
        open_scene(folder)
    message = str(caught.value)
    assert "7 of 11 tiles" in message
    for words in (
        "e.tif: another coordinate reference system",
        "f.tif: pixels of",
        "g.tif: 0.40 pixels off",
        "h.tif: 1 bands of uint8, not 3 of uint8",
        "i.tif: no coordinate reference system",
        "j.tif: 3 bands of uint16",
        "k.tif: not a TIFF file",
        "rio warp",
    ):
        assert words in message
    assert "\n" not in message


def test_folders_and_lists_without_tiles_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="a folder without GeoTIFFs"):
        open_scene(tmp_path / "empty")
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(SceneError, match="a list without GeoTIFFs"):
        open_scene(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("lost.tif\n/vsicurl/http://127.0.0.1:9/a.tif\n")
    with pytest.raises(SceneError, match="2 of 2") as caught:
        open_scene(tmp_path / "list.txt")
    assert "lost.tif: no such file" in str(caught.value)
    assert "only files on this machine" in str(caught.value)
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match="cannot be read"):
        open_scene(tmp_path / "list.txt")
