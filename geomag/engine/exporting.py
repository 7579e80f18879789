"""A trained model in the forms of the libraries that its parts come from."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from ..contracts import Exporting
from ..errors import ConfigError, GeoMagError, OutputError
from ..hookspecs import SLOT_KINDS
from ..inference import Predictor
from . import checking


def export(arguments: Sequence[str]) -> int:
    """Writes the parts of a trained model, a folder each; returns the exit code."""
    parser = ArgumentParser(
        description="Write what a checkpoint holds the way the parts' own libraries save it, with "
        "all that was learnt merged in."
    )
    parser.add_argument("config", help="config file that it was trained with")
    parser.add_argument("checkpoint", help=".pth or .safetensors")
    parser.add_argument("output", help="folder to make; each slot has one of its own in it")
    parser.add_argument("--slots", nargs="+", choices=SLOT_KINDS, help="these alone")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="as in training"
    )
    options = parser.parse_args(arguments)
    try:
        for line in _export(options):
            sys.stdout.write(f"{line}\n")
    except GeoMagError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _export(options: Namespace) -> list[str]:
    output = Path(options.output)
    if output.exists():
        raise OutputError(f"{output} is there already; name a folder that is not")
    config = checking.read(options.config, options.cfg_options)
    model = Predictor.from_config(config, options.checkpoint).model
    wanted = options.slots or SLOT_KINDS
    parts = {slot: getattr(model, slot) for slot in wanted}
    able = {slot: part for slot, part in parts.items() if isinstance(part, Exporting)}
    unable = [slot for slot in options.slots or () if slot not in able]
    if unable or not able:
        named = ", ".join(f"{slot} {type(parts[slot]).__name__}" for slot in unable or wanted)
        raise ConfigError(
            f"{named}: no model of another library; tools/publish_model.py hands GeoMag's own on"
        )
    return _write(able, output)


def _write(parts: dict[str, Exporting], output: Path) -> list[str]:
    """All of them or none."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as made:
            for slot, part in parts.items():
                folder = Path(made) / "whole" / slot
                folder.mkdir(parents=True)
                part.export(folder)
            (Path(made) / "whole").rename(output)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror or error}") from error
    return [f"{output / slot}: {type(part).__name__}" for slot, part in parts.items()]
