"""The model that plugins/tiny ships: it starts from the encoder of the yardstick.

python tools/train.py configs/yardstick_nwpu.py
python tools/train.py configs/tiny_nwpu.py
"""

from mmengine.config import read_base

with read_base():
    from ._base_.data_nwpu import *
    from ._base_.runtime import *
    from ._base_.schedule import *

from geomag.engine.hooks import Schedule, StartFrom
from geomag.model import GeoMag

model = dict(
    type=GeoMag,
    vision_encoder=dict(type="tiny/encoder"),
    llm_adapter=dict(type="tiny/llm_adapter"),
    granularity_controller=dict(type="tiny/controller"),
    cropper=dict(type="tiny/cropper"),
    mask_head=dict(type="tiny/mask_head"),
    overview_side=256,
    presence=0.84,  # tools/calibrate.py --most 0.05, on held_scenes; training does without
    overlap=8,  # tools/measure_seams.py; training does without
)
custom_hooks = [
    dict(type=Schedule, warm_up=0.03, end=0.02),
    dict(type=StartFrom, checkpoint="work_dirs/yardstick_nwpu", part="vision_encoder"),
]
# What has been learnt already changes slowly.
optim_wrapper.paramwise_cfg = dict(custom_keys={"vision_encoder": dict(lr_mult=0.5)})
train_dataloader.dataset.exchanges = 5
train_dataloader.dataset.tasks = [
    ("class", 0.32),
    ("referring", 0.28),
    ("absent", 0.17),
    ("presence", 0.04),
    ("count", 0.04),
    ("grounding", 0.04),
    ("region", 0.02),
    ("caption", 0.03),
    ("classification", 0.02),
    ("conversation", 0.03),
    ("follow_up", 0.01),
]
default_hooks.pictures.dataset = shown_scenes
