"""Training and testing through mmengine: what is ours of it."""
