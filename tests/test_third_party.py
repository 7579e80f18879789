"""A stranger's package, made on the spot as docs/plugins.md says, trains and tests in GeoMag."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
MANUAL = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
ITERATIONS = 20
CONFIG = """
from mmengine.hooks import LoggerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, LogProcessor, TestLoop
from torch.optim import AdamW

from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled, collate
from geomag.engine.sampler import EndlessSampler
from geomag.engine.checkpoint import SafeCheckpointHook
from geomag.evaluation.masks import MaskMetric
from geomag.model import GeoMag

model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="tiny/encoder", embed_dims=(16, 24, 32), widths=(16, 16, 24, 32, 48), heads=3
    ),
    llm_adapter=dict(
        type="tiny/llm_adapter", hidden_size=96, layers=2, heads=3, feed_forward=192, query_dim=48
    ),
    granularity_controller=dict(type="baselines/fixed", max_views=4),
    cropper=dict(type="acme/busy"),
    mask_head=dict(type="acme/dots", width=16),
    overview_side=64,
    max_new_tokens=8,
)
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type=EndlessSampler),
    collate_fn=dict(type=collate),
    dataset=dict(
        type=ViewSampled, dataset=dict(type=DrawnScenes, length=40, size=(120, 200)), side=64
    ),
)
train_cfg = dict(type=IterBasedTrainLoop, max_iters=20)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
test_dataloader = dict(
    batch_size=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type=collate),
    dataset=dict(type=DrawnScenes, length=3, size=(120, 200), seed=1),
)
test_cfg = dict(type=TestLoop)
test_evaluator = dict(type=MaskMetric)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type=SafeCheckpointHook, interval=20),
)
log_processor = dict(type=LogProcessor, window_size=1, by_epoch=False)
randomness = dict(seed=0)
"""


def run(*arguments: str | Path, site: Path, folder: Path) -> str:
    """What a command prints, from a folder outside the repository, with the package at hand."""
    ran = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed: a folder of its own, so that the environment stays clean."""
    package = tmp_path_factory.mktemp("package")
    blocks = re.findall(r"```\w+\n# ([\w/]+\.\w+)\n(.*?)```", MANUAL, re.S)
    assert len(blocks) == 5
    for name, text in blocks:
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    site = tmp_path_factory.mktemp("site")
    offline = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    run("-m", "pip", "install", "-q", *offline, "--target", site, package, site=site, folder=site)
    return site


def test_it_trains_and_is_evaluated_with_nothing_changed(site: Path, tmp_path: Path) -> None:
    """One test, because its parts would each have to train first in a process of their own."""
    listed = run("-m", "geomag.cli", "plugins", site=site, folder=tmp_path)
    assert "acme  (geomag-acme 0.1.0)" in listed
    assert {"acme/dots", "acme/busy"} <= set(listed.split())

    (tmp_path / "config.py").write_text(CONFIG)
    train, test = ROOT / "tools" / "train.py", ROOT / "tools" / "test.py"
    log = run(train, "config.py", "--work-dir", "work", site=site, folder=tmp_path)
    check_training(log)
    checkpoint = f"work/iter_{ITERATIONS}.pth"
    weights = torch.load(tmp_path / checkpoint, weights_only=True)
    assert any("mask_head.kernel.weight" in name for name in weights["state_dict"])

    log = run(test, "config.py", checkpoint, "--out", "report", site=site, folder=tmp_path)
    report = json.loads((tmp_path / "report").read_text())
    assert report["metrics"]
    assert report["outcomes"]

    listed = run("-m", "geomag.cli", "plugins", site=tmp_path, folder=tmp_path)
    assert "acme" not in listed  # nothing was left in the environment


def test_it_keeps_its_promises(site: Path, tmp_path: Path) -> None:
    kit = ("-m", "pytest", "--pyargs", "geomag.testing", "-k", "acme", "-p", "no:cacheprovider")
    ran = run(*kit, "-q", site=site, folder=tmp_path)
    assert re.search(r"[1-9]\d* passed", ran)


def check_training(log: str) -> None:
    losses = [
        {name: float(value) for name, value in re.findall(r"(loss\w*): ([\d.e+-]+|nan|inf)", line)}
        for line in log.splitlines()
        if re.search(rf"Iter\(train\).*/{ITERATIONS}\]", line)
    ]
    assert len(losses) == ITERATIONS
    for line in losses:
        assert {"loss", "loss_text", "loss_mask", "loss_relevance", "loss_plan"} <= line.keys()
        assert all(math.isfinite(value) for value in line.values())
    start, end = losses[: ITERATIONS // 4], losses[-ITERATIONS // 4 :]
    assert sum(line["loss"] for line in end) < sum(line["loss"] for line in start)
