"""Manifests: whatever a process that was killed left behind, the next one goes on from it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geomag.errors import OutputError
from geomag.manifest import Entry, Manifest, State, Written, opened

HEADER = {"geomag": "1", "prompts": ["ships"], "settings": {"threshold": 0.5}, "scenes": 2}
DONE = Entry(
    scene="/scenes/mähren \udcff.tif",
    state=State(10, 20),
    files=(Written("../a.json", 3, "ab" * 32),),
    cost={"views": 3, "tokens": 4},
    seconds=0.5,
)
FAILED = Entry("/scenes/b.tif", None, error="/scenes/b.tif: no such file")


def write(path: Path, *entries: Entry, header: dict[str, Any] = HEADER) -> dict[str, Entry]:
    """Appends to a manifest; what it holds then."""
    with opened(path, header, print) as manifest:
        for entry in entries:
            manifest.append(entry)
        return dict(manifest.entries)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "out" / "manifest.jsonl"
    write(found, DONE, FAILED)
    return found


def test_entries_come_back(path: Path) -> None:
    assert write(path) == {DONE.scene: DONE, FAILED.scene: FAILED}
    mended = Entry(FAILED.scene, State(1, 2))
    assert write(path, mended)[FAILED.scene] == mended
    assert write(path) == {DONE.scene: DONE, FAILED.scene: mended}
    assert [set(json.loads(line)) for line in path.read_text().splitlines()[1:]] == [
        {"scene", "state", "files", "cost", "seconds", "error"}
    ] * 3


def test_cut_anywhere_it_goes_on_with_its_whole_lines(path: Path) -> None:
    content = path.read_bytes()
    head, first = (content.index(b"\n") + 1, content.index(b"\n", content.index(b"\n") + 1) + 1)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        expected = {DONE.scene: DONE} if length >= first else {}
        assert write(path) == expected, length
        whole = first if length >= first else head
        assert path.read_bytes() == content[:whole], length
    write(path, FAILED)
    assert path.read_bytes() == content


@pytest.mark.parametrize("garbage", [b"\0\0\0\n", b"{}\n", b"[1]\n", b'{"scene": 1}\n', b"\xff\r"])
def test_garbage_goes_at_the_end_only(path: Path, garbage: bytes) -> None:
    content = path.read_bytes()
    path.write_bytes(content + garbage)
    assert len(write(path)) == 2
    assert path.read_bytes() == content
    first, *rest = content.splitlines(keepends=True)
    damaged = first + garbage.rstrip() + b"\n" + b"".join(rest)
    path.write_bytes(damaged)
    with pytest.raises(OutputError, match=r"line 2: damaged .* delete the line"):
        write(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("foreign", [b"notes\n", b'{"image": "a.png"}\n', b"\x89PNG\r\n", b"x"])
def test_files_of_others_are_left_alone(path: Path, foreign: bytes) -> None:
    path.write_bytes(foreign)
    with pytest.raises(OutputError, match="no manifest of a job; move it away"):
        write(path)
    assert path.read_bytes() == foreign


def test_a_damaged_first_line_before_others_is_an_error(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ships", b'sh"ps', 1))
    with pytest.raises(OutputError, match=r"line 1: damaged .* delete the file"):
        write(path)


def test_differences_are_named_but_for_the_number_of_scenes(path: Path) -> None:
    assert write(path, header=HEADER | {"scenes": 7})
    other = {**HEADER, "geomag": "2", "prompts": ["ships", "x" * 500], "settings": {}, "more": 1}
    with pytest.raises(OutputError) as caught:
        write(path, header=other)
    message = str(caught.value)
    assert "geomag was '1', is now '2'" in message
    assert "prompts[1] was not given, is now 'xxx" in message
    assert "more was not given, is now 1; and 1 more; " in message
    assert len(message) < 500


def test_finished_means_unchanged_and_there(path: Path) -> None:
    def finished(state: State | None = DONE.state, scene: str = DONE.scene) -> bool:
        with opened(path, HEADER, print) as manifest:
            return manifest.finished(Path(scene), state)

    answer = path.parent.parent / "a.json"
    assert not finished()
    answer.write_text("{} ")
    assert finished()
    assert not finished(State(10, 21))
    assert not finished(State(11, 20))
    assert not finished(None)
    assert not finished(None, FAILED.scene)
    assert not finished(scene="/scenes/c.tif")
    answer.write_text("{}")
    assert not finished()


def test_only_one_at_a_time(path: Path) -> None:
    with opened(path, HEADER, print), pytest.raises(OutputError, match="another process"):
        write(path)
    assert len(write(path)) == 2


def test_a_killed_process_lets_go(path: Path) -> None:
    script = (
        "import sys, time, pathlib\nfrom geomag.manifest import opened\n"
        f"with opened(pathlib.Path({str(path)!r}), {HEADER!r}, print):\n"
        "    print('locked', flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(OutputError, match="another process"):
            write(path)
        other.send_signal(signal.SIGKILL)
    assert len(write(path, DONE)) == 2


def test_a_full_disk_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, really = path.read_bytes(), os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(descriptor, data[: len(data) // 2])

    with opened(path, HEADER, print) as manifest:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OutputError, match=r"manifest\.jsonl cannot be written: No space left"):
            manifest.append(DONE)
    assert path.read_bytes() == content


def test_without_locks_it_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockless(*_: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    told: list[str] = []
    monkeypatch.setattr("fcntl.flock", lockless)
    with opened(path, HEADER, told.append) as manifest:
        assert isinstance(manifest, Manifest)
    assert len(told) == 1
    assert "no locks" in told[0]


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "manifest.jsonl").mkdir()
    for place in (tmp_path / "file" / "manifest.jsonl", tmp_path / "manifest.jsonl"):
        with pytest.raises(OutputError, match="cannot be written"):
            write(place)
