"""Damaged images are read or refused, and nothing else happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.scenes.rasters import ROOT

COUNT = 2000


def test_damaged_images_are_read_or_refused() -> None:
    tool = ROOT / "tools" / "fuzz_scenes.py"
    ran = subprocess.run(
        [sys.executable, str(tool), "--count", str(COUNT), "--seed", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = {kind: int(count) for kind, count in re.findall(r"(\w+) (\d+)", ran.stdout)}
    assert counts.pop("read") > COUNT / 20
    assert counts.pop("refused") > COUNT / 2
    assert counts == {"stray": 0, "died": 0, "hung": 0}


@pytest.mark.parametrize("number", [0, 7])
def test_a_damaged_image_is_the_same_every_time(number: int) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import fuzz_scenes
    finally:
        sys.path.pop(0)
    whole = fuzz_scenes.seeds()
    assert fuzz_scenes.mutated(whole, 3, number) == fuzz_scenes.mutated(whole, 3, number)
    assert fuzz_scenes.mutated(whole, 3, number) != fuzz_scenes.mutated(whole, 4, number)
