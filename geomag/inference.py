"""A model, ready to be asked."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from mmengine.config import Config
from numpy.typing import NDArray

from . import geometry, plugins, weights
from .contracts import Scene
from .errors import CheckpointError, ConfigError
from .hookspecs import SLOT_KINDS
from .model import GeoMag
from .scenes import open_scene
from .scenes.clip import ClippedScene
from .scenes.region import Region
from .session import CACHE_BYTES, Session

DEFAULT_MODEL = "tiny/default"


class Predictor:
    """A model that is ready to be asked about scenes.

    A pixel belongs to a mask where its probability lies above `threshold`. The model is moved to
    `device` and `dtype`, where given, and is in evaluation mode from then on. Answers say `name`.
    `overlap` changes how many pixels neighbouring views share, and blend in, where given.

    Raises:
        ConfigError: the device, the type, the threshold or the overlap does not exist.
    """

    def __init__(
        self,
        model: GeoMag,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        threshold: float = 0.5,
        name: str = "",
        overlap: int | None = None,
    ) -> None:
        if not 0 <= threshold < 1:
            raise ConfigError(f"threshold {threshold}: expected a number from 0 up to below 1")
        if overlap is not None:
            geometry.check_overlap(overlap, model.overview_side)
            model.overlap = overlap
        self.model = model.to(usable_device(device), _dtype(dtype)).eval()
        self.threshold = threshold
        self.name = name

    @classmethod
    def default(
        cls,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        threshold: float = 0.5,
        overlap: int | None = None,
    ) -> Self:
        """The model that is shipped with `plugins/tiny`, on the CPU unless told otherwise.

        Raises:
            PluginError: the plugin is not installed.
            CheckpointError: it comes without weights.
        """
        plugin, component = plugins.lookup("model", DEFAULT_MODEL)
        embedded = plugins.load(component, plugin)()
        if embedded["weights"] is None:
            raise CheckpointError(
                f"{DEFAULT_MODEL} ({plugin.package} {plugin.version}) comes without weights; "
                f"install it again (pip install --force-reinstall {plugin.package}), or name some "
                "of your own: Predictor.from_config(config, checkpoint), or geomag predict "
                "--config ... --checkpoint ..."
            )
        config, file = embedded["config"], embedded["weights"]
        predictor = cls.from_config(config, file, device, dtype, threshold, overlap)
        predictor.name = f"{DEFAULT_MODEL} {plugin.version}"
        return predictor

    @classmethod
    def from_config(
        cls,
        config: str | os.PathLike[str] | Mapping[str, Any] | Config,
        checkpoint: str | os.PathLike[str],
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        threshold: float = 0.5,
        overlap: int | None = None,
    ) -> Self:
        """The model that a config describes, with the weights of a checkpoint, all of them.

        `config` is a file, or a mapping: a whole config or its `model`. The checkpoint is a
        `.safetensors` file or one that training wrote. A config file is code, and is run.

        Raises:
            ConfigError: the config cannot be read, or describes no model.
            CheckpointError: the weights are missing, damaged, or of another model.
        """
        contents = weights.read(
            Path(checkpoint)
        )  # first, because it fails sooner than a model is built
        model = GeoMag(**_arguments(config))
        weights.load(model, contents, Path(checkpoint), weights.sourced(model))
        return cls(model, device, dtype, threshold, Path(checkpoint).name, overlap)

    def open(
        self,
        source: str | os.PathLike[str] | NDArray[Any] | Scene,
        resolution: float | None = None,
        cache_bytes: int = CACHE_BYTES,
        region: Region | None = None,
    ) -> Session:
        """A session on an image file, a folder or list of GeoTIFFs that make one scene, an array
        `[H, W, bands]`, or anything that is a `Scene`.

        `resolution` is in metres per pixel, where known. Up to `cache_bytes` of what was seen are
        kept between prompts. With a `region`, that part is the scene (see `ClippedScene`): bounds
        (xmin, ymin, xmax, ymax) in the scene's coordinate reference system, in pixels where it has
        none; a file of polygons; GeoJSON; or a list of polygons in scene pixels.

        Raises:
            SceneError: it cannot be read, or the region lies outside.
        """
        scene = open_scene(source, resolution)
        if region is not None:
            scene = ClippedScene(scene, region)
        return Session(self.model, scene, self.threshold, cache_bytes, self.name)


def _arguments(config: str | os.PathLike[str] | Mapping[str, Any] | Config) -> dict[str, Any]:
    """What to build a GeoMag with."""
    if isinstance(config, str | os.PathLike):
        name, block = f"config {os.fspath(config)}", _block_of_file(Path(config))
    else:
        name, block = "the config", config.get("model", config)
    if not isinstance(block, Mapping | Config):
        raise ConfigError(f"{name}: its model is {block!r}, expected a dict")
    arguments = dict(block.items())  # items() imports what mmengine holds lazily
    kind = arguments.pop("type", GeoMag)
    # A config that a run left in its work folder spells the class out.
    if kind not in (GeoMag, GeoMag.__name__, f"{GeoMag.__module__}.{GeoMag.__name__}"):
        raise ConfigError(f"{name}: its model is of type {kind}, expected GeoMag")
    known = list(inspect.signature(GeoMag).parameters)
    faults = [
        f"unknown argument {argument!r}.{plugins.nearest(argument, known)}"
        for argument in arguments.keys() - set(known)
    ]
    faults += [f"{slot} is missing" for slot in SLOT_KINDS if slot not in arguments]
    if faults:
        raise ConfigError(f"{name} describes no model: {'; '.join(sorted(faults))}")
    return arguments


def _block_of_file(path: Path) -> object:
    """What a config file says of its model, None where it says nothing."""
    if not path.is_file():
        raise ConfigError(f"config {path}: no such file")
    try:
        block: object = Config.fromfile(path).get("model")
        if isinstance(block, Mapping):
            block = dict(block.items())  # lazy imports fail on access
    # A config is code; whatever it raises is its own fault.
    except Exception as error:
        raise ConfigError(f"config {path} cannot be read: {error}") from error
    return block


def usable_device(device: str | torch.device | None) -> torch.device | None:
    """The device of that name.

    Raises:
        ConfigError: this machine has none.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"device {device!s} cannot be used: {reason}") from error
    return found


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found is None and dtype is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype {dtype!r}: expected float32, bfloat16 or float16")
    return found
