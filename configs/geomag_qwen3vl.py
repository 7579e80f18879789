"""Qwen3-VL 4B with LoRA, which sees the looks' own pixels, and SAM 2.1 Hiera-L.

python tools/train.py configs/geomag_qwen3vl.py --stage align      (then instruct, then mask)
python tools/train.py configs/geomag_qwen3vl.py --small        random and small weights, on a CPU
python tools/get_flops.py configs/geomag_qwen3vl.py

The vision encoder is there for relevance alone: a small SigLIP 2, which says where to look.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.data_nwpu import *
    from ._base_.runtime import *
    from ._base_.schedule import *
    from ._base_.stages import *

from geomag.model import GeoMag

siglip_vision = dict(
    model_type="siglip_vision_model",
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    image_size=512,
    patch_size=16,
)
siglip_text = dict(
    model_type="siglip_text_model",
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    vocab_size=256000,
    max_position_embeddings=64,
    projection_size=768,
)
siglip = dict(model_type="siglip", vision_config=siglip_vision, text_config=siglip_text)
model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="reference/encoder",
        weights="google/siglip2-base-patch16-512",
        architecture=siglip_vision,
        shrink=2,
        tune="frozen",
    ),
    llm_adapter=dict(
        type="reference/vlm",
        weights="Qwen/Qwen3-VL-4B-Instruct",
        architecture=dict(
            model_type="qwen3_vl",
            text_config=dict(
                model_type="qwen3_vl_text",
                hidden_size=2560,
                intermediate_size=9728,
                num_hidden_layers=36,
                num_attention_heads=32,
                num_key_value_heads=8,
                head_dim=128,
                vocab_size=151936,
                max_position_embeddings=262144,
                rms_norm_eps=1e-6,
                tie_word_embeddings=True,
            ),
            vision_config=dict(
                model_type="qwen3_vl",
                depth=24,
                hidden_size=1024,
                intermediate_size=4096,
                num_heads=16,
                patch_size=16,
                spatial_merge_size=2,
                temporal_patch_size=2,
                out_hidden_size=2560,
                num_position_embeddings=2304,
                deepstack_visual_indexes=[5, 11, 17],
            ),
            tie_word_embeddings=True,
        ),
        tune=dict(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]),
        query_dim=256,
        max_visual_tokens=1024,
        gradient_checkpointing=True,
    ),
    granularity_controller=dict(
        type="reference/controller",
        fallback=dict(type="tiny/rules"),
    ),
    cropper=dict(
        type="reference/cropper", weights="google/siglip2-base-patch16-512", architecture=siglip
    ),
    mask_head=dict(
        type="reference/sam2",
        weights="facebook/sam2.1-hiera-large",
        architecture=dict(
            model_type="sam2",
            vision_config=dict(
                backbone_config=dict(
                    model_type="sam2_hiera_det_model",
                    hidden_size=144,
                    num_attention_heads=2,
                    image_size=[1024, 1024],
                    blocks_per_stage=[2, 6, 36, 4],
                    embed_dim_per_stage=[144, 288, 576, 1152],
                    num_attention_heads_per_stage=[2, 4, 8, 16],
                    window_size_per_stage=[8, 4, 16, 8],
                    global_attention_blocks=[23, 33, 43],
                    window_positional_embedding_background_size=[7, 7],
                ),
                backbone_channel_list=[1152, 576, 288, 144],
                fpn_hidden_size=256,
            ),
            prompt_encoder_config=dict(hidden_size=256, image_size=1024, patch_size=16),
            mask_decoder_config=dict(
                hidden_size=256, mlp_dim=2048, num_hidden_layers=2, num_attention_heads=8
            ),
        ),
        tune="frozen",
    ),
    overview_side=1024,
)
train_dataloader.dataset.side = 1024
