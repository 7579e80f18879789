"""A training checkpoint as weights that can be handed on: safetensors, and a card beside them."""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import __version__, weights
from ..errors import ConfigError, GeoMagError, OutputError

NOTED = (
    "command",
    "seed",
    "iter",
    "seconds_trained",
    "processes",
    "geomag_version",
    "torch_version",
)
"""What a checkpoint says of its training, in the order of the card."""
PRINTED = ("exchanges", "mean_iou", "overall_iou", "precision@0.5", "false_refusals", "refused")


@dataclass(frozen=True, slots=True)
class Data:
    """What weights were trained on, and under what terms that may be used."""

    name: str
    terms: str


@dataclass(frozen=True, slots=True)
class Card:
    """What only its author can say of a model."""

    title: str
    data: tuple[Data, ...]
    limits: tuple[str, ...]


def publish(arguments: Sequence[str]) -> int:
    """Writes weights and card from a checkpoint; returns the exit code."""
    parser = ArgumentParser(description="Turn a training checkpoint into safetensors with a card.")
    parser.add_argument("checkpoint", help=".pth of a training run")
    parser.add_argument("output", help="file to write, .safetensors; the card lies beside it, .md")
    parser.add_argument(
        "--card",
        required=True,
        help='.json with "title", "data" (a list of {"name", "terms"}) and "limits" (a list)',
    )
    parser.add_argument("--report", help=".json that tools/test.py --out wrote, for the figures")
    parser.add_argument("--bits", type=int, choices=[16, 32], default=16, help="a weight (16)")
    options = parser.parse_args(arguments)
    try:
        _publish(options)
    except GeoMagError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _publish(options: Namespace) -> None:
    output = Path(options.output)
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: expected a name that ends in .safetensors")
    # All that can be wrong is found before anything is written.
    card = read_card(_json(options.card), options.card)
    report = _json(options.report) if options.report else {}
    if not isinstance(report.get("metrics", {}), Mapping):
        raise ConfigError(f"{options.report}: its metrics are no dict; expected a --out of test.py")
    contents = weights.read(options.checkpoint)
    state = weights.unwrapped(contents)
    if options.bits == 16:
        state = halved(state)
    noted = _noted(contents)
    header = {name: str(value) for name, value in noted.items()}
    weights.save(output, state, {"format": "pt", "published_by": f"geomag {__version__}", **header})
    text = written(card, noted, report.get("metrics", {}), state, output)
    with weights.replacing(output.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fractions in half precision; what is tied stays tied.

    Raises:
        OutputError: a value does not fit.
    """
    halves: dict[tuple[object, ...], Tensor] = {}
    found = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if place not in halves:
            halves[place] = tensor.half() if tensor.is_floating_point() else tensor
        found[name] = halves[place]
        if not bool(found[name].isfinite().all()):
            raise OutputError(f"{name} has values that 16 bits cannot hold; use --bits 32")
    return found


def read_card(content: Any, name: str) -> Card:
    """The card that some JSON holds.

    Raises:
        ConfigError: parts of it are missing; names all of them.
    """
    faults = []
    parts = content if isinstance(content, Mapping) else {}
    if not isinstance(parts.get("title"), str):
        faults.append('"title": a text')
    data, limits = parts.get("data"), parts.get("limits")
    if not (isinstance(data, list) and data and all(_is_data(item) for item in data)):
        faults.append('"data": a list of {"name": ..., "terms": ...}')
    if not (isinstance(limits, list) and limits and all(isinstance(one, str) for one in limits)):
        faults.append('"limits": a list of texts')
    if faults:
        raise ConfigError(f"card {name} lacks {'; '.join(faults)}")
    sources = tuple(Data(item["name"], item["terms"]) for item in data or ())
    return Card(parts["title"], sources, tuple(limits or ()))


def written(
    card: Card,
    noted: Mapping[str, Any],
    metrics: Mapping[str, Any],
    state: Mapping[str, Tensor],
    file: Path,
) -> str:
    """The card as text, with what the checkpoint and the test report say."""
    distinct = {tensor.data_ptr(): tensor.numel() for tensor in state.values()}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    lines = [
        f"# {card.title}",
        "",
        f"`{file.name}`: {sum(distinct.values()) / 1e6:.2f} M values, "
        f"{file.stat().st_size / 1e6:.1f} MB, SHA-256 `{digest}`.",
        "",
        "## Trained on",
        "",
        *(f"- {source.name}. Terms: {source.terms}" for source in card.data),
        "",
        "## Trained how",
        "",
        *(f"- {name.replace('_', ' ')}: `{value}`" for name, value in noted.items()),
        "",
        "## Figures",
        "",
        *(_figures(metrics) or ["None were measured."]),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card.limits),
        "",
    ]
    return "\n".join(lines)


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """A table of the figures with the ends of their 95 % intervals."""
    rows = []
    for name, value in metrics.items():
        *task, figure = name.split("/")
        if figure not in PRINTED:
            continue
        ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        interval = "" if None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"
        shown = f"{value:.3f}" if interval else f"{value:g}"
        rows.append(f"| {task[-1] if task else ''} | {figure} | {shown} | {interval} |")
    head = ["| task | figure | value | 95 % interval over images |", "| --- | --- | --- | --- |"]
    return head + rows if rows else []


def _noted(contents: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(contents["meta"])
    trained = contents.get("message_hub", {}).get("runtime_info", {}).get("seconds_trained")
    if trained is not None:
        known["seconds_trained"] = round(trained)
    return {name: known[name] for name in NOTED if name in known}


def _is_data(item: Any) -> bool:
    return isinstance(item, Mapping) and all(
        isinstance(item.get(key), str) for key in ("name", "terms")
    )


def _json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
