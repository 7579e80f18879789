"""The full-size config of Swin and Mask2Former, built on the meta device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomag import plugins
from geomag.engine import checking, flops
from geomag.engine.trainable import build

ROOT = Path(__file__).resolve().parents[3]
SWIN_B_MASK2FORMER = 107e6
"""Cheng et al. 2022, Table 1."""


def test_it_is_as_large_as_published() -> None:
    reason = plugins.find("mask_head", "openmmlab/mask2former").unavailable
    if reason:
        pytest.skip(reason)
    config = checking.read(ROOT / "configs" / "geomag_2b_mask2former.py")
    with torch.device("meta"):
        model = build(config.model)
        answer = flops.Counter(model).answer(30000, 17)
    parts = {part.name: part.parameters for part in flops.parts(model)}
    own = parts["mask_head.ask"] + parts["mask_head.place"] + parts["mask_head.quality"]
    published = parts["vision_encoder"] + parts["mask_head"] - own
    assert published == pytest.approx(SWIN_B_MASK2FORMER, rel=1.5e-3)
    document = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = document.partition("### geomag_2b_mask2former")[2].partition("###")[0]
    assert f"| mask_head | {parts['mask_head']:,} |" in section
    assert f"| {answer.total / 1e12:.4g} |" in section
