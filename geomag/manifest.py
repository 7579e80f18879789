"""What a job has done so far: a file of JSON lines that survives being killed.

The first line says what the job is, each further one what became of a scene. A line is appended
once everything it tells of is safe on the disk, so that at most the last one can be broken.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from .errors import OutputError

Header = Mapping[str, Any]
"""What a job is, in plain values; the first key is `geomag`, the version."""
_MARK = b'{"geomag": '
_MOST_NAMED = 3
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class State:
    """By what a scene is known to have changed: its size in bytes and when it was modified, in
    nanoseconds; of a folder, all its tiles together and the latest of them."""

    bytes: int
    modified: int


@dataclass(frozen=True, slots=True)
class Written:
    """A file with answers, named from the folder of the manifest."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, folder: Path) -> Self:
        """What lies at `path`, for a manifest in `folder`."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(os.path.relpath(path, folder), file.tell(), digest)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a scene: its files and what they cost, or an error."""

    scene: str
    state: State | None
    files: tuple[Written, ...] = ()
    cost: Mapping[str, int] | None = None
    seconds: float = 0.0
    error: str | None = None

    @classmethod
    def parsed(cls, line: bytes) -> Self:
        """The entry that a line holds.

        Raises:
            ValueError: it holds none.
        """
        values = _values(line)
        try:
            state, files = values.pop("state"), values.pop("files")
            return cls(
                **values,
                state=None if state is None else State(**state),
                files=tuple(Written(**file) for file in files),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no entry of a manifest: {error}") from error


class Manifest:
    """The entries of a job, the latest of each scene; made by `opened`, and locked until then."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._descriptor = descriptor

    def append(self, entry: Entry) -> None:
        """Notes what became of a scene, whose files are on the disk by now.

        Raises:
            OutputError: the disk is full or gone; the manifest is as it was.
        """
        self._write(asdict(entry))
        self.entries[entry.scene] = entry

    def finished(self, scene: Path, state: State | None) -> bool:
        """Whether a scene in this state was answered, and its files lie there as they were."""
        entry = self.entries.get(str(scene))
        if entry is None or entry.error is not None or state is None or entry.state != state:
            return False
        return all(_size(self.path.parent / file.name) == file.bytes for file in entry.files)

    def start(self, header: Header) -> None:
        """Reads what there is, which has to be of the job that `header` describes, or begins.

        Raises:
            OutputError: it is of another job, damaged in the middle, or no manifest at all.
        """
        content = self.path.read_bytes()
        if not content.startswith(_MARK[: len(content)]):
            raise OutputError(
                f"{self.path}: is no manifest of a job; move it away, or give another output folder"
            )
        lines = content.split(b"\n")[:-1]  # the last part is nothing, or a line cut short
        whole = self._read(lines, header)
        if whole != len(content):
            self._cut(whole)
        if not whole:
            self._write(header)
            _flush(self.path.parent)

    def _read(self, lines: list[bytes], header: Header) -> int:
        """Takes in the lines, and returns the bytes of those that are whole: of all, or of all but
        the last."""
        length = 0
        for number, line in enumerate(lines, 1):
            try:
                if number == 1:
                    known = _values(line)
                else:
                    entry = Entry.parsed(line)
                    self.entries[entry.scene] = entry
            except ValueError as error:
                if number == len(lines):
                    break
                cure = (
                    "the line, and its scene is" if number > 1 else "the file, and all scenes are"
                )
                raise OutputError(
                    f"{self.path}, line {number}: damaged ({error}); delete {cure} answered anew"
                ) from error
            if number == 1:
                self._check(known, header)
            length += len(line) + 1
        return length

    def _check(self, known: Header, header: Header) -> None:
        differences = _differences(known, header)
        if differences:
            more = len(differences) - _MOST_NAMED
            named = differences[:_MOST_NAMED] + [f"and {more} more"] * (more > 0)
            raise OutputError(
                f"{self.path}: is of another job: {'; '.join(named)}; give another output folder, "
                "or delete this file to answer every scene anew"
            )

    def _cut(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)
        os.fsync(self._descriptor)

    def _write(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(values, allow_nan=False).encode() + b"\n"
        before = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            self._cut(before)
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


@contextmanager
def opened(path: Path, header: Header, told: Callable[[str], object]) -> Iterator[Manifest]:
    """The manifest of a job, which nobody else may use meanwhile; made where there is none.

    Raises:
        OutputError: another process has it, it is of another job, damaged, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    try:
        _lock(path, descriptor, told)
        manifest = Manifest(path, descriptor)
        manifest.start(header)
        yield manifest
    finally:
        os.close(descriptor)  # lets go of the lock, as the kernel does when we are killed


def _lock(path: Path, descriptor: int, told: Callable[[str], object]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path}: another process is at work on this job; wait for it, or share the scenes "
            "among several with --shard"
        ) from error
    except OSError as error:
        told(
            f"{path}: this file system has no locks ({error.strerror}); see to it that no other "
            "process is at work on this job"
        )


def _values(line: bytes) -> dict[str, Any]:
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return values


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _differences(known: Header, asked: Header) -> list[str]:
    """What a job was and what it is now, setting by setting."""
    before, now = dict(_flat(known)), dict(_flat(asked))
    return [
        f"{name} was {_short(before.get(name))}, is now {_short(now.get(name))}"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
    ]


def _flat(header: Header) -> Iterator[tuple[str, object]]:
    """Settings by themselves, and the prompts and outputs one by one; without the number of scenes,
    of which there may be more by now."""
    for name, value in header.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, list):
            yield from ((f"{name}[{place}]", one) for place, one in enumerate(value))
        elif name != "scenes":
            yield name, value


def _short(value: object) -> str:
    text = "not given" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
