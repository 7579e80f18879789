"""Large scenes laid out of real tiles, as GeoTIFFs that people have: JPEG blocks, overviews, a CRS.

Sheets of four crops are laid out in an order drawn by a seed. A block that occurs again is not
compressed again, but is written again: a scene of four gigapixels takes a minute, and a gigabyte.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from geomag.errors import DataError, OutputError
from geomag.scenes import open_scene
from geomag.values import Box, Size, View
from geomag.weights import replacing

BLOCK = 512
"""The side of the square crops that scenes are laid out of, and of the blocks of their files."""
SHEET = 2 * BLOCK
SHEETS = 64
RESOLUTION = 0.5
"""Metres a pixel, about what the tiles have that the shipped model learnt from."""
EPSG, CORNER = 32633, (500_000.0, 5_500_000.0)
BYTES = 0.5
"""Bytes a pixel on the disk, with overviews, of the busiest tiles."""
QUALITY = 80
_COARSEST = 256

Pictures = NDArray[np.uint8]


def sheets(files: Sequence[Path], seed: int) -> Pictures:
    """`SHEETS` pictures `[n, SHEET, SHEET, 3]`, each of four crops of images at native resolution,
    drawn by the seed; of drawn scenes where there is no file.

    Raises:
        DataError: no image is large enough.
        SceneError: a file cannot be read.
    """
    random = np.random.default_rng(seed)
    crops = _crops(files, random) if files else _drawn(seed)
    order = random.permutation(4 * SHEETS) % len(crops)
    four = crops[order].reshape(SHEETS, 2, 2, BLOCK, BLOCK, 3)
    return _joined(four)


def _crops(files: Sequence[Path], random: np.random.Generator) -> Pictures:
    """No file is opened more than once, and no more of them than there are crops."""
    chosen = [files[place] for place in random.permutation(len(files))]
    found: list[Pictures] = []
    bar = tqdm(total=4 * SHEETS, desc="crops", disable=None, dynamic_ncols=True)
    each = -(-4 * SHEETS // len(files))
    for file in chosen:
        scene = open_scene(file)
        size = scene.info.size
        if min(size.height, size.width) < BLOCK:
            continue
        for _ in range(min(each, 4 * SHEETS - len(found))):
            top = int(random.integers(size.height - BLOCK + 1))
            left = int(random.integers(size.width - BLOCK + 1))
            view = View(Box(left, top, left + BLOCK, top + BLOCK), Size(BLOCK, BLOCK), size)
            seen = scene.read(view, BLOCK).pixels[:3]
            found.append((seen * 255).round().byte().permute(1, 2, 0).numpy())
            bar.update()
    bar.close()
    if not found:
        raise DataError(
            f"none of {len(files)} images, {files[0]} among them, has {BLOCK} x {BLOCK} pixels; "
            "give larger ones to --tiles"
        )
    return np.stack(found)


def _drawn(seed: int) -> Pictures:
    from geomag.data.drawn import DrawnScenes

    scenes = DrawnScenes(length=SHEETS // 4, size=BLOCK, seed=seed)
    whole = View(Box(0, 0, BLOCK, BLOCK), Size(BLOCK, BLOCK), Size(BLOCK, BLOCK))
    seen = [scenes[place].scene.read(whole, BLOCK).pixels for place in range(len(scenes))]
    return np.stack([(one * 255).round().byte().permute(1, 2, 0).numpy() for one in seen])


def laid(pictures: Pictures, side: int, seed: int) -> Pictures:
    """A scene `[side, side, 3]` in memory, the same as `build` writes but for compression."""
    return _joined(pictures[_places(side, len(pictures), seed)])


def name(side: int, files: Sequence[Path], seed: int) -> str:
    """A file name that says what lies in it."""
    made_of = repr((sorted(file.name for file in files), seed, SHEETS, QUALITY))
    return f"scene-{side}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}.tif"


def build(path: Path, side: int, pictures: Pictures, seed: int) -> None:
    """Writes a square scene of `side` pixels with all its overviews, whole or not at all.

    Raises:
        DataError: the side is no multiple of `SHEET`.
        OutputError: the disk has no room for it, or cannot be written to.
    """
    if side % SHEET:
        raise DataError(f"a side of {side} pixels: expected a multiple of {SHEET}")
    with replacing(path) as temporary:
        free, needed = shutil.disk_usage(path.parent).free, BYTES * side * side
        if free < needed:
            raise OutputError(
                f"{path}: {free / 1e9:.1f} GB are free, and a scene of {side} x {side} pixels "
                f"needs up to {needed / 1e9:.1f}; name another --work-dir, or smaller --sides"
            )
        levels = _levels(_places(side, len(pictures), seed), pictures)
        total = sum(_blocks(side >> level) ** 2 for level in range(_count(side)))
        bar = tqdm(total=total, desc=path.name, unit="block", disable=None, dynamic_ncols=True)
        with temporary.open("wb") as file, bar:
            file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
            found: list[list[tuple[int, int]]] = []
            for blocks in levels:
                found.append([])
                for block in blocks:
                    found[-1].append((file.tell(), len(block)))
                    file.write(block)
                    bar.update()
            _describe(file, side, found)


def _count(side: int) -> int:
    return (side // _COARSEST).bit_length()


def _blocks(side: int) -> int:
    return -(-side // BLOCK)


def _places(side: int, count: int, seed: int) -> NDArray[np.int64]:
    across = side // SHEET
    return np.random.default_rng((seed, side)).integers(count, size=(across, across))


def _levels(places: NDArray[np.int64], pictures: Pictures) -> Iterator[Iterator[bytes]]:
    """The compressed blocks of every level, native first, in raster order."""
    side, shrunk = len(places) * SHEET, pictures
    for level in range(_count(side)):
        if level:
            shrunk = np.stack([_half(picture) for picture in shrunk])
        yield _compressed(places, shrunk, side >> level)


def _compressed(places: NDArray[np.int64], shrunk: Pictures, side: int) -> Iterator[bytes]:
    known: dict[bytes, bytes] = {}
    step = shrunk.shape[1]
    for top in range(0, side, BLOCK):
        for left in range(0, side, BLOCK):
            rows = slice(top // step, -(-(top + BLOCK) // step))
            columns = slice(left // step, -(-(left + BLOCK) // step))
            inside = (top % step, left % step)
            key = places[rows, columns].tobytes() + bytes(str(inside), "ascii")
            if key not in known:
                picture = _joined(shrunk[places[rows, columns]])
                part = picture[inside[0] :, inside[1] :][:BLOCK, :BLOCK]
                known[key] = _jpeg(part)
            yield known[key]


def _half(picture: Pictures) -> Pictures:
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _joined(grid: Pictures) -> Pictures:
    """`[..., rows, columns, h, w, 3]` to `[..., rows * h, columns * w, 3]`."""
    *more, rows, columns, height, width, bands = grid.shape
    return np.swapaxes(grid, -4, -3).reshape(*more, rows * height, columns * width, bands)


def _jpeg(picture: Pictures) -> bytes:
    """A whole block; what lies beyond the scene is black."""
    block = np.zeros((BLOCK, BLOCK, 3), np.uint8)
    block[: picture.shape[0], : picture.shape[1]] = picture
    stream = io.BytesIO()
    Image.fromarray(block).save(stream, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return stream.getvalue()


def _describe(file: BinaryIO, side: int, levels: Sequence[Sequence[tuple[int, int]]]) -> None:
    """Ends a BigTIFF file with the directories of its levels, each named by the one before."""
    link = 8
    for level, blocks in enumerate(levels):
        packed = []
        for tag, code, values in _tags(side >> level, level, blocks):
            raw = struct.pack(f"<{len(values)}{code}", *values)
            if len(raw) > 8:
                place = file.tell()
                file.write(raw)
                raw = struct.pack("<Q", place)
            head = struct.pack("<HHQ", tag, _KINDS[code], len(values))
            packed.append(head + raw.ljust(8, b"\0"))
        place = file.tell()
        file.write(struct.pack("<Q", len(packed)) + b"".join(packed) + bytes(8))
        end = file.tell()
        file.seek(link)
        file.write(struct.pack("<Q", place))
        file.seek(end)
        link = end - 8


_KINDS = {"H": 3, "I": 4, "d": 12, "Q": 16}


def _tags(
    side: int, level: int, blocks: Sequence[tuple[int, int]]
) -> list[tuple[int, str, Sequence[float]]]:
    """Tag, kind and values, as the TIFF and GeoTIFF standards number them."""
    shape = [
        (254, "I", [min(level, 1)]),  # an overview or not
        (256, "I", [side]),
        (257, "I", [side]),
        (258, "H", [8, 8, 8]),
        (259, "H", [7]),  # JPEG
        (262, "H", [6]),  # YCbCr
        (277, "H", [3]),
        (284, "H", [1]),  # bands beside each other
        (322, "I", [BLOCK]),
        (323, "I", [BLOCK]),
        (324, "Q", [place for place, _ in blocks]),
        (325, "I", [length for _, length in blocks]),
        (530, "H", [2, 2]),  # colours at half the resolution
    ]
    if level:
        return shape
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, EPSG]
    return [
        *shape,
        (33550, "d", [RESOLUTION, RESOLUTION, 0.0]),
        (33922, "d", [0.0, 0.0, 0.0, *CORNER, 0.0]),
        (34735, "H", keys),
    ]
