"""Weights of backbones: from one file without code in it, complete; others are converted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from geomag import weights
from geomag.errors import CheckpointError
from geomag_openmmlab import convert
from geomag_openmmlab.backbone import Backbone

SWIN: Mapping[str, Any] = dict(
    type="SwinTransformer",
    embed_dims=8,
    depths=(1, 1),
    num_heads=(1, 2),
    window_size=4,
    strides=(4, 2),
    out_indices=(0, 1),
)


@pytest.fixture
def swin() -> Backbone:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Backbone(SWIN)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_weights_come_from_a_file(swin: Backbone, tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}{name}": value for name, value in swin.backbone.state_dict().items()}
    if prefix == "backbone.":
        state |= {"decode_head.conv.weight": torch.rand(2), "auxiliary_head.x": torch.rand(2)}
    weights.save(tmp_path / "swin.safetensors", state, {})
    encoder = Backbone(SWIN, str(tmp_path / "swin.safetensors"))
    torch.testing.assert_close(encoder.state_dict(), swin.state_dict())
    assert not encoder.sourced()
    frozen = Backbone(SWIN, str(tmp_path / "swin.safetensors"), tune="frozen")
    assert set(frozen.sourced()) == set(frozen.state_dict())


def test_weights_have_to_be_complete_but_for_what_may_lack(swin: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    state = {
        name: value + 1.0 if name == "stages.0.blocks.0.norm1.weight" else value
        for name, value in swin.backbone.state_dict().items()
        if not name.startswith("norm")
    }
    extra = {"head.fc.weight": torch.rand(3, 3), "stages.0.blocks.0.attn_mask": torch.rand(2)}
    weights.save(path, state | extra, {})
    with pytest.raises(CheckpointError, match=r"4 missing \(norm0\.bias.*2 unknown \(head\.fc"):
        Backbone(SWIN, str(path))
    encoder = Backbone(
        SWIN, str(path), may_lack=["norm0.", "norm1."], may_bring=["head.", "*.attn_mask"]
    )
    assert encoder.backbone.stages[0].blocks[0].norm1.weight.detach().eq(2).all()
    assert encoder.backbone.norm0.weight.detach().eq(1).all()


def test_pickles_are_refused_and_converted(swin: Backbone, tmp_path: Path) -> None:
    source, target = tmp_path / "swin.pth", tmp_path / "swin.safetensors"
    torch.save({"state_dict": swin.backbone.state_dict(), "meta": {"epoch": 3}}, source)
    with pytest.raises(CheckpointError, match=r"geomag_openmmlab\.convert .*swin\.pth -o swin\.s"):
        Backbone(SWIN, str(source))
    convert.main([str(source), "-o", str(target)])
    encoder = Backbone(SWIN, str(target))
    torch.testing.assert_close(encoder.state_dict(), swin.state_dict())


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({"state_dict": {}, "hook": Code()}, "could run code; it was not read"),
        ({"state_dict": {}}, "no tensors by name"),
        ({"epoch": 3}, "epoch should be tensors"),
    ],
)
def test_what_is_converted_holds_tensors_and_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Any, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(contents, "source.pth")
    with pytest.raises(SystemExit, match=complaint):
        convert.main(["source.pth", "-o", "target.safetensors"])
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


def test_what_cannot_be_converted_is_said(tmp_path: Path) -> None:
    source = tmp_path / "source.pth"
    with pytest.raises(SystemExit, match="does not exist"):
        convert.main([str(source), "-o", "target.safetensors"])
    source.write_text("hello")
    with pytest.raises(SystemExit, match="damaged"):
        convert.main([str(source), "-o", "target.safetensors"])
    with pytest.raises(SystemExit, match=r"ends in \.safetensors"):
        convert.main([str(source), "-o", "target.pth"])
