"""`geomag doctor`: what is installed, what does not go together, and the cure.

Everything is read off package metadata; of the packages only torch and mmcv's compiled part are
imported, in the order of how little can go wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import takewhile

from . import __version__, plugins

OURS = "geomag-vlm"
FLOORS: Mapping[str, tuple[str, str]] = {
    "torch": ("2.10", "older ones run code from weights (CVE-2026-24747)"),
    "transformers": ("5.3", "older ones run code from a config.json (CVE-2026-4372)"),
    "pillow": ("12.3", "older ones decode without bounds"),
}
"""The lowest version of a package that is safe, and why."""
EXTRAS: Mapping[str, str] = {
    "rasterio": "GeoTIFFs in and out",
    "pyproj": "map coordinates",
    "shapely": "polygons",
    "pyogrio": "GeoPackages",
    "transformers": "language models",
    "onedl-mmcv": "OpenMMLab's operators",
}
"""What not everybody needs, and for what."""
RIVALS: tuple[tuple[str, str], ...] = (
    ("mmengine", "onedl-mmengine"),
    ("mmcv", "onedl-mmcv"),
    ("mmsegmentation", "onedl-mmsegmentation"),
    ("mmdet", "onedl-mmdetection"),
    ("opencv-python-headless", "opencv-python"),
    ("opencv-contrib-python", "opencv-python"),
    ("geomag", OURS),
)
"""Two packages that write into one folder, whichever comes last winning; the first is to go."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report; `cure` where something is wrong."""

    what: str
    cure: str | None = None


def run(_: argparse.Namespace) -> str:
    """The report."""
    installed = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    findings = [*examine(installed), *_torch(), *_operators(installed), *_plugins()]
    ill = [finding for finding in findings if finding.cure is not None]
    lines = [f"ok     {finding.what}" for finding in findings if finding.cure is None]
    for finding in ill:
        lines += [f"wrong  {finding.what}", f"       {finding.cure}"]
    verdict = "all is well" if not ill else f"{len(ill)} to mend, with the cure below each"
    return "\n".join([f"GeoMag {__version__}, Python {sys.version.split()[0]}: {verdict}", *lines])


def examine(installed: Mapping[str, str]) -> Iterator[Finding]:
    """What the names and versions of the installed packages tell."""
    for stranger, mate in RIVALS:
        if stranger in installed and mate in installed:
            again = f"pip install --force-reinstall --no-deps {mate}=={installed[mate]}"
            yield Finding(
                f"{stranger} and {mate} are both installed, and overwrite each other's files",
                f"pip uninstall {stranger}, then {again}",
            )
    if OURS not in installed:
        yield Finding(
            f"{OURS} is not installed, only its files are at hand", "pip install -e . in its folder"
        )
    for name, (floor, why) in FLOORS.items():
        if name in installed:
            found = installed[name]
            old = _numbers(found) < _numbers(floor)
            cure = f"pip install '{name}>={floor}': {why}" if old else None
            yield Finding(f"{name} {found}", cure)
    for name, use in EXTRAS.items():
        if name not in installed:
            yield Finding(f"without {name}: no {use}")
        elif name not in FLOORS:
            yield Finding(f"{name} {installed[name]}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001  a broken build may raise anything
        yield Finding(f"torch does not import: {error}", "install it first, by an exact version")
        return
    if torch.version.cuda is None:
        yield Finding("torch computes on the CPU; this build knows no accelerator")
    elif not torch.cuda.is_available():
        yield Finding(
            f"torch is built for CUDA {torch.version.cuda} and finds no device",
            "install a driver for it (nvidia-smi tells which), or a CPU build of torch",
        )
    else:
        yield Finding(f"CUDA {torch.version.cuda}: {torch.cuda.get_device_name(0)}")


def _operators(installed: Mapping[str, str]) -> Iterator[Finding]:
    if not {"onedl-mmcv", "mmcv"} & installed.keys():
        return
    try:
        importlib.import_module("mmcv._ext")
        yield Finding("mmcv's compiled operators")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        yield Finding(
            f"mmcv's operators are not compiled ({reason}); nothing but mmcv.ops needs them",
            "torch first, then pip install --no-build-isolation --no-cache-dir --force-reinstall "
            "--no-deps onedl-mmcv (half an hour), or a wheel with them",
        )


def _plugins() -> Iterator[Finding]:
    stock = plugins.inventory()
    if not stock.plugins:
        yield Finding("no plugin is installed", "pip install geomag-vlm-tiny")
    for plugin in stock.plugins:
        yield Finding(
            f"plugin {plugin.name} ({plugin.package} {plugin.version}), "
            f"{len(plugin.components)} components"
        )
        yield from _unloadable(plugin)
    for problem in stock.problems:
        yield Finding(
            f"plugin {problem.plugin} ({problem.package} {problem.version}): {problem.reason}",
            f"pip install --upgrade {problem.package}, or uninstall it",
        )


def _unloadable(plugin: plugins.Plugin) -> Iterator[Finding]:
    for component in plugin.components:
        if component.unavailable:
            name = f"{component.kind} {plugin.name}/{component.name}"
            yield Finding(f"{name} cannot be used here: {component.unavailable}")
            continue
        try:
            plugins.load(component, plugin)
        except Exception as error:  # noqa: BLE001  somebody else's code; the report goes on
            yield Finding(
                f"{component.kind} {plugin.name}/{component.name}: {error}",
                f"pip install --upgrade {plugin.package}, or do without it",
            )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers: enough to compare with a floor."""
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in takewhile(str.isdigit, parts))
