"""Files made to read elsewhere, to ask the network, or to fill the memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geomag.errors import SceneError
from geomag.scenes import open_scene
from tests.scenes.rasters import NORTH_UP, ROOT, noise, real, view, whole, write

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[1], "a").write(self.path + "\\n")
        self.send_error(404)
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
VRT = """<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


class Listener:
    """A server of another process, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self._heard = folder / "heard"
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self._heard)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    @property
    def requests(self) -> list[str]:
        return self._heard.read_text().split() if self._heard.exists() else []

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    server = Listener(tmp_path)
    yield server
    server.stop()


def refused(source: Any, *words: str) -> None:
    with pytest.raises(SceneError) as caught:
        whole(open_scene(source))
    for word in (*words, str(source)):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_are_not_opened(listener: Listener) -> None:
    for source in (
        f"/vsicurl/{listener.address}/a.tif",
        f"//vsicurl/{listener.address}/a.tif",
        f"{listener.address}/a.tif",
        f"zip+{listener.address}/a.zip!a.tif",
        "/vsizip//a.zip/a.tif",
        "s3://bucket/a.tif",
    ):
        refused(source, "only files on this machine")
        with pytest.raises(SceneError, match="only files on this machine"):
            open_scene(Path(source))
    for source in ("GTIFF_DIR:1:a.tif", "GTIFF_RAW:a.tif", "<VRTDataset>"):
        refused(source, "no such file")
    assert listener.requests == []


@pytest.mark.parametrize("name", ["a.tif", "a.vrt", "a.png"])
def test_a_disguised_list_of_rasters_is_not_followed(
    tmp_path: Path, listener: Listener, name: str
) -> None:
    write(tmp_path / "secret.tif", noise(3, 9, 9))
    for target in (tmp_path / "secret.tif", f"/vsicurl/{listener.address}/a.tif"):
        (tmp_path / name).write_text(VRT.format(target))
        refused(tmp_path / name, "virtual raster (VRT)", "not a TIFF file")
    assert listener.requests == []


SIDECARS = {
    "aux.xml": '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI>'
    "</Metadata></PAMDataset>",
    "ovr": VRT,
    "msk": VRT,
}


@pytest.mark.parametrize("ending", SIDECARS)
def test_files_beside_a_raster_lead_nowhere(
    tmp_path: Path, listener: Listener, ending: str
) -> None:
    path = write(tmp_path / "a.tif", noise(3, 900, 900))
    beside = SIDECARS[ending].format(f"/vsicurl/{listener.address}/{ending}.tif")
    (tmp_path / f"a.tif.{ending}").write_text(beside)
    if ending == "aux.xml":
        scene = open_scene(path)
        scene.read(view(scene, (0, 0, 900, 900), (90, 90)), 90)
    else:
        with pytest.raises(SceneError, match=f"a.tif.{ending}"):
            open_scene(path)
    assert listener.requests == []


def test_a_raster_that_names_its_overviews_elsewhere_is_refused(
    tmp_path: Path, listener: Listener
) -> None:
    path = write(tmp_path / "a.tif", noise(3, 900, 900))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{listener.address}/o.tif")
    for left_behind in tmp_path.glob("a.tif.*"):
        left_behind.unlink()
    refused(path, "names another file as its overviews")
    assert listener.requests == []


def measured(script: str, *arguments: Any) -> list[str]:
    """What a script prints; then the megabytes that it grew by since `begin()`."""
    head = """
        import resource, sys
        import numpy, cv2, torch, rasterio, pyproj, rasterio.crs
        from geomag.errors import SceneError
        from geomag.scenes import open_scene, raster
        from geomag.geometry import overview
        from geomag.values import Box, Size, View
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak()
    """
    tail = "print(peak() - before)"
    code = "\n".join(textwrap.dedent(part) for part in (head, script, tail))
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_a_sparse_file_of_120_gigabytes_is_read_in_little_memory(tmp_path: Path) -> None:
    side = 200_000
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8",
        crs="EPSG:32633", transform=NORTH_UP, tiled=True, blockxsize=512, blockysize=512,
        SPARSE_OK=True, BIGTIFF="YES", compress="deflate",
    ) as file:  # fmt: skip
        file.write(noise(3, 512, 512), window=((99_840, 100_352), (99_840, 100_352)))
    assert (tmp_path / "a.tif").stat().st_size < 20e6
    script = """
        scene = open_scene(sys.argv[1])
        everything = scene.read(overview(scene.info.size, 256), 256)
        box = Box(100_000, 100_000, 100_500, 100_500)
        window = scene.read(View(box, Size(500, 500), scene.info.size), 512)
        print(float(everything.pixels.sum()) > 0, float(window.pixels.sum()) > 30_000)
    """
    *found, grown = measured(script, tmp_path / "a.tif")
    assert found == ["True", "True"]
    assert int(grown) < 300


def test_one_tile_named_a_million_times_is_not_decoded_as_often(tmp_path: Path) -> None:
    """What is small in the file and large in memory is refused before it is decoded."""
    import struct

    side, tile = 131_072, 256
    count = (side // tile) ** 2
    write(tmp_path / "tile.tif", noise(3, tile, tile), tiled=True, compress="deflate")
    content = (tmp_path / "tile.tif").read_bytes()
    with rasterio.open(tmp_path / "tile.tif") as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        length = int(file.get_tag_item("BLOCK_SIZE_0_0", "TIFF", bidx=1))
    data = content[offset : offset + length]
    tags = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, 0), (259, 3, 1, 8), (262, 3, 1, 2),
        (277, 3, 1, 3), (284, 3, 1, 1), (322, 3, 1, tile), (323, 3, 1, tile), (324, 4, count, 0),
        (325, 4, count, 0), (339, 3, 1, 1),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    places = {258: start, 324: start + 6 + length, 325: start + 6 + length + 4 * count}
    entries = b"".join(
        struct.pack("<HHI", tag, kind, many)
        + (struct.pack("<H2x", value) if kind == 3 and many == 1 else
           struct.pack("<I", places.get(tag, value)))
        for tag, kind, many, value in tags
    )  # fmt: skip
    (tmp_path / "a.tif").write_bytes(
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
        + struct.pack("<3H", 8, 8, 8) + data
        + np.full(count, start + 6, "<u4").tobytes() + np.full(count, length, "<u4").tobytes()
    )  # fmt: skip
    scene = open_scene(tmp_path / "a.tif")
    window = scene.read(view(scene, (70_000, 70_000, 70_016, 70_016), (16, 16)), 16)
    assert window.valid.all()
    with pytest.raises(SceneError, match="means decoding 52 GB, since it has no overviews"):
        scene.read(view(scene, (0, 0, side, side), (256, 256)), 256)


def test_pieces_too_large_to_decode_are_refused(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=40_000, height=40_000, count=1, tiled=True,
        dtype="uint8", blockxsize=40_000, blockysize=40_000, compress="deflate", SPARSE_OK=True,
        transform=NORTH_UP,
    ):  # fmt: skip
        pass
    with pytest.raises(SceneError, match=r"a\.tif: .* in pieces of 1\.6 GB.*TILED=YES"):
        open_scene(tmp_path / "a.tif")


def test_memory_follows_the_view_not_the_file(tmp_path: Path) -> None:
    width, height = 16_000, 8_000
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=width, height=height, count=3,
        dtype="uint8", compress="deflate", zlevel=1, transform=NORTH_UP, crs="EPSG:32633",
    ) as file:  # fmt: skip
        strip = np.full((3, 1000, width), 90, np.uint8)
        for top in range(0, height, 1000):
            file.write(strip, window=((top, top + 1000), (0, width)))
    script = """
        scene = open_scene(sys.argv[1])
        seen = scene.read(overview(scene.info.size, 256), 256)
        print(bool((abs(seen.pixels[:, :100] * 255 - 90) < 1e-3).all()), scene.bytes_read)
    """
    same, read, grown = measured(script, tmp_path / "a.tif")
    assert same == "True"
    assert int(read) == 3 * width * height
    assert int(grown) < 250


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("more", [{}, {"tiled": True, "compress": "deflate"}])
def test_truncated_files_are_named(tmp_path: Path, share: float, more: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tif", noise(3, 400, 400), **more)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path)


def test_a_truncated_real_file_is_named(tmp_path: Path) -> None:
    content = real("geotiff_edge/RGB.byte.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "a.tif", "damaged or truncated")


def test_what_cannot_be_shown_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    refused(tmp_path / "folder.tif", "folder")
    write(tmp_path / "complex.tif", np.zeros((1, 4, 4), np.complex64))
    refused(tmp_path / "complex.tif", "complex64")
    for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        (tmp_path / "short.tif").write_bytes(start)
        refused(tmp_path / "short.tif")
    (tmp_path / "a\nb.tif").write_bytes(b"II*\0")
    with pytest.raises(SceneError) as caught:
        open_scene(tmp_path / "a\nb.tif")
    assert "\n" not in str(caught.value)


def test_without_rasterio_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geomag.scenes.raster import RasterScene

    path = write(tmp_path / "a.tif", noise(3, 9, 9))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(SceneError, match=r"install geomag-vlm\[geo\]"):
        RasterScene(path)
