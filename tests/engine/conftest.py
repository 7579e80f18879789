"""Runs in one process that follow each other within a second, which mmengine takes for the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):
        kind._instance_dict.clear()
