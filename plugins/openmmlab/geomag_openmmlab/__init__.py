"""GeoMag on OpenMMLab: its backbones, its mask decoder and its compiled ops.

Listing imports none of it: what this machine lacks is seen from what lies in the packages' folders.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from geomag.hookspecs import Component, hookimpl

__version__ = "0.1.0"

_INSTALL = {
    "mmcv": "mmcv is not installed: pip install onedl-mmcv",
    "mmseg": "mmsegmentation is not installed: pip install onedl-mmsegmentation",
    "mmdet": 'mmdetection is not installed: pip install "geomag-vlm-openmmlab[det]"',
}
_COMPILE = (
    "mmcv was installed without its compiled ops: install torch first, then pip install "
    "--no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv (20 to 35 minutes; "
    "FORCE_CUDA=1 for CUDA), or a prebuilt wheel of the onedl project"
)


@hookimpl
def geomag_components() -> list[Component]:
    return [
        Component(
            "vision_encoder",
            "backbone",
            "geomag_openmmlab.backbone:Backbone",
            tiny={
                "backbone": {
                    "type": "SwinTransformer",
                    "embed_dims": 16,
                    "depths": (1, 1, 1, 1),
                    "num_heads": (1, 2, 4, 8),
                    "window_size": 4,
                }
            },
            unavailable=_lacking(["mmcv", "mmseg"], ops=False),
        ),
        Component(
            "mask_head",
            "mask2former",
            "geomag_openmmlab.mask2former:Mask2Former",
            tiny={
                "feat_channels": 32,
                "instances": 5,
                "encoder_layers": 1,
                "decoder_layers": 3,
                "heads": 2,
                "feed_forward": 64,
                "encoder_feed_forward": 48,
                "points": 64,
            },
            unavailable=_lacking(["mmcv", "mmdet"], ops=True),
        ),
    ]


def _lacking(packages: Sequence[str], ops: bool) -> str:
    """What is not installed here, each with its cure; "" where nothing is missing."""
    reasons = [_INSTALL[name] for name in packages if importlib.util.find_spec(name) is None]
    if ops and not _compiled():
        reasons.append(_COMPILE)
    return "; ".join(reasons)


def _compiled() -> bool:
    spec = importlib.util.find_spec("mmcv")
    folders = (spec.submodule_search_locations or []) if spec else []
    return any(
        path.suffix in (".so", ".pyd") for folder in folders for path in Path(folder).glob("_ext*")
    )
