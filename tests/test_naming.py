"""What a job takes for a scene, and what it calls the files with the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from geomag.errors import OutputError, SceneError
from geomag.naming import fixed_folder, scenes_in, written_by

SHIP, TANK = "Every ship", "the storage tank / at: the left-most *corner* of the scene"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with some images."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("in/b.TIF", "in/a.tiff", "in/c.png", "in/d.jpeg", "in/e.webp", "in/notes.txt"),
        *("in/b.TIF.ovr", "in/.hidden.tif", "in/deeper/f.tif", "pictures/a.png", "empty/x.xml"),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")
    Path("in/folder.tif").mkdir()
    return tmp_path


def names(paths: Sequence[str], each: bool = True) -> list[str]:
    return [str(scene) for scene in scenes_in([Path(path) for path in paths], each)]


def test_folders_are_gone_through_or_one_scene(folder: Path) -> None:
    every = ["in/a.tiff", "in/b.TIF", "in/c.png", "in/d.jpeg", "in/e.webp"]
    assert names(["in"]) == every
    assert names(["in"], each=False) == ["in"]
    assert names(["in/deeper", "in/c.png"], each=False) == ["in/deeper", "in/c.png"]
    assert names(["in/c.png", "in", str(folder / "in" / "b.TIF")]) == [
        "in/c.png",
        *every[:2],
        *every[3:],
    ]
    # Whoever names a file means it, whatever its ending.
    assert names(["in/notes.txt"]) == ["in/notes.txt"]


@pytest.mark.parametrize(
    ("paths", "each", "words"),
    [
        (["in", "gone.tif", "lost"], True, ["gone.tif, lost"]),
        (["empty"], True, ["empty: no image", ".webp"]),
        (["empty"], False, ["empty: no image"]),
        (["pictures"], False, ["no GeoTIFFs", "--each"]),
        (["in", "pictures"], True, ["in/a.tiff and pictures/a.png", "'a'"]),
    ],
)
def test_what_is_no_scene(paths: Sequence[str], each: bool, words: Sequence[str]) -> None:
    with pytest.raises(SceneError) as caught:
        names(paths, each)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("output", "prompts", "files"),
    [
        ("out/{scene}.json", [SHIP], {"out/b.json": (0,)}),
        ("out/{scene}.tif", [SHIP, TANK], {"out/b.tif": (0, 1)}),
        ("out/{scene}", [SHIP], {"out/b/answer.json": (0,), "out/b/answer.png": (0,)}),
        ("{prompt}/{scene}.png", [SHIP], {"1-every-ship/b.png": (0,)}),
        (
            "{scene}/x{prompt}.PNG",
            [SHIP, TANK],
            {
                "b/x1-every-ship.PNG": (0,),
                "b/x2-the-storage-tank-at-the-left-most-corner.PNG": (1,),
            },
        ),
        ("out/all.gpkg", [SHIP, TANK], {"out/all.gpkg": (0, 1)}),
        ("{scene}{scene}.json", [SHIP], {"bb.json": (0,)}),
    ],
)
def test_outputs(output: str, prompts: list[str], files: dict[str, tuple[int, ...]]) -> None:
    found = written_by([output], Path("in/b.TIF"), prompts)
    assert {str(path): places for path, places in found} == files


@pytest.mark.parametrize(
    ("scene", "name"),
    [
        ("tiles.of.2020/b.v2.tif", "b.v2"),
        ("in/deeper", "deeper"),
        ("in/deeper/.", "deeper"),
        ("in/{prompt}.tif", "_prompt_"),
        ("in/a\nb:c?.tif", "a_b_c_"),
        ("in/.hidden.tif", "_hidden"),
        ("in/काठमाडौं नगर.tif", "काठमाडौं नगर"),
        ("in/\udcff.tif", "_"),
    ],
)
def test_scenes_have_safe_names(scene: str, name: str) -> None:
    assert written_by(["{scene}.json"], Path(scene), [SHIP]) == [(Path(f"{name}.json"), (0,))]


def test_prompts_have_names_of_their_own_that_sort() -> None:
    prompts = ["Ship", "ship", "***", "../../etc/passwd", "जहाज कहाँ छ?", *["x" * 300] * 5]
    found = [path.name for path, _ in written_by(["{prompt}.json"], Path("a.tif"), prompts)]
    assert found[:5] == [
        *("01-ship.json", "02-ship.json", "03.json", "04-..-..-etc-passwd.json"),
        "05-जहाज-कहाँ-छ.json",
    ]
    assert sorted(found) == found
    assert len(set(found)) == 10
    assert max(map(len, found)) < 50


@pytest.mark.parametrize(
    ("outputs", "prompts", "words"),
    [
        (["{scene}.shp"], [SHIP], ".shp is not written"),
        (["{image}.json"], [SHIP], "{image} stands for nothing; expected {scene}, {prompt}"),
        (["{scene}.png"], [SHIP, TANK], "2 prompts; put {prompt} into its name"),
        (["{scene}"], [SHIP, TANK], "2 prompts; put {prompt} into its name"),
        (["{scene}.json", "./{scene}.json"], [SHIP], "would be written twice"),
        (["{scene}", "{scene}/answer.json"], [SHIP], "would be written twice"),
    ],
)
def test_outputs_that_cannot_be(outputs: list[str], prompts: list[str], words: str) -> None:
    with pytest.raises(OutputError) as caught:
        written_by(outputs, Path("in/a.tiff"), prompts)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("{scene}.json", "."),
        ("out/{scene}.json", "out"),
        ("/a/b/{scene}/{prompt}.json", "/a/b"),
        ("out/x-{prompt}/y/{scene}.json", "out"),
        ("out/answer.json", "out"),
        ("out/answers", "out/answers"),
    ],
)
def test_the_manifest_lies_in_the_deepest_folder_of_all(output: str, folder: str) -> None:
    assert fixed_folder(output) == Path(folder)
