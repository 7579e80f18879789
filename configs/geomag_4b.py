"""SigLIP 2 So400m at 512 pixels, Qwen3 4B with LoRA, SAM 2.1 Hiera-L.

python tools/train.py configs/geomag_4b.py --stage align      (then instruct, then mask)
python tools/train.py configs/geomag_4b.py --small            random and small weights, on a CPU
python tools/get_flops.py configs/geomag_4b.py

A look of 1024 pixels is 512 to SigLIP and 1024 to SAM 2.
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
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=27,
    num_attention_heads=16,
    image_size=512,
    patch_size=16,
)
siglip_text = dict(
    model_type="siglip_text_model",
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=27,
    num_attention_heads=16,
    vocab_size=256000,
    max_position_embeddings=64,
    projection_size=1152,
)
siglip = dict(model_type="siglip", vision_config=siglip_vision, text_config=siglip_text)
model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="reference/encoder",
        weights="google/siglip2-so400m-patch16-512",
        architecture=siglip_vision,
        layers=(-1,),
        shrink=2,
        tune="frozen",
    ),
    llm_adapter=dict(
        type="reference/causal_lm",
        weights="Qwen/Qwen3-4B",
        architecture=dict(
            model_type="qwen3",
            hidden_size=2560,
            intermediate_size=9728,
            num_hidden_layers=36,
            num_attention_heads=32,
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
    cropper=dict(
        type="reference/cropper", weights="google/siglip2-so400m-patch16-512", architecture=siglip
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
