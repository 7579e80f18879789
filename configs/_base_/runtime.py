"""How every run logs, saves, is seeded and shows pictures."""

from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import LogProcessor

from geomag.engine.checkpoint import SafeCheckpointHook
from geomag.engine.hooks import IterationSeed, ProgressBar, Timer
from geomag.engine.pictures import PictureHook

default_hooks = dict(
    runtime_info=dict(type=RuntimeInfoHook),
    timer=dict(type=Timer),
    seed=dict(type=IterationSeed),
    logger=dict(type=LoggerHook, interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type=SafeCheckpointHook, interval=200, max_keep_ckpts=2),
    progress=dict(type=ProgressBar),
    pictures=dict(type=PictureHook, interval=500),
    # Nothing to do: samplers are endless, and the schedule is a hook.
    sampler_seed=None,
    param_scheduler=None,
)
log_processor = dict(type=LogProcessor, window_size=20, by_epoch=False)
log_level = "INFO"
randomness = dict(seed=0)
env_cfg = dict(
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
trainable = dict(loss_weights=dict(), max_views=None, threshold=0.5)
