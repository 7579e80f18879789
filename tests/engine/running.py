"""Runs of the engine's small config, in this process or in others, and what they logged."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
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


def next_second() -> None:
    """Waits for it: mmengine names what a run logs by the second, and two in one would share it."""
    time.sleep(1 - time.time() % 1)


Process = subprocess.Popen[str]
RUN = """
import os, sys
from pathlib import Path
from geomag.engine import launch

train, test, *ports = sys.argv[1:]
os.environ["MASTER_PORT"] = ports[0]
code = launch.train(train.split())
os.environ["MASTER_PORT"] = ports[1]
if test:
    code = code or launch.test(test.split())
names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
left = [name for name in names if "gloo" in name or "tcpstore" in name]
# What torch remembers of sharded tensors holds their group.
left = [] if "--sharded" in train else left
sys.exit(f"threads of the process group live on: {left}" if left else code)
"""


def start(train: str, test: str, ports: list[str], place: dict[str, str]) -> Process:
    """Training and then testing in a process of its own, on one thread."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, train, test, *ports],
        env={**os.environ, "OMP_NUM_THREADS": "1", **place},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def start_several(count: int, train: str, test: str = "") -> list[Process]:
    """The same in processes that belong together, as torchrun starts them."""
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in (one, other)]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return [
        start(train, test, ports, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]


def finished(process: Process, code: int = 0) -> str:
    """What a process has printed, once it has ended with the right exit code."""
    try:
        output, _ = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    assert process.returncode == code, output[-6000:]
    return output


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def extended(path: Path, *lines: str) -> Path:
    """The small config with more lines at its end, written anywhere."""
    folder = path.parent.resolve()
    # A relative import that leads from there to the repository.
    dots = "." * len(folder.parts) + ".".join(ROOT.parts[1:]) + "."
    text = Path(SMALL).read_text().replace("...configs.", f"{dots}configs.")
    path.write_text("\n".join([text, *lines, ""]))
    return path
