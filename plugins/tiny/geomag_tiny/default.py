"""The model that `Predictor.default()` loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).with_name("weights.safetensors")
PRESENCE = 0.84
"""Chosen by `tools/calibrate.py --most 0.05` on images that nothing was learnt from."""

OVERLAP = 8
"""Enough for the borders of looks not to show: `tools/measure_seams.py`."""


def model() -> dict[str, Any]:
    """`config`, the arguments of a model, and `weights`, their file, None where none is shipped."""
    config = {
        "vision_encoder": {"type": "tiny/encoder"},
        "llm_adapter": {"type": "tiny/llm_adapter"},
        "granularity_controller": {"type": "tiny/controller"},
        "cropper": {"type": "tiny/cropper"},
        "mask_head": {"type": "tiny/mask_head"},
        "overview_side": 256,
        "presence": PRESENCE,
        "overlap": OVERLAP,
    }
    return {"config": config, "weights": WEIGHTS if WEIGHTS.exists() else None}
