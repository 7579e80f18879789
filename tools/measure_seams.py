"""How visible are the borders of looks in masks? python tools/measure_seams.py [--overlaps 0 32 64]

Asks "every CLASS" of mosaics of NWPU VHR-10 val, everything at full resolution, and compares the
step of the probability from one pixel to the next across the borders of looks with that anywhere
else, where the mask is not nowhere on both sides. 1 means that borders do not show.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import machine
import numpy as np
from numpy.typing import NDArray

from geomag.data.coco import CocoInstances
from geomag.data.facts import Facts
from geomag.data.mosaics import Mosaics
from geomag.errors import GeoMagError
from geomag.inference import Predictor
from geomag.masks import SceneMask

DATA_SET = "nwpu_vhr10"
SOMEWHERE = 0.1
"""Steps count where the probability reaches this on one side at least."""
Steps = tuple[float, int]
"""The sum of some steps, and how many there are."""


def main() -> int:
    """Prints a row for each overlap; returns 2 where the user is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(os.environ.get("GEOMAG_DATA") or "data")
    parser.add_argument("--data", type=Path, default=folder, help=f"holds {DATA_SET}")
    parser.add_argument("--overlaps", type=int, nargs="+", default=[0, 32, 64])
    parser.add_argument("--count", type=int, default=3, help="mosaics (3)")
    parser.add_argument("--side", type=int, default=2048, help="of a mosaic, in pixels (2048)")
    options = parser.parse_args()
    try:
        rows = [_row(options, overlap) for overlap in options.overlaps]
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(machine.table(("overlap", "views", "step at borders", "elsewhere", "ratio"), rows))
    print(machine.note())
    return 0


def _row(options: argparse.Namespace, overlap: int) -> tuple[str, ...]:
    predictor = Predictor.default(overlap=overlap)
    predictor.model.presence = 0.0
    scenes = CocoInstances(
        options.data / DATA_SET, "annotations/instances_val.json", tasks=("class",)
    )
    large = Mosaics(scenes, options.count, (options.side,), 0, ("class",))
    border, other, views = (0.0, 0), (0.0, 0), 0
    for index in range(len(large)):
        sample = large[index]
        session = predictor.open(sample.scene)
        for kind in Facts(sample).in_order(present=True):
            answer = session.ask(f"every {kind.name.replace('_', ' ')}", max_views=math.inf)
            views = answer.cost.views
            for mask in answer.masks:
                for at_border, elsewhere in _steps(mask):
                    border, other = _sum(border, at_border), _sum(other, elsewhere)
    means = [total / max(count, 1) for total, count in (border, other)]
    ratio = means[0] / means[1] if means[1] else math.nan
    return str(overlap), str(views), f"{means[0]:.4f}", f"{means[1]:.4f}", f"{ratio:.2f}"


def _steps(mask: SceneMask) -> Iterator[tuple[Steps, Steps]]:
    """Steps across borders of the finest looks, and all others, along both axes."""
    probability = mask.probability()
    finest = [tile.view.box for tile in mask.tiles if tile.view.scale == 1]
    for axis, ends in (
        (0, {edge for box in finest for edge in (box.top, box.bottom)}),
        (1, {edge for box in finest for edge in (box.left, box.right)}),
    ):
        along: NDArray[np.float32] = np.moveaxis(probability, axis, 0)
        step = np.abs(np.diff(along, axis=0))
        counts = np.maximum(along[1:], along[:-1]) >= SOMEWHERE
        edges = np.zeros(len(step), bool)
        edges[[int(end) - 1 for end in ends if 0 < end < len(along)]] = True
        yield _over(step[edges], counts[edges]), _over(step[~edges], counts[~edges])


def _over(step: NDArray[np.float32], counts: NDArray[np.bool_]) -> Steps:
    return float(step[counts].sum()), int(np.count_nonzero(counts))


def _sum(one: Steps, other: Steps) -> Steps:
    return one[0] + other[0], one[1] + other[1]


if __name__ == "__main__":
    sys.exit(main())
