from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geomag.errors import SceneError
from geomag.scenes import overviews
from geomag.scenes.overviews import prepare
from geomag.scenes.raster import RasterScene
from geomag.values import Size
from tests.scenes.rasters import noise, seen, smooth, view, write

TALL = (3, 2500, 300)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def state(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mtime_ns


def at_an_eighth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    scene = RasterScene(path)
    height, width = scene.info.size.height // 8, scene.info.size.width // 8
    asked = view(scene, (0, 0, height * 8, width * 8), (height, width))
    return seen(scene.read(asked, 400), height, width)


@pytest.mark.parametrize("more", [{}, {"compress": "jpeg", "photometric": "ycbcr", **TILED}])
def test_overviews_are_built_beside_once_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.tif", smooth(*TALL), **more)
    before, expected = state(path), at_an_eighth(path)[0]
    assert prepare(path) == path
    said = capsys.readouterr().err
    assert "built overviews of a.tif (300 x 2500 px)" in said
    assert "s of decoding, now" in said
    assert state(path) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "a.tif.ovr"]
    scene = RasterScene(path)
    assert scene.scales == pytest.approx((1, 2, 4, 8, 16), rel=0.02)
    found, valid = at_an_eighth(path)
    assert np.abs(found - expected).mean() < 3
    assert valid.all()
    built = state(tmp_path / "a.tif.ovr")
    assert prepare(path) == path
    assert state(tmp_path / "a.tif.ovr") == built
    assert capsys.readouterr().err == ""


def test_small_rasters_and_those_with_overviews_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "small.tif", noise(3, 2048, 30))
    write(tmp_path / "has.tif", noise(3, 2100, 30), (2, 4))
    for name in ("small.tif", "has.tif"):
        assert prepare(tmp_path / name, progress=False) == tmp_path / name
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["nodata", "alpha", "internal", "external"])
def test_nothing_stays_nothing(tmp_path: Path, kind: str) -> None:
    array = smooth(*TALL) | 1
    hidden = np.zeros(array.shape[1:], bool)
    hidden[160:800, 80:] = True
    if kind == "nodata":
        path = write(tmp_path / "a.tif", array * ~hidden, nodata=0)
    elif kind == "alpha":
        with_alpha = np.concatenate([array, np.where(hidden, 0, 255)[None].astype(np.uint8)])
        path = write(tmp_path / "a.tif", with_alpha, photometric="RGB", alpha="YES")
    else:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"):
            path = write(tmp_path / "a.tif", array, mask=~hidden)
    expected, valid = at_an_eighth(path)
    assert (valid == ~hidden[4:2496:8, 4:296:8]).all()
    prepare(path, progress=False)
    assert len(RasterScene(path).scales) > 3
    found, valid_after = at_an_eighth(path)
    assert (valid_after == valid).all()
    assert np.abs((found - expected) * valid).mean() < 1.5


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_other_types_keep_their_values(tmp_path: Path, dtype: Any) -> None:
    array = (smooth(*TALL)[:1].astype(dtype) * 13).astype(dtype)
    path = write(tmp_path / "a.tif", array)
    expected = at_an_eighth(path)[0]
    prepare(path, progress=False)
    assert RasterScene(path).scales[1] == 2
    assert np.abs(at_an_eighth(path)[0] - expected).mean() < 1.5


def test_where_the_folder_cannot_be_written_a_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    path = write(tmp_path / "folder" / "a.tif", smooth(*TALL))
    before = state(path)
    real = overviews.TemporaryDirectory

    def refusing(prefix: str, dir: Path) -> Any:
        if Path(dir) == path.parent:
            raise PermissionError("read-only")
        return real(prefix=prefix, dir=dir)

    monkeypatch.setattr(overviews, "TemporaryDirectory", refusing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepared = prepare(path, progress=False)
    assert prepared.is_symlink()
    assert prepared.resolve() == path
    assert prepared.parent.parent == tmp_path / "cache" / "geomag"
    scene = RasterScene(prepared)
    assert scene.info.name == "a.tif"
    assert len(scene.scales) == 5
    assert state(path) == before
    assert len(list(path.parent.iterdir())) == 1
    built = state(prepared.with_name("a.tif.ovr"))
    assert prepare(path, progress=False) == prepared
    assert state(prepared.with_name("a.tif.ovr")) == built
    assert prepare(path, cache=tmp_path / "other", progress=False) != prepared
    # Another state of the file is another raster.
    write(path, smooth(3, 2300, 300))
    assert prepare(path, progress=False).parent != prepared.parent
    (tmp_path / "file").touch()
    with pytest.raises(SceneError, match="give another cache folder"):
        prepare(path, cache=tmp_path / "file", progress=False)


def test_stale_overviews_are_not_used_and_built_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", smooth(*TALL))
    prepare(path, progress=False)
    old = time.time() - 1000
    os.utime(tmp_path / "a.tif.ovr", (old, old))
    scene = RasterScene(path)
    assert scene.scales == (1,)
    assert "older than the raster" in scene.note
    prepare(path, progress=False)
    assert len(RasterScene(path).scales) == 5
    # Of another raster, whatever their age.
    write(tmp_path / "b.tif", noise(3, 2500, 700))
    (tmp_path / "a.tif.ovr").rename(tmp_path / "b.tif.ovr")
    with pytest.raises(SceneError, match="of another raster"):
        RasterScene(tmp_path / "b.tif")
    prepare(tmp_path / "b.tif", progress=False)
    assert RasterScene(tmp_path / "b.tif").scales[1] == 2
    (tmp_path / "b.tif.ovr").write_text("<VRTDataset/>")
    with pytest.raises(SceneError, match="no TIFF file"):
        RasterScene(tmp_path / "b.tif")


def test_a_raster_from_the_future_is_prepared_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", smooth(*TALL))
    os.utime(path, (time.time() + 9999,) * 2)
    prepare(path, progress=False)
    assert len(RasterScene(path).scales) == 5


def test_nothing_is_left_of_overviews_that_fail(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(*TALL), compress="deflate")
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(SceneError, match=r"a\.tif"):
        prepare(path, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", noise(*TALL))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SceneError, match="make room"):
        prepare(path, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_a_raster_too_large_to_be_seen_at_once_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tif", smooth(*TALL))
    monkeypatch.setattr("geomag.scenes.raster_file.MOST_DECODED", 1 << 20)
    monkeypatch.setattr("geomag.scenes.raster._AT_ONCE", 1 << 10)
    with pytest.raises(SceneError, match="no overviews; build them"):
        at_an_eighth(path)
    prepare(path, progress=False)
    assert at_an_eighth(path)[1].all()
    assert RasterScene(path).info.size == Size(2500, 300)
