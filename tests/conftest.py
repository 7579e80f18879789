"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).resolve().parents[1]
IMAGERY = "nwpu_vhr10"


def pytest_configure() -> None:
    """Leaves each worker one thread, in its own process and in those it starts.

    Threads that wait for each other on a busy machine make small tensors a hundred times slower.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def nwpu() -> Path:
    """The folder of NWPU VHR-10; a test that asks for it is skipped, with the reason, without."""
    roots = [Path(root) for root in (os.environ.get("GEOMAG_DATA"),) if root]
    roots += [ROOT / "data", ROOT.parent / "shared" / "data"]
    for root in roots:
        if (root / IMAGERY / "annotations").is_dir():
            return root / IMAGERY
    pytest.skip(
        f"no NWPU VHR-10 imagery: data/{IMAGERY} is missing and GEOMAG_DATA names no folder with it"
    )
