"""What tools/benchmark_looking.py found, as tables, as plain data and as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
from matplotlib.figure import Figure as Page

from geomag.errors import OutputError
from geomag.evaluation.masks import Figure
from geomag.evaluation.pairs import Summary
from geomag.weights import replacing

FORMATS = (".png", ".svg", ".pdf")


def recall_table(figures: Mapping[str, Figure]) -> str:
    """One row, for what `geomag.evaluation.instances.recall` gives."""
    head = ("recall with all tiles", "from the overview alone", "ratio", "difference")
    return machine.table(head, [tuple(_shown(figure) for figure in figures.values())])


def controls_table(rows: Sequence[Summary]) -> str:
    """One row an arm, each compared with the model as it is."""
    head = ("asked", "mean IoU", "gain on as is", "target covered", "pooled", "finest tiles")
    return machine.table(
        head,
        [
            (
                row.arm,
                *map(_shown, (row.mean_iou, row.gain, row.coverage, row.pooled_coverage)),
                f"{row.finest:.1f} of {row.wanted:.1f}",
            )
            for row in rows
        ],
    )


def budgets_table(rows: Sequence[Summary]) -> str:
    """One row an arm and share, each compared with full tiling; costs were measured."""
    head = ("looks", "finest tiles", "mean IoU", "of full tiling", "target covered", "pooled")
    return machine.table(
        (*head, "views", "pixels encoded", "GFLOPs", "seconds"),
        [
            (
                row.arm if row.share else "overview alone",
                f"{row.share:.0%}, {row.finest:.1f} of {row.wanted:.1f}",
                *map(_shown, (row.mean_iou, row.kept, row.coverage, row.pooled_coverage)),
                f"{row.views:.1f}",
                f"{row.encoded_share:.1%}",
                f"{(row.flops or 0) / 1e9:.1f}",
                f"{row.seconds or 0:.2f}",
            )
            for row in rows
        ],
    )


def plain(value: Any) -> Any:
    """Values as JSON holds them; None for a figure of nothing."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value))
    return None if value != value else value


def draw(rows: Sequence[Summary], model: str, chance: str, path: Path) -> None:
    """Draws the rows of the arms `model` and `chance`, with the overview alone and full tiling.

    Raises:
        OutputError: the file is of no kind that can be drawn, or cannot be written.
    """
    check(path)
    page = Page(figsize=(6, 4), layout="constrained")
    axes = page.subplots()
    for arm, label, colour in (
        (model, "where the model looks", "C0"),
        (chance, "at random", "C1"),
    ):
        curve = [row for row in rows if row.arm == arm and row.share]
        encoded = [100 * row.encoded_share for row in curve]
        ious = [row.mean_iou for row in curve]
        axes.fill_between(
            encoded, [iou.low for iou in ious], [iou.high for iou in ious], color=colour, alpha=0.15
        )
        axes.plot(encoded, [iou.value for iou in ious], "o-", color=colour, label=label)
    for share, marker, label in ((0.0, "s", "the overview alone"), (1.0, "*", "full tiling")):
        row = next(row for row in rows if row.arm == model and row.share == share)
        axes.plot(
            100 * row.encoded_share,
            row.mean_iou.value,
            marker,
            color="black",
            markersize=9,
            label=label,
            zorder=3,
        )
    axes.set_xlabel("pixels encoded, % of the scene's")
    axes.set_ylabel("mean IoU")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    with replacing(path) as temporary:
        page.savefig(temporary, format=path.suffix[1:], dpi=150)


def check(path: Path) -> None:
    """Nothing, where the file is of a kind that can be drawn.

    Raises:
        OutputError: it is of another.
    """
    if path.suffix not in FORMATS:
        raise OutputError(
            f"{path} cannot be drawn; expected a name that ends in {', '.join(FORMATS)}"
        )


def _shown(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
