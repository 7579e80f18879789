"""What a config's model costs: python tools/get_flops.py CONFIG [--scenes 1024 8192] [--views 16]

Nothing is downloaded or allocated: the model is built on torch's meta device. Prints parameters and
memory of every part, and tokens and FLOPs of one answer, by scene size and number of closer views.
"""

import argparse
import json
import math
import sys
from dataclasses import asdict

import torch
from mmengine.config import DictAction

from geomag.engine import checking, flops
from geomag.engine.trainable import build
from geomag.errors import GeoMagError

GIGA = 1e9
TERA = 1e12


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--scenes", type=int, nargs="+", default=[1024, 4096, 16384, 30000])
    parser.add_argument("--views", type=float, nargs="+", default=[0, 16, math.inf])
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    parser.add_argument("--device", default="meta", help="cpu allocates the model (meta)")
    parser.add_argument("--json", action="store_true", help="numbers in full")
    options = parser.parse_args()
    try:
        config = checking.read(options.config, options.cfg_options)
        with torch.device(options.device):
            model = build(config.model)
            counter = flops.Counter(model)
            answers = [
                counter.answer(side, flops.looks_of(side, counter.side, views))
                for side in options.scenes
                for views in options.views
            ]
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parts = flops.parts(model)
    if options.json:
        print(
            json.dumps({"parts": list(map(asdict, parts)), "answers": list(map(asdict, answers))})
        )
        return 0
    print("| part | parameters | train | memory, GB |\n| --- | ---: | ---: | ---: |")
    for part in parts:
        print(f"| {part.name} | {part.parameters:,} | {part.trained:,} | {part.size / GIGA:.2f} |")
    whole = [part for part in parts if "." not in part.name]
    total = (sum(part.parameters for part in whole), sum(part.trained for part in whole))
    memory = sum(part.size for part in whole) / GIGA
    print(f"| all | {total[0]:,} | {total[1]:,} | {memory:.2f} |\n")
    print("| scene side | looks | tokens | encoding | relevance | language | masks | all, TFLOPs |")
    print("| ---: " * 8 + "|")
    for one in dict.fromkeys(answers):
        costs = (one.encoding, one.relevance, one.language, one.masks, one.total)
        shown = " | ".join(f"{cost / TERA:.4g}" for cost in costs)
        print(f"| {one.side} | {one.looks} | {one.tokens} | {shown} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
