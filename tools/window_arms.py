"""One encoder and head, moved over a scene in windows by mmsegmentation and by GeoMag."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

CLASSES = 10
WINDOW = 256

Drawing = Callable[[NDArray[np.uint8]], tuple[Any, dict[str, float]]]
"""A scene `[H, W, 3]` to logits or centred probabilities `[CLASSES, H, W]`, None where the arm has
none, with the seconds in the `network` and `merging`, and how many `windows` there were."""


def network(checkpoint: Path | None, seed: int) -> Any:
    """The encoder and head of both: `[1, 3, h, w]` in [0, 1] to logits `[1, CLASSES, h/4, w/4]`."""
    from geomag import Predictor, weights
    from geomag_baselines.channels import ClassChannels

    torch.manual_seed(seed)
    classes = [f"class {number}" for number in range(CLASSES)]
    network = ClassChannels(Predictor.default().model.vision_encoder, classes).eval()
    if checkpoint is None:
        torch.nn.init.zeros_(network.decide.bias)
    else:
        weights.load(network, weights.read(checkpoint), checkpoint)
    return network


def stock(network: Any, stride: int) -> Drawing:
    """mmsegmentation's own code around the network."""
    from mmengine.config import ConfigDict
    from mmseg.models.segmentors import EncoderDecoder

    class Backbone(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return network(inputs)

    class Head(nn.Module):
        align_corners, num_classes, out_channels = False, CLASSES, CLASSES

        def predict(self, logits: Tensor, metas: Sequence[Any], _: object) -> Tensor:
            return F.interpolate(logits, metas[0]["img_shape"], mode="bilinear")

    modes = ConfigDict(mode="slide", stride=(stride, stride), crop_size=(WINDOW, WINDOW))
    parts = {"backbone": {"type": Backbone}, "decode_head": {"type": Head}}
    model = EncoderDecoder(**parts, test_cfg=modes).eval()
    watch = Watch(model.encode_decode)
    model.encode_decode = watch

    def run(pixels: NDArray[np.uint8]) -> tuple[Any, dict[str, float]]:
        watch.reset()
        inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)
        began = time.perf_counter()
        logits = model.slide_inference(inputs, [{}])
        merging = time.perf_counter() - began - watch.seconds
        told = {"network": watch.seconds, "merging": merging, "windows": watch.calls}
        return logits[0].numpy(), told

    return run


def own(network: Any, stride: int, dense: bool) -> Drawing:
    """GeoMag's views, looks and assembly around the network."""
    from geomag import geometry
    from geomag.assembly import assemble
    from geomag.scenes import open_scene
    from geomag.values import Look, LookMasks

    watch = Watch(network)
    query, score = torch.arange(CLASSES), torch.ones(CLASSES)

    def run(pixels: NDArray[np.uint8]) -> tuple[Any, dict[str, float]]:
        watch.reset()
        scene = open_scene(pixels)
        looks, drawn = [], []
        for view in geometry.tiles(scene.info.size, WINDOW, 1, overlap=WINDOW - stride):
            seen = scene.read(view, WINDOW)
            drawn.append(LookMasks(watch(seen.pixels[None])[0], query, score))
            # Without a language model nobody needs the pixels and features of a window again.
            looks.append(Look(view, seen.pixels.new_empty(0), seen.valid, ()))
        began = time.perf_counter()
        masks = assemble(looks, drawn, CLASSES, 0.5)
        found = None
        if dense:
            found = np.empty((CLASSES, *pixels.shape[:2]), np.float32)
            for place, mask in enumerate(masks):
                found[place] = mask.probability()
        merging = time.perf_counter() - began
        told = {"network": watch.seconds, "merging": merging, "windows": watch.calls}
        return None if found is None else np.subtract(found, 0.5, out=found), told

    return run


class Watch:
    """A function, and how long it took in all its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.reset()

    def reset(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def __call__(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = self._function(*arguments)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return result
