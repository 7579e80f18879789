"""Lays large scenes out of a data set's images: python tools/make_mosaics.py --out FOLDER

Writes images/*.png and annotations/instances.json in the COCO layout. They depend on the data and
the arguments alone: run again, it writes the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

DATA_VARIABLE = "GEOMAG_DATA"


def main() -> int:
    """Writes the mosaics and says where they lie; returns 2, with one line, where it cannot."""
    options = _parser().parse_args()
    from geomag.errors import GeoMagError

    try:
        labels = write(options)
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(f"wrote {options.out}: {options.count} images, {labels} labels")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Lays large scenes out of the images of a data set in the COCO layout."
    )
    data = Path(os.environ.get(DATA_VARIABLE) or "data")
    labels = "annotations/instances_val.json"
    parser.add_argument("--data", type=Path, default=data, help=f"(data, or {DATA_VARIABLE})")
    parser.add_argument("--root", default="nwpu_vhr10", help="a folder in it (nwpu_vhr10)")
    parser.add_argument("--annotations", default=labels, help=f"a file in that ({labels})")
    parser.add_argument("--side", type=int, default=2048, help="pixels along each side (2048)")
    parser.add_argument("--count", type=int, default=20, help="how many mosaics (20)")
    parser.add_argument("--seed", type=int, default=0, help="another one lays others (0)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    return parser


def write(options: argparse.Namespace) -> int:
    """Writes the mosaics that were asked for; returns how many labels they hold."""
    from geomag.data.coco import CocoInstances
    from geomag.data.coco_writing import write_coco
    from geomag.data.mosaics import Mosaics

    root = options.data / options.root
    parts = CocoInstances(root, options.annotations, tasks=())
    mosaics = Mosaics(parts, options.count, (options.side,), options.seed, tasks=())
    # With the numbers that the classes have there; that it can be read is known by now.
    categories = json.loads((root / options.annotations).read_bytes())["categories"]
    numbers = tqdm(range(options.count), desc="mosaics", disable=None, dynamic_ncols=True)
    return write_coco((mosaics[number] for number in numbers), categories, options.out)


if __name__ == "__main__":
    sys.exit(main())
