"""The decoders and losses beside mmdetection's own, with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomag_openmmlab import geomag_components
from geomag_openmmlab.mask2former import Mask2Former
from geomag_openmmlab.silence import silenced

_LACKS = {item.name: item.unavailable for item in geomag_components()}["mask2former"]
pytestmark = pytest.mark.skipif(bool(_LACKS), reason=_LACKS)

DIMS, STRIDES, ASKED = (16, 24, 32, 40), (4, 8, 16, 32), 24
WIDTH, SLOTS = 32, 5


@pytest.fixture
def ours() -> Mask2Former:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = Mask2Former(
        DIMS,
        STRIDES,
        ASKED,
        feat_channels=WIDTH,
        instances=SLOTS,
        encoder_layers=1,
        decoder_layers=3,
        heads=4,
        feed_forward=64,
        encoder_feed_forward=48,
    )
    return head.eval()


@pytest.fixture
def theirs() -> nn.Module:
    """mmdetection's whole head for one class, of the same numbers."""
    from mmdet.models.dense_heads import Mask2FormerHead
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope

    attention = {"embed_dims": WIDTH, "num_heads": 4, "dropout": 0.0, "batch_first": True}
    deformable = attention | {"num_levels": 3, "num_points": 4}
    feed = {"embed_dims": WIDTH, "num_fcs": 2, "ffn_drop": 0.0}
    pixels = {
        "type": "MSDeformAttnPixelDecoder",
        "num_outs": 3,
        "norm_cfg": {"type": "GN", "num_groups": WIDTH // 8},
        "act_cfg": {"type": "ReLU"},
        "encoder": {
            "num_layers": 1,
            "layer_cfg": {
                "self_attn_cfg": deformable,
                "ffn_cfg": {**feed, "feedforward_channels": 48},
            },
        },
        "positional_encoding": {"num_feats": WIDTH // 2, "normalize": True},
    }
    decoder = {
        "num_layers": 3,
        "layer_cfg": {
            "self_attn_cfg": attention,
            "cross_attn_cfg": dict(attention),
            "ffn_cfg": {**feed, "feedforward_channels": 64},
        },
    }
    with silenced(), DefaultScope.overwrite_default_scope("mmdet"):
        head: nn.Module = Mask2FormerHead(
            in_channels=list(DIMS),
            strides=list(STRIDES),
            feat_channels=WIDTH,
            out_channels=WIDTH,
            num_things_classes=1,
            num_stuff_classes=0,
            num_queries=SLOTS,
            pixel_decoder=ConfigDict(pixels),
            transformer_decoder=ConfigDict(decoder),
            positional_encoding={"num_feats": WIDTH // 2, "normalize": True},
            loss_cls=ConfigDict(type="CrossEntropyLoss", class_weight=[1.0, 0.1]),
        )
    return head.eval()


NAMES = {
    "query_feat": "mask_decoder.contents",
    "query_embed": "mask_decoder.positions",
    "level_embed": "mask_decoder.levels",
    "cls_embed": "mask_decoder.kind",
    "mask_embed": "mask_decoder.embed",
    "transformer_decoder": "mask_decoder.decoder",
    "pixel_decoder": "pixel_decoder",
}


def test_draws_as_mmdetection_does_where_nothing_is_asked(
    ours: Mask2Former, theirs: nn.Module
) -> None:
    for parameter in theirs.parameters():  # offsets and norms that are not where they start
        nn.init.normal_(parameter, std=0.2)
    state = {
        f"{NAMES[name.partition('.')[0]]}.{name.partition('.')[2]}": value
        for name, value in theirs.state_dict().items()
    }
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert {name.partition(".")[0] for name in missing} == {"ask", "place", "quality"}
    assert not unexpected
    levels = [
        torch.randn(2, dim, 64 // stride, 64 // stride)
        for dim, stride in zip(DIMS, STRIDES, strict=True)
    ]
    with torch.no_grad(), silenced():
        kinds, masks = theirs(levels, None)
        fine, coarse = ours.pixel_decoder(levels)
        drawn = ours.mask_decoder(
            torch.zeros(2, 2 * WIDTH), [1, 1], fine, coarse, torch.ones(2, 1, 16, 16)
        )
    for layer, kind, mask in zip(drawn, kinds, masks, strict=True):
        torch.testing.assert_close(layer.objects, kind, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer.masks, mask, atol=1e-3, rtol=1e-3)


def test_has_as_many_parameters_as_mmdetections_beside_what_is_asked(
    ours: Mask2Former, theirs: nn.Module
) -> None:
    both = (ours.pixel_decoder, ours.mask_decoder)
    shared = sum(value.numel() for part in both for value in part.parameters())
    assert shared == sum(value.numel() for value in theirs.parameters())


def test_losses_are_mmdetections() -> None:
    from mmdet.models.losses import CrossEntropyLoss, DiceLoss

    from geomag_openmmlab.matching import NOTHING_WEIGHT, _kind_loss, _Match, dice

    logits, truth = torch.randn(3, 50), torch.rand(3, 50).round()
    published = DiceLoss(use_sigmoid=True, activate=True, naive_dice=True, eps=1.0)
    torch.testing.assert_close(dice(logits, truth).mean(), published(logits, truth))
    objects = torch.randn(1, 1, 5, 2)
    matches = [_Match(0, 0, 3, 0, 1.0)]
    labels = torch.tensor([1, 1, 1, 0, 1])
    weights = torch.tensor([1.0, NOTHING_WEIGHT])
    kinds = CrossEntropyLoss(class_weight=weights.tolist(), reduction="mean")
    wanted = kinds(objects[0, 0], labels, avg_factor=weights[labels].sum())
    torch.testing.assert_close(_kind_loss(objects, matches), wanted)
