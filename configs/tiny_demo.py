"""What make demo trains while plugins/tiny ships no weights: two minutes of class prompts, drawn.

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
    vision_encoder=dict(type="tiny/encoder"),
    llm_adapter=dict(type="tiny/llm_adapter"),
    granularity_controller=dict(type="tiny/controller"),
    cropper=dict(type="tiny/cropper"),
    mask_head=dict(type="tiny/mask_head"),
    overview_side=256,
)
# Many small steps: there are two minutes, on two cores.
train_dataloader.batch_size = 2
train_dataloader.dataset.tasks = [("class", 3), ("absent", 1)]
custom_hooks = [dict(type=Schedule, warm_up=0.03, end=0.02, seconds=120)]
default_hooks.pictures.dataset = shown_scenes
