"""The benchmark of looking in a process of its own, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from geomag import weights
from geomag.engine import checking
from geomag.model import GeoMag

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests" / "engine" / "small.py"


def run(folder: Path, *arguments: str | Path, code: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "benchmark_looking.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def data_set(folder: Path) -> None:
    """Two pictures of two bright squares each, in the COCO layout."""
    (folder / "nwpu_vhr10" / "images").mkdir(parents=True)
    (folder / "nwpu_vhr10" / "annotations").mkdir()
    images, labels = [], []
    for number in (1, 2):
        picture = np.zeros((140, 140, 3), np.uint8)
        for left, category in ((10, 1), (70, 2)):
            picture[20:40, left : left + 20] = 250
            ring = [left, 20, left + 20, 20, left + 20, 40, left, 40]
            labels.append(
                {
                    "id": len(labels) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [left, 20, 20, 20],
                    "segmentation": [ring],
                }
            )
        file = f"{number}.png"
        cv2.imwrite(str(folder / "nwpu_vhr10" / "images" / file), picture)
        images.append({"id": number, "file_name": file, "height": 140, "width": 140})
    names = [{"id": 1, "name": "ship"}, {"id": 2, "name": "pier"}]
    content = {"images": images, "annotations": labels, "categories": names}
    path = folder / "nwpu_vhr10" / "annotations" / "instances_val.json"
    path.write_text(json.dumps(content))


def test_all_parts_make_tables_a_file_and_a_picture(tmp_path: Path) -> None:
    data_set(tmp_path)
    torch.manual_seed(0)
    arguments = dict(checking.read(SMALL).model.items())
    arguments.pop("type")
    weights.save(tmp_path / "random.safetensors", GeoMag(**arguments).state_dict(), {})
    model = ("--config", SMALL, "--checkpoint", "random.safetensors")
    few = ("--data", ".", "--count", "1", "--sides", "200")
    told = run(tmp_path, *model, *few, "--out", "looking.json", "--plot", "looking.png")
    assert "4 objects below 32 pixels a side, in 2 scenes" in told
    assert "2 pairs of a mosaic and a class" in told
    assert cv2.imread(str(tmp_path / "looking.png")) is not None
    report = json.loads((tmp_path / "looking.json").read_text())
    assert report["small"]["recall"]["everything"].keys() == {"value", "low", "high"}
    arms = [row["arm"] for row in report["mosaics"]["rows"]]
    assert arms == ["as is", "random", "random places", "prompt swapped", "image blanked"]
    # 200 pixels a side have 4 x 4 tiles of 64.
    assert {row["finest"] for row in report["mosaics"]["rows"]} == {4}
    assert [row["finest"] for row in report["budgets"]["rows"]] == [
        *(0, 1, 2, 4, 8, 16),
        *(1, 2, 4, 8, 16),
    ]
    assert len(report["budgets"]["outcomes"]) == 2 * 11


def test_what_the_user_got_wrong_is_one_line(tmp_path: Path) -> None:
    told = run(tmp_path, "--data", "nowhere", code=2)
    assert told.startswith("error: nowhere/nwpu_vhr10: no such folder")
    assert told.count("\n") == 1
    told = run(tmp_path, "--small", "--plot", "looking.png", code=2)
    assert told == "error: --plot shows the budgets; add --budgets, or leave it out\n"
