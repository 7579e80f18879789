"""Damages images and reads them: python tools/fuzz_scenes.py --count 20000 --seed 0

GeoTIFFs of several layouts, PNGs and JPEGs get bits flipped, bytes overwritten, parts cut off or
swapped, and TIFF tags exchanged; file number N of a seed is always the same. Worker processes open
each and read three views. Counted are files that were read, that were refused with a SceneError,
and what must not happen: another error, a worker that died, a file that took over 10 seconds.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import io
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SECONDS = 10
HEIGHT, WIDTH = 90, 130
GEOTIFFS: dict[str, dict[str, object]] = {
    "plain": {},
    "strips": {"blockysize": 7, "compress": "packbits"},
    "deflate": {"compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw", "interleave": "band"},
    "tiles": {"tiled": True, "compress": "deflate"},
    "jpeg": {"tiled": True, "compress": "jpeg", "photometric": "ycbcr"},
    "big": {"tiled": True, "BIGTIFF": "YES", "compress": "zstd"},
    "swapped": {"ENDIANNESS": "BIG", "compress": "lzw"},
    "alpha": {"count": 4, "alpha": "YES", "compress": "deflate"},
    "deep": {"dtype": "uint16", "nodata": 0, "compress": "lzw"},
    "real": {"dtype": "float32", "compress": "deflate", "predictor": 3},
    "palette": {"count": 1, "photometric": "palette", "compress": "packbits"},
}
Outcome = str


def seeds() -> dict[str, bytes]:
    """Whole images, by name; the part after the last dot says what to call the file."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.stack([np.sin(rows / (5 + band)) + np.cos(columns / 9) for band in range(4)])
    picture = ((waves + 2) * 63).astype(np.uint8)
    found = {}
    for mode, ending, more in (
        ("RGB", "png", {}),
        ("P", "png", {}),
        ("RGBA", "png", {}),
        ("RGB", "jpg", {"quality": 90}),
        ("L", "jpg", {"progressive": True}),
        ("RGB", "webp", {}),
    ):
        stream = io.BytesIO()
        image = Image.fromarray(picture[:3].transpose(1, 2, 0)).convert(mode)
        image.save(stream, {"jpg": "jpeg"}.get(ending, ending), **more)
        found[f"{mode}.{ending}"] = stream.getvalue()
    for name, layout in GEOTIFFS.items():
        found[f"{name}.tif"] = geotiff(picture, layout)
    found["overviews.tif"] = geotiff(picture, GEOTIFFS["tiles"], overviews=(2, 4))
    found["masked.tif"] = geotiff(picture, GEOTIFFS["deflate"], masked=True)
    return found


def geotiff(
    picture: np.ndarray,
    layout: dict[str, object],
    overviews: tuple[int, ...] = (),
    masked: bool = False,
) -> bytes:
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin

    known = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32633"} | layout
    if layout.get("tiled"):
        known |= {"blockxsize": 32, "blockysize": 32}
    with tempfile.TemporaryDirectory() as folder, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = Path(folder) / "seed.tif"
        place = from_origin(500_000, 4_600_000, 0.5, 0.5)
        with rasterio.open(path, "w", height=HEIGHT, width=WIDTH, transform=place, **known) as file:
            file.write(picture[: known["count"]].astype(known["dtype"]))
            if masked:
                file.write_mask(picture[3] > 40)
            if layout.get("photometric") == "palette":
                file.write_colormap(1, {index: (index, 255 - index, 9) for index in range(256)})
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews(overviews, Resampling.average)
        return path.read_bytes()


def mutated(whole: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """The name and content of damaged file `number`."""
    random = np.random.default_rng((seed, number))
    names = sorted(whole)
    name = names[int(random.integers(len(names)))]
    content = bytearray(whole[name])
    for _ in range(int(random.integers(1, 4))):
        other = whole[names[int(random.integers(len(names)))]]
        change = CHANGES[int(random.integers(len(CHANGES)))]
        content = change(content, other, random) or content
    return f"{number}-{name}", bytes(content)


Change = Callable[[bytearray, bytes, np.random.Generator], bytearray | None]


def flip_bits(content: bytearray, _: bytes, random: np.random.Generator) -> None:
    for place in random.integers(len(content), size=int(random.integers(1, 20))):
        content[place] ^= 1 << int(random.integers(8))


def flip_bits_of_the_head(content: bytearray, _: bytes, random: np.random.Generator) -> None:
    for place in random.integers(min(len(content), 400), size=int(random.integers(1, 6))):
        content[place] ^= 1 << int(random.integers(8))


def overwrite(content: bytearray, _: bytes, random: np.random.Generator) -> None:
    start, length = int(random.integers(len(content))), int(random.integers(1, 64))
    length = min(length, len(content) - start)
    filled = bytes([int(random.choice([0, 255, 127, 128]))]) * length
    content[start : start + length] = filled if random.random() < 0.5 else random.bytes(length)


def cut_off(content: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    return content[: max(16, int(random.integers(len(content))))]


def splice(content: bytearray, other: bytes, random: np.random.Generator) -> bytearray:
    place, start = int(random.integers(len(content))), int(random.integers(len(other)))
    part = other[start : start + int(random.integers(1, 2000))]
    skipped = place + (len(part) if random.random() < 0.5 else 0)
    return content[:place] + part + content[skipped:]


def exchange_tags(content: bytearray, _: bytes, random: np.random.Generator) -> None:
    """Swaps or rewrites entries of the first directory; of PNGs and JPEGs, any twelve bytes."""
    order = "big" if content[:2] == b"MM" else "little"
    big = content[2:4] in (b"+\0", b"\0+")
    start = int.from_bytes(content[8:16] if big else content[4:8], order)
    length, head = (20, 8) if big else (12, 2)
    if content[:2] not in (b"II", b"MM") or start + head + 2 * length > len(content):
        start = int(random.integers(max(1, len(content) - 40)))
    count = max(2, min(30, (len(content) - start - head) // length))
    first, second = (start + head + length * int(at) for at in random.integers(count, size=2))
    one, two = content[first : first + length], content[second : second + length]
    if random.random() < 0.4:
        content[first : first + length], content[second : second + length] = two, one
        return
    # A count or a value of a size that nobody expects.
    place = first + int(random.choice([2, 4, length - 4]))
    extreme = int(random.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**16, 2**24, 40_000]))
    content[place : place + 4] = extreme.to_bytes(4, order)


CHANGES: tuple[Change, ...] = (
    *(flip_bits, flip_bits_of_the_head, overwrite, cut_off, splice, exchange_tags),
)


def outcome(path: Path) -> Outcome:
    """Opens a file and reads three views."""
    from geomag.errors import SceneError
    from geomag.geometry import overview
    from geomag.scenes import open_scene
    from geomag.values import Box, Size, View

    try:
        scene = open_scene(path)
        size = scene.info.size
        near = Size(min(size.height, 64), min(size.width, 64))
        last = Box(size.width - near.width, size.height - near.height, size.width, size.height)
        scene.read(overview(size, 64), 64)
        scene.read(View(Box(0, 0, near.width, near.height), near, size), 64)
        scene.read(View(last, near, size), 64)
    except SceneError as error:
        return "refused" if "\n" not in str(error) else f"stray: two lines: {error!r}"
    except Exception:  # noqa: BLE001 - which ones is what is to be found out
        return "stray: " + " | ".join(traceback.format_exc().splitlines()[-3:])
    return "read"


def work(seed: int) -> None:
    """A worker: numbers come in, outcomes go out, a line each."""
    faulthandler.enable()
    whole = seeds()
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            name, content = mutated(whole, seed, int(line))
            path = Path(folder) / name
            path.write_bytes(content)
            sys.stdout.write(outcome(path).replace("\n", " ") + "\n")
            sys.stdout.flush()
            path.unlink()


def outcomes(numbers: range, seed: int) -> Iterator[tuple[int, Outcome]]:
    """What became of every file; a worker that dies or hangs is replaced."""
    worker: subprocess.Popen[str] | None = None
    for number in numbers:
        fresh = worker is None
        if worker is None:
            worker = subprocess.Popen(
                [sys.executable, __file__, "--work", "--seed", str(seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(f"{number}\n")
        worker.stdin.flush()
        # The first file waits for the worker's imports, too.
        ready, _, _ = select.select([worker.stdout], [], [], SECONDS + 60 * fresh)
        line = worker.stdout.readline() if ready else ""
        if line:
            yield number, line.strip()
            continue
        worker.kill()
        status = worker.wait()
        yield number, f"died with status {status}" if ready else "hung"
        worker = None
    if worker is not None and worker.stdin is not None:
        worker.stdin.close()
        worker.wait()


def main() -> int:
    """Prints the counts, and each file that must not be; returns 1 if there is one."""
    parser = argparse.ArgumentParser(description="Damages images and reads them.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="a folder for the files that must not be")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.seed)
        return 0
    counts: collections.Counter[str] = collections.Counter()
    numbers = range(arguments.first, arguments.first + arguments.count)
    for number, result in outcomes(numbers, arguments.seed):
        kind = result.split(":")[0].split(" ")[0]
        counts[kind] += 1
        if kind not in ("read", "refused"):
            print(f"file {number}: {result}", flush=True)
            if arguments.keep:
                name, content = mutated(seeds(), arguments.seed, number)
                Path(arguments.keep).mkdir(parents=True, exist_ok=True)
                (Path(arguments.keep) / name).write_bytes(content)
    print(
        ", ".join(f"{kind} {counts[kind]}" for kind in ("read", "refused", "stray", "died", "hung"))
    )
    return int(any(counts[kind] for kind in ("stray", "died", "hung")))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
