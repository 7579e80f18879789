"""What a session answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__
from .contracts import Scene
from .errors import OutputError
from .export import raster, vector
from .export.features import Features, features, georeference_of
from .export.shown import SeenView, Shown
from .masks import SceneMask
from .scenes.georeference import Georeference
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

    `shown` and `scene` are what it is made of; the properties are what people ask for. `model` says
    whose answer it is, name and version, where that is known, and `presence` below which score it
    takes a mask for nothing.
    """

    shown: Shown
    scene: Scene
    cost: Cost
    model: str = ""
    presence: float = 0.0

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
    def georeference(self) -> Georeference | None:
        """Where the pixels of the scene lie on the ground, where it says so."""
        return georeference_of(self.scene)

    @property
    def refused(self) -> bool:
        """Whether a region was asked for and nothing in the scene was pointed at."""
        pointed = bool(self.boxes) or not all(mask.empty for mask in self.masks)
        return not pointed and self.level is not Level.IMAGE

    @property
    def note(self) -> str:
        """What a reader of `text` should know: that the masks it announces scored too low."""
        if not self.scores or max(self.scores) >= self.presence:
            return ""
        return (
            f"nothing scored above the presence threshold {self.presence:.2f} of the model, the "
            f"best {max(self.scores):.2f}: the masks are empty"
        )

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes what the ending asks for: `.json` everything, `.png` a picture, `.geojson` and
        `.gpkg` outlines, `.tif` a mask, none a folder of the first two. Files appear whole or not
        at all. Returns what was written.

        Raises:
            OutputError: the ending is another one, the place cannot be written to, or a package is
                not installed.
        """
        path = Path(path)
        check_ending(path)
        paths = [path] if path.suffix else [path / f"answer{ending}" for ending in ALONE]
        for file in paths:
            ending = file.suffix.lower()
            with replacing(file) as temporary:
                if ending in ALONE:
                    ALONE[ending](self, temporary)
                else:
                    TOGETHER[ending]([self], temporary)
        return paths

    def explain(self, path: str | os.PathLike[str]) -> Path:
        """Writes a picture, `.png`, of where the model looked, how closely, and how relevant it
        found what was there. The file appears whole or not at all.

        Raises:
            OutputError: the ending is another one, or the place cannot be written to.
        """
        from .export.explain import check_picture, draw_looks

        path = Path(path)
        check_picture(path)
        with replacing(path) as temporary:
            _write_png(draw_looks(self.scene, self.shown, str(self.cost)), temporary)
        return path

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
            "model": self.model,
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


def save_all(answers: Sequence[Answer], path: str | os.PathLike[str]) -> Path:
    """Writes several answers to one file: `.json` a list of them, `.geojson` and `.gpkg` the
    outlines of all, `.tif` a band for each. The file appears whole or not at all.

    Raises:
        OutputError: the ending is another one, there is no answer, they do not go together, the
            place cannot be written to, or a package is not installed.
    """
    path = Path(path)
    writer = TOGETHER.get(path.suffix.lower())
    if writer is None:
        raise OutputError(
            f"{path}: expected {', '.join(TOGETHER)} for several answers in one file; save each by "
            "itself in other forms"
        )
    if not answers:
        raise OutputError(f"{path}: there is no answer to write; ask something first")
    with replacing(path) as temporary:
        writer(answers, temporary)
    return path


def check_ending(path: Path) -> None:
    """Lets pass what `Answer.save` can write.

    Raises:
        OutputError: it has another ending.
    """
    known = ALONE | TOGETHER
    if path.suffix and path.suffix.lower() not in known:
        raise OutputError(
            f"{path}: {path.suffix} is not written; expected {', '.join(known)}, or no ending for "
            f"a folder with {' and '.join(ALONE)}"
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
    _dump(answer.to_json(), path)


def _write_list(answers: Sequence[Answer], path: Path) -> None:
    _dump([answer.to_json() for answer in answers], path)


def _dump(values: object, path: Path) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _write_picture(answer: Answer, path: Path) -> None:
    from .export.picture import draw

    _write_png(draw(answer.scene, answer.shown), path)


def _write_png(picture: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, format="PNG")


def _write_geojson(answers: Sequence[Answer], path: Path) -> None:
    vector.write_geojson(path, _features(answers))


def _write_geopackage(answers: Sequence[Answer], path: Path) -> None:
    vector.write_geopackage(path, _features(answers))


def _features(answers: Sequence[Answer]) -> list[Features]:
    return [features(answer.scene, answer.shown, answer.model) for answer in answers]


def _write_masks(answers: Sequence[Answer], path: Path) -> None:
    size, georeference = answers[0].scene.info.size, answers[0].georeference
    for answer in answers[1:]:
        if (answer.scene.info.size, answer.georeference) != (size, georeference):
            raise OutputError(
                f"{answer.scene.info.name} and {answers[0].scene.info.name} cover different "
                "ground, and the bands of a .tif file one and the same; save each by itself"
            )
    bands = [raster.Band(answer.prompt, answer.masks) for answer in answers]
    raster.write_masks(path, georeference, size, bands)


ALONE: dict[str, Callable[[Answer, Path], None]] = {".json": _write_json, ".png": _write_picture}
"""How one answer is written; without an ending, in all of these ways."""
TOGETHER: dict[str, Callable[[Sequence[Answer], Path], None]] = {
    ".json": _write_list,
    ".geojson": _write_geojson,
    ".gpkg": _write_geopackage,
    ".tif": _write_masks,
    ".tiff": _write_masks,
}
"""How several answers are written to one file."""
