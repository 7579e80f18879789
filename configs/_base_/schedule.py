"""AdamW; the learning rate warms up, then falls along a cosine, by iterations or by the clock."""

from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from torch.optim import AdamW

from geomag.engine.hooks import Schedule

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
train_cfg = dict(type=IterBasedTrainLoop, max_iters=20_000)
custom_hooks = [dict(type=Schedule, warm_up=0.03, end=0.02)]
