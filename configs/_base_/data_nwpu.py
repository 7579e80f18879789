"""NWPU VHR-10 with its referring expressions, under `data_root`: its train, and its val to test."""

from mmengine.dataset import DefaultSampler
from mmengine.runner import TestLoop

from geomag.data.coco import CocoInstances
from geomag.data.drawn import DrawnScenes
from geomag.data.mosaics import Joined, Mosaics
from geomag.data.views import ViewSampled, collate
from geomag.engine.sampler import EndlessSampler
from geomag.evaluation.masks import MaskMetric

data_root = "data"
origin = (
    "NWPU VHR-10 with COCO instance masks as prepared by RSPrompter, and EarthDial's referring "
    "expressions"
)
train_scenes = dict(
    type=CocoInstances,
    root="nwpu_vhr10",
    annotations="annotations/instances_train.json",
    referring="annotations/referring_train.json",
    origin=origin,
    part="fit",
    keep_pixels=True,
)
# Targets seen small, in scenes of up to 16 times the overview.
large_scenes = dict(
    type=Mosaics,
    dataset=train_scenes,
    length=200,
    sides=(1536, 2048, 3072, 4096),
    seed=0,
    keep=True,  # 5 GB in all, for an eighth of the reading time
)
# A few that were drawn, so that the scene of `make demo` is nothing unheard of.
drawn_scenes = dict(type=DrawnScenes, length=40, seed=0)
# What thresholds are chosen on: a part of train that nothing was learnt from.
held_scenes = dict(
    type=CocoInstances,
    root="nwpu_vhr10",
    annotations="annotations/instances_train.json",
    referring="annotations/referring_train.json",
    origin=origin,
    part="held",
)
shown_scenes = dict(
    type=CocoInstances,
    root="nwpu_vhr10",
    annotations="annotations/instances_val.json",
    referring="annotations/referring_val.json",
    origin=origin,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,  # a step computes for 3 CPU seconds and reads for less than half of one
    persistent_workers=True,
    sampler=dict(type=EndlessSampler),
    collate_fn=dict(type=collate),
    dataset=dict(
        type=ViewSampled,
        side=256,
        closer_views=3,
        exchanges=4,
        dataset=dict(type=Joined, datasets=[train_scenes, large_scenes, drawn_scenes]),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    collate_fn=dict(type=collate),
    dataset=shown_scenes,
)
test_cfg = dict(type=TestLoop)
test_evaluator = dict(type=MaskMetric)
