"""Mosaics as files are what they are in memory."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from geomag.data.coco import CocoInstances
from geomag.data.coco_writing import write_coco
from geomag.data.frames import Frame, FramedShape
from geomag.data.mosaics import Mosaics
from geomag.data.samples import Bitmap, Kind, LabelledSample, Polygons, native
from geomag.data.tracing import goes_through_centres
from geomag.errors import DataError
from geomag.geometry import overview
from geomag.scenes.array import ArrayScene
from geomag.values import Box, Size

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_mosaics.py"
LABELS = "annotations/instances_val.json"
SIDE, COUNT, SEED = 300, 3, 5
CATEGORIES = [
    {"id": 4, "name": "storage_tank", "supercategory": "thing"},
    {"id": 2, "name": "pond", "supercategory": "thing"},
    {"id": 9, "name": "car", "supercategory": "thing"},
]


def outline(random: np.random.Generator, height: int, width: int) -> list[list[float]]:
    """One or two jagged rings, here and there partly outside."""
    rings = []
    for _ in range(int(random.integers(1, 3))):
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        reach = random.uniform(2, 14, 9)
        center = random.uniform((0, 0), (width, height))
        points = center + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
        rings.append(points.ravel().tolist())
    return rings


def segmentation(random: np.random.Generator, kind: int, height: int, width: int) -> dict[str, Any]:
    """Outlines in the plane, outlines through pixel centres, whole numbers, run lengths."""
    left, top = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
    square = [[left, top, left + 9, top, left + 9, top + 7, left, top + 7]]
    if kind == 0:
        return {"segmentation": outline(random, height, width)}
    if kind == 1:
        return {"segmentation": square, "bbox": [left, top, 10, 8]}
    if kind == 2:
        return {"segmentation": square, "bbox": [left, top, 9, 7]}
    packed = mask.encode(np.asfortranarray(random.random((height, width)) < 0.1, np.uint8))
    return {"segmentation": packed | {"counts": packed["counts"].decode()}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of seven noisy images, under the default name."""
    folder = tmp_path_factory.mktemp("data")
    root = folder / "nwpu_vhr10"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    random = np.random.default_rng(0)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number in range(7):
        height, width = (int(side) for side in random.integers(50, 140, 2))
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        content["images"].append(
            {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        )
        for place in range(8):
            found = segmentation(random, place % 4, height, width)
            found |= {"id": number * 8 + place, "image_id": number}
            found |= {"category_id": (4, 9)[place % 2], "iscrowd": int(number == 3 and place == 2)}
            content["annotations"].append(found)
    (root / LABELS).write_text(json.dumps(content))
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the tool's main in an empty folder; returns the status, what it printed, complaints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOMAG_DATA", str(data))
    specification = importlib.util.spec_from_file_location("make_mosaics", TOOL)
    assert specification
    assert specification.loader
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)

    def ran(*changes: str) -> tuple[int, str, str]:
        sizes = ("--side", str(SIDE), "--count", str(COUNT), "--seed", str(SEED))
        monkeypatch.setattr(sys, "argv", [str(TOOL), *sizes, "--out", "out", *changes])
        return tool.main(), *capsys.readouterr()

    return ran


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def drawn(sample: LabelledSample) -> np.ndarray:
    """Coverage of each shape at native scale, `[I, side, side]`."""
    size = sample.scene.info.size
    side = max(size.height, size.width)
    return np.stack([shape.draw(overview(size, side), side).numpy() for shape in sample.shapes])


def test_read_back_they_are_what_they_are_in_memory(
    run: Run, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status, printed, complaint = run()
    mosaics = Mosaics(CocoInstances(data / "nwpu_vhr10", LABELS), COUNT, (SIDE,), SEED)
    labels = sum(len(sample.shapes) for sample in mosaics)
    assert (status, complaint) == (0, "")
    assert printed == f"wrote out: {COUNT} images, {labels} labels\n"
    with caplog.at_level(logging.WARNING):
        read = CocoInstances("out", "annotations/instances.json")
    # Annotations without area would be left out with a warning.
    assert not caplog.records
    assert len(read) == COUNT
    for one, other in zip(mosaics, read, strict=True):
        assert other.name == f"{one.name}.png"
        assert (native(one.scene)[0] == native(other.scene)[0]).all()
        assert one.labels == other.labels
        assert one.uncounted == other.uncounted
        assert [kind.name for kind in other.kinds] == ["storage_tank", "pond", "car"]
        assert [type(shape) for shape in one.shapes] == [type(shape) for shape in other.shapes]
        assert np.abs(drawn(one) - drawn(other)).max() < 1e-3
        assert [shape.box for shape in one.shapes] == [shape.box for shape in other.shapes]
        assert [e.conversation for e in one.exchanges] == [e.conversation for e in other.exchanges]
    assert any(sample.uncounted for sample in read)


def test_what_is_written_is_the_layout(run: Run) -> None:
    run()
    content = json.loads(Path("out/annotations/instances.json").read_text())
    assert content["categories"] == CATEGORIES
    assert [image["file_name"] for image in content["images"]] == [
        f"mosaic-{SEED}-{number}.png" for number in range(COUNT)
    ]
    identities = [item["id"] for item in content["annotations"]]
    assert len(set(identities)) == len(identities) > 50
    whole = 0
    for item in content["annotations"]:
        left, top, width, height = item["bbox"]
        assert min(left, top) >= 0
        assert max(left + width, top + height) <= SIDE
        assert item["category_id"] in (4, 9)
        if isinstance(item["segmentation"], dict):
            assert mask.area(item["segmentation"]) == item["area"]
            assert mask.toBbox(item["segmentation"]).tolist() == item["bbox"]
            continue
        rings = [np.array(ring, np.float32).reshape(-1, 2) for ring in item["segmentation"]]
        whole += not any((ring % 1).any() for ring in rings)
        assert not goes_through_centres(rings, item["bbox"])
        assert Polygons(rings, Size(SIDE, SIDE)).area == pytest.approx(item["area"])
    # Nothing but the box tells that these go along the edges of pixels.
    assert whole > 10


def test_again_they_are_the_same_bytes_and_another_seed_lays_others(run: Run) -> None:
    run()
    first = contents(Path("out"))
    assert len(first) == COUNT + 1
    run()
    assert contents(Path("out")) == first
    run("--out", "elsewhere", "--seed", "6")
    assert not set(contents(Path("elsewhere")).values()) & set(first.values())


def test_where_the_data_lies_can_be_said_and_is_data_otherwise(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEOMAG_DATA")
    assert run()[0] == 2
    Path("data").symlink_to(data)
    # The environment is read where the arguments are.
    assert run()[0] == 0
    assert run("--data", str(data.parent), "--root", f"{data.name}/nwpu_vhr10")[0] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--data", "nowhere"), "no such folder"),
        (("--annotations", "annotations/none.json"), "lacks"),
        (("--side", "0"), "3 mosaics with sides of 0 pixels; expected positive numbers"),
        (("--count", "-1"), "-1 mosaics with sides of 300 pixels; expected positive numbers"),
        (("--out", "file/below"), "cannot be written"),
        (("--out", "file"), "cannot be written"),
    ],
)
def test_errors_are_one_line_and_nothing_is_left(
    run: Run, changes: tuple[str, ...], words: str
) -> None:
    Path("file").touch()
    status, printed, complaint = run(*changes)
    assert (status, printed) == (2, "")
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert words in complaint
    assert [str(path) for path in Path().rglob("*")] == ["file"]


def test_a_damaged_image_is_named_and_nothing_is_half_written(run: Run, data: Path) -> None:
    root = Path("copy/nwpu_vhr10")
    for name, content in contents(data / "nwpu_vhr10").items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    run()
    before = contents(Path("out"))
    for path in (root / "images").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    status, _, complaint = run("--data", "copy")
    assert status == 2
    assert complaint.count("\n") == 1
    assert ".png" in complaint
    assert contents(Path("out")) == before


def test_the_command_itself_ends_without_a_traceback(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(TOOL), "--data", "nowhere", "--out", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: nowhere/nwpu_vhr10: no such folder")
    assert ran.stderr.count("\n") == 1


def sample_of(**changes: Any) -> LabelledSample:
    picture = np.full((20, 30, 4), 90, np.uint8)
    picture[4:7, 20:, 3] = 0
    known = {"shapes": (), "labels": (), "name": "one", "scene": ArrayScene(picture)} | changes
    return LabelledSample(exchanges=(), kinds=(Kind("car"),), **known)


def test_any_samples_can_be_written(tmp_path: Path) -> None:
    """Pixels that are not valid become transparent; what sticks out of a scene still does not
    count, and its box does not say that it goes through pixel centres."""
    size = Size(20, 30)
    overhanging = Polygons([np.array([[-1.0, 2.0], [9.0, 2.0], [9.0, 8.0], [-1.0, 8.0]])], size)
    bitmap = Bitmap(np.pad(np.ones((3, 4), bool), ((2, 15), (20, 6))))
    sample = sample_of(shapes=(overhanging, bitmap), labels=("car", "car"))
    assert write_coco([sample], [{"id": 0, "name": "car"}], tmp_path) == 2
    (read,) = CocoInstances(tmp_path, "annotations/instances.json")
    assert [shape.area for shape in read.shapes] == pytest.approx([54, 12])
    assert (drawn(read) == drawn(sample)).all()
    for one, other in zip(native(read.scene), native(sample.scene), strict=True):
        assert (one == other).all()
    assert not native(read.scene)[1].all()


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "car"}]
    with pytest.raises(DataError, match="two samples are named one"):
        write_coco([sample_of(), sample_of()], categories, tmp_path)
    bitmap = Bitmap(np.ones((20, 30), bool))
    framed = FramedShape(bitmap, Frame(Size(20, 30), Box(0, 0, 30, 20), Size(20, 30)))
    with pytest.raises(DataError, match="one: a FramedShape cannot be written"):
        write_coco([sample_of(shapes=(framed,), labels=("car",))], categories, tmp_path)
