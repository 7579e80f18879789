"""What a session answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .contracts import Scene
from .errors import OutputError
from .export.shown import SeenView, Shown
from .masks import SceneMask
from .values import Box, Level
from .weights import replacing


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer took.

    `views` counts the overview too, `new_views` those that no earlier prompt had paid for, and
    `pixels_read` the pixels of the new ones. `share` is what all views show over what the scene
    has; it exceeds 1 where the overview shows again what closer looks show.
    """

    views: int
    new_views: int
    pixels_read: int
    share: float
    tokens: int
    seconds: float

    def __str__(self) -> str:
        views = "view" if self.views == 1 else "views"
        tokens = "token" if self.tokens == 1 else "tokens"
        return (
            f"{self.views} {views} ({self.new_views} new), {self.share:.1%} of the scene's pixels, "
            f"{self.tokens} {tokens}, {self.seconds:.2f} s"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to one prompt, in pixels of the scene.

    `shown` and `scene` are what it is made of; the properties are what people ask for.
    """

    shown: Shown
    scene: Scene
    cost: Cost

    @property
    def prompt(self) -> str:
        """What was asked."""
        return self.shown.prompt

    @property
    def text(self) -> str:
        """What the model said, without the markers that stand for masks and boxes."""
        return self.shown.text

    @property
    def level(self) -> Level:
        """How fine an answer the prompt was taken to ask for."""
        return self.shown.level

    @property
    def masks(self) -> tuple[SceneMask, ...]:
        """What was asked for, query by query; an empty mask says that it is not there."""
        return self.shown.masks

    @property
    def scores(self) -> tuple[float, ...]:
        """How sure the model is of each mask, in [0, 1]."""
        return tuple(mask.score for mask in self.masks)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes that the text names, in order."""
        return self.shown.boxes

    @property
    def looks(self) -> tuple[SeenView, ...]:
        """Where the model looked, in that order, and how relevant it found what it saw."""
        return self.shown.views

    @property
    def refused(self) -> bool:
        """Whether a region was asked for and nothing in the scene was pointed at."""
        pointed = bool(self.boxes) or not all(mask.empty for mask in self.masks)
        return not pointed and self.level is not Level.IMAGE

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes what the ending asks for: `.json` everything, `.png` a picture, none a folder of
        both. Files appear whole or not at all. Returns what was written.

        Raises:
            OutputError: the ending is another one, or the place cannot be written to.
        """
        path = Path(path)
        check_ending(path)
        paths = [path] if path.suffix else [path / f"answer{ending}" for ending in WRITERS]
        for file in paths:
            with replacing(file) as temporary:
                WRITERS[file.suffix.lower()](self, temporary)
        return paths

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain values; masks as COCO run lengths."""
        info = self.scene.info
        return {
            "geomag": __version__,
            "scene": {
                "name": info.name,
                "height": info.size.height,
                "width": info.size.width,
                "resolution": info.resolution,
            },
            "prompt": self.prompt,
            "text": self.text,
            "level": str(self.level),
            "refused": self.refused,
            "masks": [_mask(mask) for mask in self.masks],
            "boxes": [_edges(box) for box in self.boxes],
            "looks": [
                {
                    "box": _edges(seen.view.box),
                    "size": [seen.view.size.height, seen.view.size.width],
                    "relevance": seen.relevance,
                }
                for seen in self.looks
            ],
            "cost": asdict(self.cost),
        }


def check_ending(path: Path) -> None:
    """Lets pass what `Answer.save` can write.

    Raises:
        OutputError: it has another ending.
    """
    if path.suffix and path.suffix.lower() not in WRITERS:
        raise OutputError(
            f"{path}: {path.suffix} is not written; expected {', '.join(WRITERS)}, or no ending "
            "for a folder with all of them"
        )


def _mask(mask: SceneMask) -> dict[str, object]:
    box = mask.box
    return {
        "query": mask.query,
        "score": mask.score,
        "area": mask.area,
        "box": None if box is None else _edges(box),
        "rle": mask.to_rle(),
    }


def _edges(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


def _write_json(answer: Answer, path: Path) -> None:
    path.write_text(json.dumps(answer.to_json(), indent=1) + "\n", encoding="utf-8")


def _write_picture(answer: Answer, path: Path) -> None:
    from PIL import Image

    from .export.picture import draw

    Image.fromarray(draw(answer.scene, answer.shown)).save(path, format="PNG")


WRITERS: Mapping[str, Callable[[Answer, Path], None]] = {
    ".json": _write_json,
    ".png": _write_picture,
}
