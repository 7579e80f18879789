"""What is listed of a machine that lacks something, and what still works there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import geomag_openmmlab
from geomag import plugins
from geomag.errors import PluginError
from geomag.registry import MASK_HEADS

HEAVY = ("torch", "numpy", "mmengine", "mmcv", "mmseg", "mmdet")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A machine on which all is installed and compiled, until the test takes something away."""
    here = SimpleNamespace(lacks=set(), folder=tmp_path / "mmcv")
    here.folder.mkdir()
    here.extension = here.folder / "_ext.cpython-311-x86_64-linux-gnu.so"
    here.extension.touch()

    def find(name: str) -> SimpleNamespace | None:
        if name in here.lacks:
            return None
        return SimpleNamespace(submodule_search_locations=[str(here.folder)])

    monkeypatch.setattr(importlib.util, "find_spec", find)
    return here


def unavailable() -> dict[str, str]:
    return {item.name: item.unavailable for item in geomag_openmmlab.geomag_components()}


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, geomag_openmmlab as plugin; plugin.geomag_components(); "
        f"print(*set({HEAVY}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_where_all_is_there_all_is_offered(machine: SimpleNamespace) -> None:
    assert unavailable() == {"backbone": "", "mask2former": ""}


def test_without_ops_the_mask_head_names_the_cure(machine: SimpleNamespace) -> None:
    machine.extension.unlink()
    reasons = unavailable()
    assert reasons["backbone"] == ""
    assert "compiled ops" in reasons["mask2former"]
    assert (
        "--no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv"
        in (reasons["mask2former"])
    )
    assert "geomag-vlm-openmmlab[det]" not in reasons["mask2former"]


def test_all_reasons_are_named_at_once(machine: SimpleNamespace) -> None:
    machine.extension.unlink()
    machine.lacks |= {"mmdet", "mmseg"}
    reasons = unavailable()
    assert "onedl-mmsegmentation" in reasons["backbone"]
    assert "compiled ops" in reasons["mask2former"]
    assert 'pip install "geomag-vlm-openmmlab[det]"' in reasons["mask2former"]


def test_what_is_unavailable_is_one_clear_error(machine: SimpleNamespace) -> None:
    machine.extension.unlink()
    with pytest.raises(PluginError, match=r"openmmlab/mask2former.*cannot be used here") as caught:
        MASK_HEADS.build(
            {"type": "openmmlab/mask2former"}, visual_dims=(8,), strides=(16,), query_dim=8
        )
    assert "compiled ops" in str(caught.value)
    stock = plugins.stock_of("openmmlab/backbone")
    assert not stock.problems
    assert "openmmlab/backbone" in stock.names("vision_encoder")


WITHOUT_OPS = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "mmcv._ext":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import torch
from geomag_openmmlab import ops
from geomag_openmmlab.backbone import Backbone

kinds = [
    dict(type="SwinTransformer", embed_dims=8, depths=(1, 1), num_heads=(1, 2), window_size=4,
         strides=(4, 2), out_indices=(0, 1)),
    dict(type="MixVisionTransformer", embed_dims=8, num_stages=2, num_layers=[1, 1],
         num_heads=[1, 2], patch_sizes=[7, 3], strides=[4, 2], sr_ratios=[8, 4],
         out_indices=(0, 1)),
    dict(type="ConvNeXt", arch=dict(depths=(1, 1), channels=(8, 16)), out_indices=(0, 1)),
]
for kind in kinds:
    levels = Backbone(kind)(torch.rand(1, 3, 64, 64))
    assert [level.shape[-1] for level in levels] == [16, 8], kind
assert len(ops.nms(torch.tensor([[0.0, 0, 2, 2]]), torch.ones(1), 0.5)) == 1
assert ops._mmcv() is None
"""


def test_backbones_work_without_ops_and_say_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPS], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
