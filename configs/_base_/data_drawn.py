"""Drawn scenes, for a machine without imagery: train and test scenes come from different seeds."""

from mmengine.dataset import DefaultSampler
from mmengine.runner import TestLoop

from geomag.data.drawn import DrawnScenes
from geomag.data.views import ViewSampled, collate
from geomag.engine.sampler import EndlessSampler
from geomag.evaluation.masks import MaskMetric

train_dataloader = dict(
    batch_size=8,
    num_workers=1,  # a step computes for 3 CPU seconds and reads for less than half of one
    persistent_workers=True,
    sampler=dict(type=EndlessSampler),
    collate_fn=dict(type=collate),
    dataset=dict(
        type=ViewSampled,
        side=256,
        closer_views=2,
        exchanges=4,
        dataset=dict(type=DrawnScenes, length=2000, seed=0),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    collate_fn=dict(type=collate),
    dataset=dict(type=DrawnScenes, length=50, seed=1),
)
test_cfg = dict(type=TestLoop)
test_evaluator = dict(type=MaskMetric)
shown_scenes = dict(type=DrawnScenes, length=4, seed=1)
