"""Large scenes laid out of tiles are files that anyone can read, and show what was laid."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from geomag.errors import DataError, OutputError
from geomag.geometry import overview
from geomag.scenes import open_scene
from geomag.values import Size

rasterio = pytest.importorskip("rasterio")
SIDE = 3072


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    return importlib.import_module("large_scenes")


@pytest.fixture
def pictures(tool: ModuleType) -> Any:
    """Three sheets of soft blotches, which JPEG keeps."""
    coarse = np.random.default_rng(0).integers(0, 255, (3, 12, 12, 3), dtype=np.uint8)
    sheets = [cv2.resize(one, (tool.SHEET,) * 2, interpolation=cv2.INTER_CUBIC) for one in coarse]
    return np.stack(sheets)


def test_file_shows_what_was_laid(tool: ModuleType, pictures: Any, tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    tool.build(path, SIDE, pictures, seed=4)
    laid = tool.laid(pictures, SIDE, seed=4)
    assert laid.shape == (SIDE, SIDE, 3)
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4, 8]
        assert file.crs.to_epsg() == tool.EPSG
        assert file.res == (tool.RESOLUTION, tool.RESOLUTION)
        stored = file.read().transpose(1, 2, 0).astype(int)
    assert np.abs(stored - laid).mean() < 2


@pytest.mark.parametrize("level", [0, 1, 2])
def test_overviews_are_means(tool: ModuleType, pictures: Any, tmp_path: Path, level: int) -> None:
    path = tmp_path / "scene.tif"
    tool.build(path, SIDE, pictures, seed=4)
    side = SIDE >> (level + 1)
    means = cv2.resize(
        tool.laid(pictures, SIDE, seed=4), (side, side), interpolation=cv2.INTER_AREA
    )
    with rasterio.open(path, overview_level=level) as file:
        stored = file.read().transpose(1, 2, 0).astype(int)
    assert stored.shape == means.shape
    # Chance would be near 70; chroma at half the resolution blurs the seams.
    assert np.abs(stored - means).mean() < 5


def test_scene_reads_overviews_and_knows_its_resolution(
    tool: ModuleType, pictures: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scene.tif"
    tool.build(path, SIDE, pictures, seed=4)
    scene: Any = open_scene(path)
    assert scene.info.size == Size(SIDE, SIDE)
    # A UTM zone is a little narrower at its middle than the ground.
    assert scene.info.resolution == pytest.approx(tool.RESOLUTION, rel=1e-3)
    scene.read(overview(scene.info.size, 256), 256)
    assert scene.bytes_read <= 3 * 768 * 768


def test_seed_and_tiles_decide(tool: ModuleType, pictures: Any) -> None:
    one, same, other = (tool.laid(pictures, SIDE, seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    names = {
        tool.name(SIDE, files, seed)
        for files in ([], [Path("a.png")], [Path("a.png"), Path("b.png")])
        for seed in (0, 1)
    }
    assert len(names) == 6
    assert tool.name(SIDE, [Path("x/a.png")], 0) == tool.name(SIDE, [Path("y/a.png")], 0)


def test_sheets_are_drawn_or_cut_from_images(tool: ModuleType, tmp_path: Path) -> None:
    drawn = tool.sheets([], seed=0)
    assert drawn.shape == (tool.SHEETS, tool.SHEET, tool.SHEET, 3)
    files = []
    for value in (40, 200):
        files.append(tmp_path / f"{value}.png")
        cv2.imwrite(str(files[-1]), np.full((520, 600, 3), value, np.uint8))
    cut = tool.sheets(files, seed=0)
    assert cut.shape == drawn.shape
    assert set(np.unique(cut)) == {40, 200}


def test_small_images_are_left_out(tool: ModuleType, tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    cv2.imwrite(str(small), np.full((511, 900, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"none of 1 images, .*small.png .* 512 x 512"):
        tool.sheets([small], seed=0)
    cv2.imwrite(str(large), np.full((512, 512, 3), 70, np.uint8))
    assert set(np.unique(tool.sheets([small, large], seed=0))) == {70}


def test_no_room_no_file(
    tool: ModuleType, pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = tool.shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(tool.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OutputError, match="needs up to"):
        tool.build(tmp_path / "scene.tif", SIDE, pictures, seed=0)
    assert not list(tmp_path.iterdir())


def test_odd_side_is_refused(tool: ModuleType, pictures: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a multiple of 1024"):
        tool.build(tmp_path / "scene.tif", 1500, pictures, seed=0)
    assert not list(tmp_path.iterdir())


def test_stopped_halfway_leaves_nothing(
    tool: ModuleType, pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "_jpeg", stopping_after(3, tool._jpeg))
    with pytest.raises(KeyboardInterrupt):
        tool.build(tmp_path / "scene.tif", SIDE, pictures, seed=0)
    assert not list(tmp_path.iterdir())


def stopping_after(count: int, function: Callable[..., bytes]) -> Callable[..., bytes]:
    calls = iter(range(count))

    def stopped(picture: Any) -> bytes:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(picture)

    return stopped
