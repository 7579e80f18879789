"""What `geomag predict` was asked for, checked before anything is loaded or written."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .class_prompts import class_prompts
from .errors import ConfigError, GeoMagError, OutputError, PromptError, SceneError
from .export.explain import check_picture
from .inference import usable_device
from .limits import Limits
from .naming import SCENE, check_apart, scenes_in, written_by
from .scenes import open_scene, tiff
from .scenes.region import Region
from .session import conversation_of

ALL = "all"
MAP = ("map",)
"""What stands for the classes of a map in the name of a file."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of which scenes, and where the answers go; `explain` are names of pictures.

    Several scenes, or one where the command says so, are a `job`.
    """

    scenes: tuple[Path, ...]
    prompts: tuple[str, ...]
    outputs: tuple[str, ...]
    explain: tuple[str, ...]
    region: Region | None
    limits: Limits
    threshold: float
    overlap: int | None
    classes: tuple[str, ...]
    shard: tuple[int, int]
    job: bool


def checked(arguments: argparse.Namespace) -> Request:
    """The request that the arguments of the command make.

    Raises:
        ConfigError: some cannot be used; names all that is wrong with them.
    """
    problems = _Problems()
    tried = problems.tried
    if (arguments.config is None) != (arguments.checkpoint is None):
        problems.add("--config and --checkpoint are of no use without each other; give both")
    tried(usable_device, arguments.device)
    given: list[str] = arguments.given
    if arguments.prompts is not None and arguments.classes is not None:
        problems.add("--prompts and --classes ask for different things; give one of them")
    classes = tried(_classes, arguments.classes) or {}
    mapped = arguments.classes is not None
    asked = () if mapped else tried(_prompts, given, arguments.prompts) or ()
    prompts = tuple(classes.values()) or asked
    names = given if arguments.prompts is not None or mapped else given[:-1]
    scenes = tried(_scenes, names, arguments.each) or ()
    job = len(scenes) > 1 or arguments.each or arguments.shard is not None
    if mapped and arguments.explain is not None:
        problems.add("--explain shows one question; leave it out with --classes")
    if job and mapped:
        problems.add("--classes makes a map of one scene; give one, without --each and --shard")
    if len(scenes) == 1 and not job:
        tried(open_scene, scenes[0])
    threshold = tried(_threshold, arguments.threshold)
    request = Request(
        scenes,
        prompts,
        tuple(arguments.out),
        () if arguments.explain is None else (arguments.explain,),
        tried(_region, arguments.region),
        Limits(
            tried(_views, arguments.max_views),
            tried(_tokens, arguments.max_tokens),
            tried(_resolution, arguments.resolution),
        ),
        0.5 if threshold is None else threshold,
        tried(_overlap, arguments.overlap),
        tuple(classes),
        tried(_shard, arguments.shard) or (1, 1),
        job,
    )
    _check_outputs(request, arguments.dry_run, problems)
    problems.stop()
    return request


class _Problems:
    """What was found to be wrong so far."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, problem: str) -> None:
        self._found.append(problem)

    def tried(self, check: Callable[..., T], *given: object) -> T | None:
        """What a check makes of what was given; None, and a problem more, where it finds one."""
        try:
            return check(*given)
        except GeoMagError as error:
            self.add(str(error))
            return None

    def stop(self) -> None:
        """Ends here if there is any."""
        if self._found:
            raise ConfigError("; ".join(dict.fromkeys(self._found)))


def _classes(text: str | None) -> dict[str, str] | None:
    return None if text is None else class_prompts(text.split(","))


def _prompts(given: Sequence[str], file: str | None) -> tuple[str, ...]:
    """The last word of the command, or the lines of a file."""
    if file is not None:
        return _lines(Path(file))
    prompt = given[-1]
    if len(given) < 2:
        raise PromptError(f"{prompt!r} is all that was given; expected a scene, then a prompt")
    if Path(prompt).suffix and Path(prompt).is_file():
        raise PromptError(
            f"the last word, {prompt!r}, is a file; expected a prompt there, or --prompts FILE"
        )
    conversation_of(prompt)
    return (prompt,)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise PromptError(f"--prompts {path}: {reason}; expected a prompt a line") from error
    if "\0" in text:
        raise PromptError(f"--prompts {path}: not a text; expected a prompt a line")
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    prompts = [(number, line) for number, line in numbered if line and line[0] != "#"]
    if not prompts:
        raise PromptError(f"--prompts {path}: holds no prompt; expected one a line")
    for number, line in prompts:
        try:
            conversation_of(line)
        except PromptError as error:
            raise PromptError(f"--prompts {path}, line {number}: {error}") from error
    return tuple(line for _, line in prompts)


def _scenes(names: Sequence[str], each: bool) -> tuple[Path, ...]:
    for name in names:
        tiff.local(name)
    return tuple(scenes_in([Path(name) for name in names], each))


def _region(text: str | None) -> Region | None:
    if text is None or Path(text).is_file():
        return text
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError as error:
        kind = "numbers" if len(parts) == 4 else "a file"
        raise SceneError(
            f"--region {text!r}: not {kind}; expected xmin,ymin,xmax,ymax or a vector file that "
            "exists"
        ) from error
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise SceneError(f"--region {text!r}: expected four numbers, xmin,ymin,xmax,ymax")
    left, low, right, high = numbers
    if not (left < right and low < high):
        raise SceneError(f"--region {text!r}: is empty; expected xmin below xmax, ymin below ymax")
    return left, low, right, high


def _views(text: str | None) -> float | None:
    if text is None or text == ALL:
        return None if text is None else math.inf
    if not text.isdecimal():
        raise PromptError(f"--max-views {text!r}: expected a whole number from 0 up, or '{ALL}'")
    return int(text)


def _tokens(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise PromptError(f"--max-tokens {text!r}: expected a whole number from 1 up")
    return int(text)


def _resolution(text: str | None) -> float | None:
    if text is None:
        return None
    number = _number(text)
    if not 0 < number < math.inf:
        raise PromptError(f"--resolution {text!r}: expected metres per pixel, a number above 0")
    return number


def _overlap(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) % 2:
        raise ConfigError(f"--overlap {text!r}: expected an even number of pixels from 0 up")
    return int(text)


def _threshold(text: str) -> float:
    number = _number(text)
    if not 0 <= number < 1:
        raise ConfigError(f"--threshold {text!r}: expected a number from 0 up to below 1")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {text!r}: expected I/N with I from 1 to N, as in 2/4")
    return int(found[1]), int(found[2])


def _check_outputs(request: Request, dry: bool, problems: _Problems) -> None:
    """Looks at the names of files to write, one by one and together."""
    scene = request.scenes[0] if request.scenes else Path("scene")
    files: list[Path] = []
    for name in (*request.outputs, *request.explain):
        if name in request.explain:
            problems.tried(check_picture, Path(name))
        asked = MAP if request.classes else request.prompts or MAP
        written = problems.tried(written_by, [name], scene, asked)
        files += [file for file, _ in written or ()]
        if request.job and SCENE not in name:
            problems.add(f"{name}: one name for all scenes; put {SCENE} into it")
    if request.job and not request.outputs and not dry:
        problems.add(f"several scenes need an output, as in -o 'out/{SCENE}.geojson'")
    for file in dict.fromkeys(files):
        if files.count(file) > 1:
            problems.add(f"{file}: would be written twice; give each output once")
        if file.resolve() in [scene.resolve() for scene in request.scenes]:
            problems.add(f"{file}: is the scene, and would be overwritten; give another output")
        problems.tried(_check_place, file)
    among = [scene for scene in request.scenes if request.job or scene.is_dir()]
    problems.tried(check_apart, files, among)


def _check_place(file: Path) -> None:
    """Lets pass a file that can probably be written; nothing is tried yet."""
    if file.is_dir():
        raise OutputError(f"{file} cannot be written: it is a folder")
    folder = next(parent for parent in file.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise OutputError(f"{file} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{file} cannot be written: no right to write to {folder}")
