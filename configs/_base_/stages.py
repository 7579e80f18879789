"""Three stages of training: python tools/train.py CONFIG --stage align, then instruct, then mask.

In `align` the language model learns to read the projector, not to speak. What does not learn in a
stage keeps a learning rate of zero, so that all stages have the same tensors and weight decay
spares them; LoRA starts at nothing.
"""

text_only = dict(loss_mask=0.0, loss_relevance=0.0, loss_plan=0.0)
still = dict(lr_mult=0.0)
stages = dict(
    align={
        "trainable.loss_weights": text_only,
        "train_dataloader.dataset.tasks": [("caption", 0.5), ("classification", 0.5)],
        "optim_wrapper.optimizer.lr": 1e-3,
        "optim_wrapper.paramwise_cfg": dict(
            custom_keys=dict(
                lora_=still, mask_head=still, cropper=still, granularity_controller=still
            )
        ),
        "train_cfg.max_iters": 2_000,
    },
    instruct={
        "trainable.loss_weights": dict(loss_mask=0.0),
        "train_dataloader.dataset.tasks": [
            ("caption", 0.15),
            ("classification", 0.1),
            ("conversation", 0.2),
            ("follow_up", 0.1),
            ("presence", 0.1),
            ("count", 0.1),
            ("grounding", 0.15),
            ("region", 0.1),
        ],
        "optim_wrapper.optimizer.lr": 2e-4,
        "optim_wrapper.paramwise_cfg": dict(custom_keys=dict(mask_head=still)),
        "train_cfg.max_iters": 5_000,
    },
    mask={
        "train_dataloader.dataset.tasks": [
            ("class", 0.3),
            ("referring", 0.3),
            ("absent", 0.15),
            ("conversation", 0.1),
            ("follow_up", 0.05),
            ("grounding", 0.05),
            ("count", 0.05),
        ],
        "optim_wrapper.optimizer.lr": 1e-4,
        "train_cfg.max_iters": 10_000,
    },
)
