"""Asks about an image, or about a drawn scene: python tools/demo.py [--scene FILE] [--prompt TEXT]

Uses the weights that plugins/tiny ships.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geomag.answer import Answer

# Scenes of seeds 0 and 1 are for training and testing.
SEED, NUMBER = 2, 0
SIDE = 720


def main() -> int:
    """Answers, and prints what was asked, what came of it, and where it lies."""
    options = _parser().parse_args()
    from geomag import Predictor
    from geomag.errors import GeoMagError

    try:
        file = options.scene or draw_scene(options.out)
        answer = Predictor.default().open(file).ask(options.prompt)
        lines = [f"scene   {file}", *report(answer)]
        lines += [f"wrote   {path}" for path in save(answer, options.out)]
        print("\n".join(lines))
    except GeoMagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Asks GeoMag about an image or a drawn scene.")
    parser.add_argument("--scene", type=Path, help="an image of yours (a drawn scene)")
    parser.add_argument("--prompt", default="every airplane", help="(every airplane)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="(out/demo)")
    return parser


def draw_scene(folder: Path) -> Path:
    """Draws a scene that no training sees, and returns its file."""
    from PIL import Image

    from geomag.data.drawn import DrawnScenes
    from geomag.geometry import overview
    from geomag.weights import replacing

    scene = DrawnScenes(length=NUMBER + 1, size=SIDE, seed=SEED)[NUMBER].scene
    seen = scene.read(overview(scene.info.size, SIDE), SIDE)
    path = folder / "scene.png"
    with replacing(path) as temporary:
        picture = (seen.pixels * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(temporary, format="PNG")
    return path


def report(answer: Answer) -> list[str]:
    """What was asked and what came of it, a line each."""
    lines = [f"prompt  {answer.prompt}", f"answer  {answer.text or '(no text)'}"]
    if answer.refused:
        lines.append("refused nothing in the scene was pointed at")
    for number, mask in enumerate(answer.masks, 1):
        lines.append(f"mask {number}  {mask.area} pixels, score {mask.score:.2f}")
    return [*lines, f"cost    {answer.cost}"]


def save(answer: Answer, folder: Path) -> list[Path]:
    """Text, picture of what it looked at and found, and everything as JSON; the masks by themselves
    as pictures, and as COCO run lengths. Returns the files."""
    from PIL import Image

    from geomag.weights import replacing

    for stale in folder.glob("mask-*.png"):
        stale.unlink()
    written = answer.save(folder)
    texts = {
        folder / "answer.txt": "\n".join(report(answer)),
        folder / "masks.json": json.dumps([mask.to_rle() for mask in answer.masks]),
    }
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    for number, mask in enumerate(answer.masks, 1):
        path = folder / f"mask-{number}.png"
        with replacing(path) as temporary:
            Image.fromarray(mask.to_dense()).save(temporary, format="PNG")
        written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(main())
