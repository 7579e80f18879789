# ruff: noqa: F403, F405
"""What the engine's tests run: all five slots and all hooks, as small as they get."""

from mmengine.config import read_base

with read_base():
    from ...configs._base_.data_drawn import *
    from ...configs._base_.runtime import *
    from ...configs._base_.schedule import *

from geomag.model import GeoMag

model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="tiny/encoder", embed_dims=(16, 24, 32), widths=(16, 16, 24, 32, 48), heads=3
    ),
    llm_adapter=dict(
        type="tiny/llm_adapter", hidden_size=96, layers=2, heads=3, feed_forward=192, query_dim=48
    ),
    granularity_controller=dict(type="tiny/controller"),
    cropper=dict(type="tiny/cropper", width=32),
    mask_head=dict(type="tiny/mask_head", hidden=8),
    overview_side=64,
    max_new_tokens=8,
)
train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(side=64, exchanges=2)
train_dataloader.dataset.dataset.update(length=40, size=(120, 200))
test_dataloader.update(num_workers=0)
test_dataloader.dataset.update(length=3, size=(120, 200))
shown_scenes.update(length=1, size=(120, 200))
default_hooks.pictures.dataset = shown_scenes
default_hooks.logger.interval = 1
log_processor.window_size = 1
train_cfg.max_iters = 6
