"""What make demo trains while plugins/tiny ships no weights: two minutes of class prompts, drawn.

A smaller model on smaller scenes: in two minutes more steps teach more than more parameters.

python tools/train.py configs/tiny_demo.py
"""

from mmengine.config import read_base

with read_base():
    from ._base_.data_drawn import *
    from ._base_.runtime import *
    from ._base_.schedule import *

from geomag.engine.hooks import Schedule
from geomag.model import GeoMag

model = dict(
    type=GeoMag,
    vision_encoder=dict(
        type="tiny/encoder",
        embed_dims=(24, 32, 48),
        widths=(16, 24, 32, 48, 64),
        depths=(1, 1, 1, 1),
        heads=4,
    ),
    llm_adapter=dict(type="tiny/llm_adapter", hidden_size=96, layers=2, heads=4, feed_forward=192),
    granularity_controller=dict(type="tiny/controller"),
    cropper=dict(type="tiny/cropper"),
    mask_head=dict(type="tiny/mask_head"),
    overview_side=256,
)
# Many small steps: there are two minutes, on two cores.
train_dataloader.batch_size = 2
train_dataloader.dataset.closer_views = 1
train_dataloader.dataset.exchanges = 2
train_dataloader.dataset.dataset.size = (320, 512)
optim_wrapper.optimizer.lr = 2e-3
train_dataloader.dataset.tasks = [("class", 1)]
custom_hooks = [dict(type=Schedule, warm_up=0.03, end=0.02, seconds=120)]
default_hooks.pictures.dataset = shown_scenes
