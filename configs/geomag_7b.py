"""CLIP ViT-L/14 at 336 pixels, Llama 2 7B with LoRA, SAM ViT-H, as in LISA (Lai et al. 2024).

python tools/train.py configs/geomag_7b.py --stage align      (then instruct, then mask)
python tools/train.py configs/geomag_7b.py --small            random and small weights, on a CPU
python tools/get_flops.py configs/geomag_7b.py

A look of 1008 pixels is 336 to CLIP and 1024 to SAM. For RemoteCLIP or GeoRSCLIP name the folder
that `python -m geomag_reference.open_clip` writes, in the encoder and in the cropper. Where the hub
has pickles alone, the message says how to convert them.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.data_nwpu import *
    from ._base_.runtime import *
    from ._base_.schedule import *
    from ._base_.stages import *

from geomag.model import GeoMag

clip_vision = dict(
    model_type="clip_vision_model",
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
    projection_dim=768,
)
clip_text = dict(
    model_type="clip_text_model",
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    vocab_size=49408,
    max_position_embeddings=77,
    projection_dim=768,
)
clip = dict(model_type="clip", projection_dim=768, vision_config=clip_vision, text_config=clip_text)
model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="reference/encoder",
        weights="openai/clip-vit-large-patch14-336",
        architecture=clip_vision,
        layers=(-1,),  # which the text tower was trained beside, for relevance
        shrink=3,
        tune="frozen",
    ),
    llm_adapter=dict(
        type="reference/causal_lm",
        weights="meta-llama/Llama-2-7b-chat-hf",
        architecture=dict(
            model_type="llama",
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            vocab_size=32000,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
        ),
        tune=dict(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]),
        query_dim=256,
        max_visual_tokens=1024,
        gradient_checkpointing=True,
    ),
    granularity_controller=dict(
        type="reference/controller",
        fallback=dict(type="tiny/rules"),
    ),
    cropper=dict(
        type="reference/cropper", weights="openai/clip-vit-large-patch14-336", architecture=clip
    ),
    mask_head=dict(
        type="reference/sam",
        weights="facebook/sam-vit-huge",
        architecture=dict(
            model_type="sam",
            vision_config=dict(
                hidden_size=1280,
                output_channels=256,
                num_hidden_layers=32,
                num_attention_heads=16,
                image_size=1024,
                patch_size=16,
                window_size=14,
                global_attn_indexes=[7, 15, 23, 31],
                mlp_dim=5120,
            ),
            prompt_encoder_config=dict(hidden_size=256, image_size=1024, patch_size=16),
            mask_decoder_config=dict(
                hidden_size=256, mlp_dim=2048, num_hidden_layers=2, num_attention_heads=8
            ),
        ),
        tune="frozen",
    ),
    overview_side=1008,
)
train_dataloader.dataset.side = 1008
