# ruff: noqa: F403, F405
"""A full-size config for the tests of scale, on drawn scenes; with --small it fits a CPU."""

from mmengine.config import read_base

with read_base():
    from ....configs.geomag_4b import *

from mmengine.dataset import DefaultSampler

from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled, collate
from geomag.engine.sampler import EndlessSampler

model.overview_side = 64
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type=EndlessSampler),
    collate_fn=dict(type=collate),
    dataset=dict(
        type=ViewSampled,
        side=64,
        closer_views=1,
        exchanges=2,
        tasks=[("class", 0.3), ("count", 0.4), ("presence", 0.3)],
        dataset=dict(type=DrawnScenes, length=40, seed=0, size=(120, 200)),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    collate_fn=dict(type=collate),
    dataset=dict(type=DrawnScenes, length=2, seed=1, size=(120, 200)),
)
default_hooks.pictures.dataset = None
default_hooks.logger.interval = 1
log_processor.window_size = 1
train_cfg.max_iters = 4
