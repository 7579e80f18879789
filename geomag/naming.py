"""Which scenes a job is about, and what the files with their answers are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from .answer import ALONE, TOGETHER, check_ending
from .errors import OutputError, SceneError

TILES = (".tif", ".tiff")
ENDINGS = (*TILES, ".png", ".jpg", ".jpeg", ".webp")
"""What is taken for a scene where a folder is gone through."""
SCENE, PROMPT = "{scene}", "{prompt}"
_PLACEHOLDER = re.compile(r"\{\w*\}")
# Not whitelisted: names may be written in any script.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*{}\ud800-\udfff]')
_LONGEST = 40


def scenes_in(paths: Sequence[Path], each: bool) -> list[Path]:
    """The scenes that paths stand for, in order, each once.

    With `each`, a folder stands for its image files by name, without it for one scene of tiles.

    Raises:
        SceneError: something is not there, a folder holds no image, or two scenes have one name,
            so that their answers would overwrite each other.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise SceneError(f"no such file or folder: {', '.join(missing)}")
    found: dict[Path, Path] = {}
    for path in paths:
        for scene in _images(path, each) if path.is_dir() else [path]:
            found.setdefault(absolute(scene), scene)
    check_names(found.values())
    return list(found.values())


def written_by(
    outputs: Sequence[str], scene: Path, prompts: Sequence[str]
) -> list[tuple[Path, tuple[int, ...]]]:
    """The files that the answers about a scene go to, each with the places of its prompts.

    Raises:
        OutputError: a name has another ending or placeholder, lacks one, or is there twice.
    """
    found: dict[Path, tuple[int, ...]] = {}
    every = tuple(range(len(prompts)))
    for output in outputs:
        _check_output(output, len(prompts))
        for places in [(place,) for place in every] if PROMPT in output else [every]:
            for file in _files(output, scene, _numbered(prompts, places[0])):
                if file in found:
                    raise OutputError(f"{file}: would be written twice; give each output once")
                found[file] = places
    return list(found.items())


def check_names(scenes: Iterable[Path]) -> None:
    """Lets pass scenes that have names of their own.

    Raises:
        SceneError: two share one.
    """
    named: dict[str, Path] = {}
    for scene in scenes:
        name = _name(scene)
        other = named.setdefault(name, scene)
        if other is not scene:
            raise SceneError(
                f"{other} and {scene} are both named {name!r}, so that their answers would "
                "overwrite each other; rename one, or give them outputs in two folders"
            )


def check_apart(files: Iterable[Path], scenes: Iterable[Path]) -> None:
    """Lets pass files with answers that cannot be taken for scenes the next time.

    Raises:
        OutputError: one is an image in a folder of scenes.
    """
    folders = {scene if scene.is_dir() else scene.parent for scene in scenes}
    resolved = {folder.resolve() for folder in folders}
    for path in files:
        if path.suffix.lower() in ENDINGS and path.parent.resolve() in resolved:
            raise OutputError(
                f"{path}: lies among the scenes, and would be one of them the next time; give "
                "another folder"
            )


def fixed_folder(output: str) -> Path:
    """The deepest folder of an output that is the same for all scenes and prompts."""
    path = Path(output)
    parts = list(takewhile(lambda part: not _PLACEHOLDER.search(part), path.parts))
    whole = len(parts) == len(path.parts)
    return path.parent if whole and path.suffix else Path(*parts)


def listed(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of these endings, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in endings and path.name[0] != "." and path.is_file()
    )


def absolute(path: str | Path) -> Path:
    """The path from the root; symlinks stay, because overviews lie beside them."""
    return Path(os.path.abspath(path))


def _images(folder: Path, each: bool) -> list[Path]:
    """The scenes of a folder: its images, or itself."""
    images = listed(folder, ENDINGS)
    if not images:
        raise SceneError(f"{folder}: no image in this folder; expected {', '.join(ENDINGS)}")
    if not each and not listed(folder, TILES):
        raise SceneError(
            f"{folder}: no GeoTIFFs (.tif, .tiff) that make one scene; with --each, its images are "
            "scenes of their own"
        )
    return images if each else [folder]


def _check_output(output: str, prompts: int) -> None:
    path = Path(output)
    check_ending(path)
    unknown = [one for one in _PLACEHOLDER.findall(output) if one not in (SCENE, PROMPT)]
    if unknown:
        raise OutputError(f"{output}: {unknown[0]} stands for nothing; expected {SCENE}, {PROMPT}")
    if prompts > 1 and PROMPT not in output and path.suffix.lower() not in TOGETHER:
        raise OutputError(
            f"{output}: holds one answer, and there are {prompts} prompts; put {PROMPT} into its "
            f"name, or let it end in {', '.join(TOGETHER)}"
        )


def _files(output: str, scene: Path, prompt: str) -> list[Path]:
    names = {SCENE: _name(scene), PROMPT: prompt}
    path = Path(_PLACEHOLDER.sub(lambda match: names[match[0]], output))
    return [path] if Path(output).suffix else [path / f"answer{ending}" for ending in ALONE]


def _name(scene: Path) -> str:
    """What `{scene}` stands for."""
    path = absolute(scene)
    name = _UNSAFE.sub("_", path.name if path.is_dir() else path.stem)
    return f"_{name[1:]}" if name.startswith(".") else name


def _numbered(prompts: Sequence[str], place: int) -> str:
    """What `{prompt}` stands for."""
    words = re.sub(r"[\s-]+", "-", _UNSAFE.sub(" ", prompts[place]).lower())
    number = f"{place + 1:0{len(str(len(prompts)))}d}"
    return f"{number}-{words[:_LONGEST]}".rstrip("-. ")
