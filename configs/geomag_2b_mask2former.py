"""Swin-B, Qwen3 1.7B with LoRA, Mask2Former of mmdetection: instances, several for each query.

python tools/train.py configs/geomag_2b_mask2former.py --stage align      (then instruct, then mask)
python tools/get_flops.py configs/geomag_2b_mask2former.py

Needs plugins/openmmlab with mmdetection and the compiled ops of mmcv: its README says how. The
backbone and the mask head share what the encoder sees, and train.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.data_nwpu import *
    from ._base_.runtime import *
    from ._base_.schedule import *
    from ._base_.stages import *

from geomag.model import GeoMag

model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="openmmlab/backbone",
        weights="checkpoints/swin_base_384.safetensors",  # a classifier's, see the plugin's README
        may_lack=["norm0.", "norm1.", "norm2.", "norm3."],
        may_bring=["head.", "norm.", "*.attn_mask"],
        backbone=dict(
            type="SwinTransformer",
            pretrain_img_size=384,
            embed_dims=128,
            depths=(2, 2, 18, 2),
            num_heads=(4, 8, 16, 32),
            window_size=12,
            drop_path_rate=0.3,
        ),
    ),
    llm_adapter=dict(
        type="reference/causal_lm",
        weights="Qwen/Qwen3-1.7B",
        architecture=dict(
            model_type="qwen3",
            hidden_size=2048,
            intermediate_size=6144,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151936,
            max_position_embeddings=40960,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
        ),
        tune=dict(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"),
        query_dim=256,
        max_visual_tokens=1024,
        gradient_checkpointing=True,
    ),
    granularity_controller=dict(
        type="reference/controller",
        fallback=dict(type="tiny/rules"),
    ),
    cropper=dict(type="tiny/cropper", width=128),
    mask_head=dict(
        type="openmmlab/mask2former",
        feat_channels=256,
        instances=100,
        encoder_layers=6,
        decoder_layers=9,
        heads=8,
        feed_forward=2048,
    ),
    overview_side=768,
)
train_dataloader.dataset.side = 768
