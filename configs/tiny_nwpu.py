from mmengine.config import read_base

with read_base():
    from ._base_.data_nwpu import *
    from ._base_.runtime import *
    from ._base_.schedule import *

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
default_hooks.pictures.dataset = shown_scenes
