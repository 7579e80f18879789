"""The full-size configs, built on the meta device: their parts have as many parameters as is said.

What is counted is what `weights` would fill, without what GeoMag adds to it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from geomag.engine import checking, flops
from geomag.engine.trainable import build

ROOT = Path(__file__).resolve().parents[3]
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
SAM_2 = 224.4e6
CITED = {
    # open_clip's model profile counts the projection (1024 x 768) in: 304.29 M.
    "geomag_7b": {
        "vision_encoder": 304.29e6 - 1024 * 768,
        "llm_adapter": 6_738_415_616,
        "mask_head": 641.1e6,
    },
    # 428 M at 256 pixels, which has 768 positions less.
    "geomag_4b": {"vision_encoder": 428e6 + 768 * 1152, "llm_adapter": 4_022_468_096},
    "geomag_qwen3vl": {"llm_adapter": 4_437_815_808},
}
"""Where each figure is from stands in docs/models.md."""


@pytest.fixture(scope="module", params=list(CITED))
def counted(request: pytest.FixtureRequest) -> tuple[str, Any, flops.Counter]:
    config = checking.read(ROOT / "configs" / f"{request.param}.py")
    with torch.device("meta"):
        model = build(config.model)
        return request.param, model, flops.Counter(model)


def test_parts_are_as_large_as_cited(counted: tuple[str, Any, flops.Counter]) -> None:
    name, model, _ = counted
    for slot, cited in CITED[name].items():
        part = getattr(model, slot)
        pretrained = sum(one.numel() for key, one in part.named_parameters() if not is_added(key))
        assert pretrained == pytest.approx(cited, rel=1e-3), slot


def test_the_document_has_these_figures(counted: tuple[str, Any, flops.Counter]) -> None:
    name, model, counter = counted
    section = MODELS.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    rows = [re.findall(r"[^|]+", line) for line in section.splitlines() if line.startswith("| ")]
    table = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    for part in flops.parts(model):
        if "." not in part.name:
            assert table[part.name][:2] == [f"{part.parameters:,}", f"{part.trained:,}"]
    answer = counter.answer(30000, 17)
    assert table["30000"][-1] == f"{answer.total / 1e12:.4g}"


def is_added(name: str) -> bool:
    """Whether a parameter is GeoMag's own: adapters, markers, projectors, queries, calibration."""
    parts = ("lora_", ".markers.", ".said.")
    return name.startswith(("visual.", "prompting.", "confidence.")) or any(
        part in name for part in parts
    )


def test_sam_2_is_as_large_as_cited() -> None:
    from transformers import Sam2VideoConfig, Sam2VideoModel

    config = checking.read(ROOT / "configs" / "geomag_4b.py").model.mask_head.architecture
    with torch.device("meta"):
        whole = Sam2VideoModel(Sam2VideoConfig(**{**config.to_dict(), "model_type": "sam2_video"}))
        head = build(checking.read(ROOT / "configs" / "geomag_4b.py").model).mask_head.model
    counts = [sum(one.numel() for one in part.parameters()) for part in (whole, head)]
    assert counts[0] == pytest.approx(SAM_2, rel=1e-3)
    # All but what remembers earlier frames of a video.
    own = {name.partition(".")[0] for name, _ in head.named_parameters()}
    still = [one.numel() for name, one in whole.named_parameters() if name.partition(".")[0] in own]
    assert counts[1] == sum(still)
