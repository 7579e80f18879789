"""`geomag predict`: the Python interface, typed in a shell."""

from __future__ import annotations

import argparse
import math
from importlib.util import find_spec
from pathlib import Path

from .errors import ConfigError

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what can be asked for."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="GeoTIFF, PNG, JPEG or WebP file, or a folder of GeoTIFFs that make one scene",
    )
    parser.add_argument("prompt", metavar="PROMPT", help='a question, as in "every airplane"')
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        action="append",
        default=[],
        help="where to write the answer: .geojson, .gpkg (outlines), .tif (mask), .png (picture), "
        ".json (everything), no ending for a folder with the last two; may be given several times",
    )
    parser.add_argument(
        "--max-views",
        metavar="N",
        type=_views,
        help=f"views beyond the overview: 0 for none, '{ALL}' for the whole scene at full "
        "resolution; where it is not given, the model decides",
    )
    parser.add_argument("--config", help="config of another model than the embedded one")
    parser.add_argument("--checkpoint", help="weights of that model, .safetensors or .pth")
    parser.add_argument("--device", help="where to compute, as in cpu or cuda:0")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="probability above which a pixel is marked"
    )


def run(arguments: argparse.Namespace) -> str:
    """Answers and saves; returns the text of the answer and what it cost, a line each.

    Raises:
        GeoMagError: something that was given cannot be used; nothing is half-written then.
    """
    if (arguments.config is None) != (arguments.checkpoint is None):
        raise ConfigError("--config and --checkpoint are of no use without each other; give both")
    # Late, so that `geomag --help` does not wait for torch.
    from .answer import check_ending
    from .inference import Predictor

    for out in arguments.out:
        check_ending(Path(out))
    if arguments.config is None:
        predictor = Predictor.default(arguments.device, threshold=arguments.threshold)
    else:
        predictor = Predictor.from_config(
            arguments.config,
            arguments.checkpoint,
            arguments.device,
            threshold=arguments.threshold,
        )
    session = predictor.open(_prepared(arguments.image))
    answer = session.ask(arguments.prompt, max_views=arguments.max_views)
    written = [str(path) for out in arguments.out for path in answer.save(out)]
    lines = [answer.text or "(no text)", str(answer.cost)]
    note = getattr(session.scene, "note", None)
    lines += [note] if note else []
    return "\n".join([*lines, *(f"wrote {path}" for path in written)])


def _prepared(image: str) -> str:
    """The image, or what stands for it, with overviews where it is a large raster."""
    from .scenes import tiff

    if find_spec("rasterio") and Path(image).is_file() and tiff.kind(Path(image)) == "TIFF":
        from .scenes.overviews import prepare

        return str(prepare(image))
    return image


def _views(text: str) -> float:
    if text == ALL:
        return math.inf
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number or '{ALL}'")
    return int(text)
