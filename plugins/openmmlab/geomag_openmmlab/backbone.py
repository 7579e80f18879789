"""Vision encoder: any backbone of mmsegmentation (Swin, MiT, ...), by the mapping its configs say.

Widths and strides are read off the backbone itself, which is shown an image on the meta device.
What a config of OpenMMLab would open by itself, addresses and pickles, is refused: weights come
from one safetensors file.

Letters: N images, h w pixels, C channels, s strides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from geomag import weights as files
from geomag.errors import CheckpointError, ConfigError
from geomag.plugins import nearest

from .convnext import ConvNeXt
from .silence import silenced

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet: red, green, blue."""
OPENING = ("init_cfg", "pretrained", "checkpoint", "checkpoint_path", "class_embed_path")
"""Keys by which a backbone opens addresses and pickles by itself."""
HEADS = ("decode_head.", "auxiliary_head.")
"""What a segmentor holds beside its backbone."""
OWN: Mapping[str, type] = {"ConvNeXt": ConvNeXt}
"""What configs of mmsegmentation take from mmpretrain."""
ALL, FROZEN = "all", "frozen"
_PROBE = 448
"""Side of the image that shows the strides: a multiple of 14 and of 64."""


class Backbone(nn.Module):
    """A backbone of mmsegmentation, which normalises what it sees.

    `backbone` is what a config of mmsegmentation says under that name; `type` may also be a class.
    `weights` is a safetensors file, its names the backbone's own or those of a segmentor. What
    begins with one of `may_bring` is left out of it, what begins with one of `may_lack` may be
    missing from it (a classifier has none of Swin's "norm0." to "norm3."); "*" stands for anything.
    `tune` is "all" or "frozen". `mean` and `std` are of pixels in [0, 1], one number a band.

    Batch norm keeps the statistics that came with the weights, in training too: those of a batch
    would mix its images. Without pretrained weights, a backbone with batch norm hardly learns.

    Raises:
        ConfigError: the backbone is unknown, opens files by itself, or makes no levels of features.
        CheckpointError: the weights are another backbone's, or no safetensors file.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Mapping[str, Any],
        weights: str | None = None,
        tune: str = ALL,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        may_lack: Sequence[str] = (),
        may_bring: Sequence[str] = HEADS,
    ) -> None:
        super().__init__()
        config = _plain(backbone)
        self.bands: int = config.get("in_channels", 3)
        _check(config, self.bands, tune, mean, std)
        self.weights, self.frozen = weights, tune == FROZEN
        for name, numbers in (("mean", mean or MEAN), ("std", std or STD)):
            self.register_buffer(
                name, torch.tensor(numbers, dtype=torch.float32)[:, None, None], persistent=False
            )
        device = torch.get_default_device()
        # Backbones ask the numbers of tensors while they are built: of rates of dropping paths.
        with torch.device("cpu"):
            self.backbone = _built(config)
        self.order, self.embed_dims, self.strides = _measured(self.backbone, self.bands)
        if device.type != "meta":
            if weights is None or may_lack:
                _initialise(self.backbone)
            if weights is not None:
                _load(self.backbone, weights, may_lack, may_bring)
        self.backbone.to(device)
        if self.frozen:
            self.backbone.requires_grad_(False)
        self.train()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            values = (pixels.to(self.mean.dtype) - self.mean) / self.std
            levels = _levels(self.backbone(values))
        return tuple(levels[place] for place in self.order)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        # Not all of mmsegmentation's return themselves, and some unfreeze parts of their own.
        self.backbone.train(mode and not self.frozen)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def sourced(self) -> Collection[str]:
        if self.weights is None or not self.frozen:
            return ()
        return [f"backbone.{name}" for name in self.backbone.state_dict()]


def _plain(config: Any) -> Any:
    """Mappings of mmengine, which import lazily, as dicts; nothing of the user's is written to."""
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_plain(value) for value in config)
    return config


def _check(
    config: Mapping[str, Any],
    bands: int,
    tune: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> None:
    problems = [
        f"{path} would open files or addresses by itself: take it out, convert the file (python -m "
        "geomag_openmmlab.convert FILE.pth -o FILE.safetensors) and give it as weights="
        for path in _opening(config, "backbone")
    ]
    if "type" not in config:
        problems.append("backbone lacks type=, as in dict(type='SwinTransformer')")
    if tune not in (ALL, FROZEN):
        problems.append(f"tune={tune!r}, expected {ALL!r} or {FROZEN!r}")
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers or MEAN) != bands:
            given = "those of ImageNet" if numbers is None else list(numbers)
            problems.append(f"{name}={given}, expected one number for each of {bands} bands")
    if problems:
        raise ConfigError(f"openmmlab/backbone: {'; '.join(problems)}")


def _opening(config: Any, path: str) -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key in OPENING and value:
                yield f"{path}.{key}"
            else:
                yield from _opening(value, f"{path}.{key}")
    elif isinstance(config, list | tuple):
        for place, value in enumerate(config):
            yield from _opening(value, f"{path}[{place}]")


def _built(config: Mapping[str, Any]) -> nn.Module:
    """Built in mmsegmentation's scope, whichever is the default here, and was before."""
    kind = config["type"]
    name = kind.removeprefix("mmpretrain.") if isinstance(kind, str) else ""
    with silenced(), DefaultScope.overwrite_default_scope("mmseg"):
        from mmseg.models import backbones
        from mmseg.registry import MODELS

        if name in OWN:
            kind = OWN[name]
        elif isinstance(kind, str) and MODELS.get(kind) is None:
            known = sorted({*backbones.__all__, *OWN})
            raise ConfigError(
                f"openmmlab/backbone: mmsegmentation has no backbone {kind!r}."
                f"{nearest(kind, known)} Known: {', '.join(known)}"
            )
        built: nn.Module = MODELS.build({**config, "type": kind})
    return built


def _initialise(backbone: nn.Module) -> None:
    """The random start that its authors chose."""
    initialise = getattr(backbone, "init_weights", None)
    if initialise is None:
        return
    # mmengine would list every parameter in the log of the run.
    backbone._dump_init_info = lambda: None  # type: ignore[assignment]
    with silenced(), DefaultScope.overwrite_default_scope("mmseg"):
        initialise()
    del backbone._dump_init_info


def _levels(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)


@torch.no_grad()
def _measured(
    backbone: nn.Module, bands: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The order of levels, finest first, their widths and their strides."""
    tensors = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    shadows = {name: tensor.to("meta") for name, tensor in tensors.items()}
    image = torch.empty(1, bands, _PROBE, _PROBE, device="meta")
    culprit, size = type(backbone).__name__, f"an image of {_PROBE} x {_PROBE} pixels"
    backbone.eval()
    try:
        with silenced():
            levels = _levels(functional_call(backbone, shadows, (image,)))
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"openmmlab/backbone: {culprit} cannot see {size} with {bands} bands, and any size is "
            f"promised: {error}"
        ) from error
    shapes = [tuple(level.shape) if isinstance(level, Tensor) else () for level in levels]
    if not shapes or any(
        len(shape) != 4 or shape[2] != shape[3] or not shape[2] or _PROBE % shape[2]
        for shape in shapes
    ):
        raise ConfigError(
            f"openmmlab/backbone: {culprit} makes {shapes} of {size}, expected grids [N, C, h, w] "
            "at whole strides; see its out_indices"
        )
    order = sorted(range(len(shapes)), key=lambda place: -shapes[place][2])
    dims = tuple(shapes[place][1] for place in order)
    return tuple(order), dims, tuple(_PROBE // shapes[place][2] for place in order)


def _load(
    backbone: nn.Module, path: str, may_lack: Sequence[str], may_bring: Sequence[str]
) -> None:
    if Path(path).suffix != ".safetensors":
        raise CheckpointError(
            f"weights {path}: expected a .safetensors file, which cannot hold code; convert it: "
            f"python -m geomag_openmmlab.convert {path} -o {Path(path).stem}.safetensors"
        )
    own = backbone.state_dict().keys()
    state = {
        name.removeprefix("backbone."): tensor
        for name, tensor in files.unwrapped(files.read(path)).items()
        if name in own or not _begins(name, may_bring)
    }
    lacking = [name for name in own if _begins(name, may_lack)]
    files.load(backbone, {"state_dict": state}, path, lacking)


def _begins(name: str, beginnings: Sequence[str]) -> bool:
    return any(fnmatchcase(name, f"{beginning}*") for beginning in beginnings)
