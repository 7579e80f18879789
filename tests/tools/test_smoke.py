"""The three tools in processes of their own, one after the other, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "engine" / "small.py"


def run(folder: Path, tool: str, *arguments: str | Path, code: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_train_resume_test_and_publish(tmp_path: Path) -> None:
    few = ("default_hooks.pictures.interval=None", "train_dataloader.num_workers=1")
    few = ("--cfg-options", *few)
    run(tmp_path, "train.py", SMALL, *few, "train_cfg.max_iters=3")
    work = tmp_path / "work_dirs" / "small"
    assert (work / "last_checkpoint").read_text() == "iter_3.pth"
    log = run(tmp_path, "train.py", SMALL, "--resume", *few, "train_cfg.max_iters=5")
    assert "Iter(train) [5/5]" in log
    assert "Iter(train) [3/5]" not in log

    run(tmp_path, "test.py", SMALL, work, "--out", "report.json")
    metrics = json.loads((tmp_path / "report.json").read_text())["metrics"]
    assert metrics["masks/absent/exchanges"] == 7

    card = {"title": "Small", "data": [{"name": "drawn", "terms": "ours"}], "limits": ["All."]}
    (tmp_path / "card.json").write_text(json.dumps(card))
    arguments = ("small.safetensors", "--card", "card.json", "--report", "report.json")
    run(tmp_path, "publish_model.py", work / "iter_5.pth", *arguments)
    with safe_open(tmp_path / "small.safetensors", framework="pt") as file:
        assert file.metadata()["iter"] == "5"
    assert "train.py" in (tmp_path / "small.md").read_text()


def test_errors_are_one_line(tmp_path: Path) -> None:
    told = run(tmp_path, "test.py", SMALL, "none.pth", code=2)
    assert told.strip().splitlines()[-1].startswith("error: checkpoint none.pth does not exist")
    assert "Traceback" not in told
