"""What this process takes: memory at its highest, bytes read. Linux, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_OWN = Path("/proc/self")


def peak() -> int:
    """Bytes of resident memory, at the highest since the start or the last `forget_peak`.

    `ru_maxrss` would count what the process that started this one had.
    """
    return _number("status", "VmHWM") * 1024


def forget_peak() -> None:
    """Lets `peak` start again from what is in memory now."""
    (_OWN / "clear_refs").write_text("5")


def asked_to_read() -> int:
    """Bytes that this process asked the system for, from the disk or from its cache."""
    return _number("io", "rchar")


def read_from_disk() -> int:
    """Bytes that the disk had to deliver for it, with what the system read ahead."""
    return _number("io", "read_bytes")


def forget_file(path: Path) -> None:
    """Empties the system's cache of a file, so that the next reader waits for the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _number(file: str, key: str) -> int:
    lines = (_OWN / file).read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
