from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from geomag.errors import ConfigError
from geomag.testing import check_component
from geomag_openmmlab.backbone import Backbone
from geomag_openmmlab.convnext import ConvNeXt

SWIN: Mapping[str, Any] = dict(
    type="SwinTransformer",
    embed_dims=8,
    depths=(1, 1),
    num_heads=(1, 2),
    window_size=4,
    strides=(4, 2),
    out_indices=(0, 1),
)
MIT: Mapping[str, Any] = dict(
    type="MixVisionTransformer",
    embed_dims=16,
    num_stages=3,
    num_layers=[1, 1, 1],
    num_heads=[1, 2, 4],
    patch_sizes=[7, 3, 3],
    strides=[4, 2, 2],
    sr_ratios=[4, 2, 1],
    out_indices=(0, 1, 2),
    mlp_ratio=2,
)
CONVNEXT: Mapping[str, Any] = dict(
    type="mmpretrain.ConvNeXt",
    arch=dict(depths=(1, 1, 1, 1), channels=(16, 24, 32, 40)),
    drop_path_rate=0.1,
)
RESNET: Mapping[str, Any] = dict(
    type="ResNet",
    depth=18,
    base_channels=8,
    stem_channels=8,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(0, 1),
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def swin() -> Backbone:
    return Backbone(SWIN)


# -- any backbone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [MIT, CONVNEXT, RESNET], ids=lambda item: item["type"])
def test_keeps_the_contract(backbone: Mapping[str, Any]) -> None:
    """Swin is what the kit checks of the plugin itself."""
    broken = check_component("vision_encoder", {"type": Backbone, "backbone": backbone})
    assert [str(problem) for problem in broken] == []


@pytest.mark.parametrize(
    ("backbone", "dims", "strides"),
    [
        (SWIN, (8, 16), (4, 8)),
        (dict(SWIN, type="SwinTransformer", patch_size=2, strides=(2, 4)), (8, 16), (2, 8)),
        (MIT, (16, 32, 64), (4, 8, 16)),
        (
            dict(type="VisionTransformer", embed_dims=8, num_layers=2, num_heads=1, patch_size=14)
            | dict(out_indices=(0, 1)),
            (8, 8),
            (14, 14),
        ),
        (dict(type="UNet", base_channels=4), (4, 8, 16, 32, 64), (1, 2, 4, 8, 16)),
    ],
)
def test_widths_and_strides_are_measured(
    backbone: Mapping[str, Any], dims: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    encoder = Backbone(backbone)
    assert (encoder.embed_dims, encoder.strides) == (dims, strides)
    side = 2 * strides[-1]
    with torch.no_grad():
        levels = encoder(torch.rand(1, 3, side, 2 * side))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (dim, side // stride, 2 * side // stride) for dim, stride in zip(dims, strides, strict=True)
    ]


def test_serves_other_bands() -> None:
    five = dict(SWIN, in_channels=5)
    encoder = Backbone(five, mean=[0.4] * 5, std=[0.2] * 5)
    assert encoder.bands == 5
    assert encoder(torch.rand(1, 5, 32, 32))[0].shape == (1, 8, 8, 8)
    with pytest.raises(ConfigError, match=r"mean=.*for each of 5 bands; std=.*of 5 bands"):
        Backbone(five)


def test_normalises_what_it_sees(swin: Backbone) -> None:
    pixels = torch.rand(1, 3, 32, 32)
    values = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    torch.testing.assert_close(list(swin.eval()(pixels)), list(swin.backbone(values)))


@pytest.mark.filterwarnings("ignore:torch.utils.checkpoint")
@pytest.mark.parametrize("backbone", [SWIN, CONVNEXT], ids=lambda item: item["type"])
def test_checkpointing_of_activations_changes_nothing(backbone: Mapping[str, Any]) -> None:
    found = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        encoder = Backbone(dict(backbone, with_cp=with_cp, drop_path_rate=0.0))
        torch.manual_seed(1)
        loss = sum(level.square().sum() for level in encoder(torch.rand(2, 3, 32, 32)))
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        found.append([value.grad for value in encoder.parameters()])
    torch.testing.assert_close(found[0], found[1])


# -- what is refused -------------------------------------------------------------------------------


def test_what_would_open_files_is_refused_all_at_once() -> None:
    backbone = dict(
        SWIN,
        pretrained="https://example.org/swin.pth",
        init_cfg=dict(type="Pretrained", checkpoint="swin.pth"),
        parts=[dict(init_cfg=dict(type="Pretrained"))],
    )
    with pytest.raises(ConfigError) as caught:
        Backbone(backbone, tune="lora")
    for part in ("backbone.pretrained", "backbone.init_cfg", "backbone.parts[0].init_cfg", "lora"):
        assert part in str(caught.value)
    assert "geomag_openmmlab.convert" in str(caught.value)


def test_unknown_backbones_are_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no backbone 'SwinTransfomer'\. Nearest: 'SwinTransf"):
        Backbone(dict(type="SwinTransfomer"))
    with pytest.raises(ConfigError, match="lacks type="):
        Backbone(dict(embed_dims=8))


def test_a_backbone_for_one_size_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="SwinTransformer cannot see an image of 448 x 448"):
        Backbone(dict(SWIN, use_abs_pos_embed=True))


def test_a_backbone_without_a_grid_is_refused() -> None:
    class Pooled(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))

    with pytest.raises(ConfigError, match=r"Pooled makes \[\(1, 3\)\].*expected grids"):
        Backbone(dict(type=Pooled))


def test_convnext_is_the_published_network() -> None:
    """28,589,128 parameters with the classifier of 1000 classes, 769,000 of them."""
    network = ConvNeXt("tiny", out_indices=(3,))
    assert sum(value.numel() for value in network.parameters()) == 28_589_128 - 769_000
    assert "stages.2.8.pointwise_conv2.weight" in network.state_dict()


def test_convnext_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"gap_before_final_norm.*arch='giant' is unknown"):
        ConvNeXt("giant", gap_before_final_norm=True)


# -- training --------------------------------------------------------------------------------------


def test_frozen_it_stays_as_it_is() -> None:
    encoder = Backbone(dict(SWIN, drop_path_rate=0.5, drop_rate=0.5), tune="frozen").train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    pixels = torch.rand(2, 3, 32, 32)
    first, second = encoder(pixels), encoder(pixels)
    torch.testing.assert_close(first, second)
    assert not first[0].requires_grad


def test_statistics_of_batch_norm_stay_and_their_scales_learn() -> None:
    encoder = Backbone(RESNET).train()
    assert encoder.training
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    loss = sum(level.square().mean() for level in encoder(torch.rand(2, 3, 64, 64)))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    torch.testing.assert_close(dict(encoder.named_buffers()), before)
    assert encoder.backbone.bn1.weight.grad is not None


def test_stages_that_mmsegmentation_freezes_stay_frozen() -> None:
    encoder = Backbone(dict(SWIN, frozen_stages=1)).train()
    frozen = encoder.backbone.stages[0]
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert encoder.backbone.stages[1].training


# -- manners ---------------------------------------------------------------------------------------


@pytest.fixture(params=[None, "mmengine", "mmdet_or_other"])
def scope(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


def test_says_nothing_and_leaves_the_default_scope(
    scope: str | None,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    Backbone(SWIN)(torch.rand(1, 3, 32, 32))
    Backbone(MIT)(torch.rand(1, 3, 32, 32))
    current = DefaultScope.get_current_instance()
    assert (current.scope_name if current else None) == scope
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not recwarn.list


def test_lists_no_parameters_in_the_log_of_a_run(tmp_path: Path) -> None:
    logger = MMLogger.get_instance("a run", log_file=str(tmp_path / "run.log"))
    Backbone(RESNET)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    MMLogger._instance_dict.pop("a run")
    assert (tmp_path / "run.log").read_text() == ""


def test_config_is_not_written_to() -> None:
    config = dict(CONVNEXT, arch=dict(depths=[1], channels=[8]), out_indices=[0])
    before = repr(config)
    Backbone(config)
    assert repr(config) == before


def test_is_counted_on_the_meta_device() -> None:
    with torch.device("meta"):
        encoder = Backbone(SWIN, weights="nowhere.safetensors")
        levels = encoder(torch.rand(1, 3, 64, 64))
    assert all(value.is_meta for value in encoder.parameters())
    assert [tuple(level.shape) for level in levels] == [(1, 8, 16, 16), (1, 16, 8, 8)]
    assert encoder.strides == (4, 8)
