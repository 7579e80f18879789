"""What a benchmark says about where it ran."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def limit(cores: int) -> None:
    """Keeps this process and those it starts to some of the machine's cores."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    os.environ["OMP_NUM_THREADS"] = str(cores)


def note() -> str:
    """Processor, cores in use, versions, and how busy the machine is beside the benchmark."""
    listed = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in listed if line.startswith("model name")]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    return (
        f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, {versions}, load {os.getloadavg()[0]:.1f}"
    )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows under a head, as Markdown."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )
