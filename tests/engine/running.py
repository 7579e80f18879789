"""Runs of the engine's small config, in this process or in others, and what they logged."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = str(Path(__file__).with_name("small.py"))


def logged(work: Path) -> dict[int, dict[str, float]]:
    """The losses of the last run in a work folder, by iteration."""
    path = max(work.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        line["step"]: {name: value for name, value in line.items() if name.startswith("loss")}
        for line in lines
        if "loss" in line
    }


def start(tool: str, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """One of the tools in a process of its own, on one thread."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def start_several(count: int, tool: str, *arguments: str | Path) -> list[subprocess.Popen[str]]:
    """The same tool in processes that belong together, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        start(
            tool,
            *arguments,
            "--launcher",
            "pytorch",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in range(count)
    ]


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a process has printed, once it has ended with the right exit code."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output[-6000:]
    return output


def read(path: Path) -> Any:
    return json.loads(path.read_text())
