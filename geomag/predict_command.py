"""`geomag predict`: the Python interface, typed in a shell."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import GeoMagError, SceneError

if TYPE_CHECKING:
    from .answer import Answer
    from .inference import Predictor
    from .predict_request import Request
    from .session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what can be asked for."""
    parser.usage = "geomag predict [options] SCENE [SCENE ...] PROMPT"
    parser.add_argument(
        "given",
        metavar="SCENE ... PROMPT",
        nargs="+",
        help="GeoTIFF, PNG, JPEG or WebP files, or folders of GeoTIFFs that make one scene each; "
        'then a question, as in "every airplane"',
    )
    what = parser.add_argument_group("what is asked")
    what.add_argument(
        "--prompts",
        metavar="FILE",
        help="a text file with a prompt on each line (# begins a comment), instead of PROMPT",
    )
    what.add_argument(
        "--classes",
        metavar="NAMES",
        help="instead of PROMPT, names as in ship,airplane, among which a map divides the scene",
    )
    what.add_argument(
        "--region",
        metavar="REGION",
        help="the part of the scene to look at: xmin,ymin,xmax,ymax in its coordinate reference "
        "system (in pixels where it has none), or polygons in a .geojson, .gpkg or .shp file",
    )
    what.add_argument(
        "--each", action="store_true", help="every image in a folder is a scene of its own"
    )
    what.add_argument(
        "--shard", metavar="I/N", help="of many scenes only every Nth one from the Ith on"
    )
    _add_outputs(parser.add_argument_group("what comes out"))
    _add_limits(parser.add_argument_group("how closely to look (the model decides what is left)"))
    model = parser.add_argument_group("the model")
    model.add_argument("--config", help="config of another model than the embedded one")
    model.add_argument("--checkpoint", help="weights of that model, .safetensors or .pth")
    model.add_argument("--device", help="where to compute, as in cpu or cuda:0")
    model.add_argument(
        "--threshold", default="0.5", help="probability above which a pixel is marked (0.5)"
    )
    model.add_argument(
        "--overlap",
        metavar="PIXELS",
        help="how much neighbouring views share: masks blend there, at the cost of more views",
    )
    _forgive(parser)


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        action="append",
        default=[],
        help="where to write the answer: .geojson, .gpkg (outlines), .tif (mask), .png (picture), "
        ".json (everything), no ending for a folder with the last two; may be given several "
        "times. {scene} and {prompt} in a name stand for those, as several of them need",
    )
    group.add_argument(
        "--explain",
        metavar="FILE.png",
        help="picture of where the model looked, how closely, and how relevant it found that",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="say how closely the model would look and what that costs at most; look at nothing",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-views",
        metavar="N",
        help="views beyond the overview: 0 for none, 'all' for the whole scene at full resolution",
    )
    group.add_argument(
        "--max-tokens", metavar="N", help="visual tokens for the language model, 1 at least"
    )
    group.add_argument(
        "--resolution",
        metavar="R",
        help="metres per pixel at which a look is fine enough (of a scene that has no ground "
        "resolution: scene pixels per pixel)",
    )


def _forgive(parser: argparse.ArgumentParser) -> None:
    """Lets scenes and prompt stand between options, and bounds begin with a minus; argparse takes
    the first for too much where their number is open, and the second for an option."""
    strict = parser.parse_known_args

    def forgiving(
        words: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        joined: list[str] = []
        for word in sys.argv[1:] if words is None else words:
            if joined and joined[-1] == "--region" and re.match(r"-[\d.]", word):
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        found, rest = strict(joined, namespace)
        if not any(word.startswith("-") for word in rest):
            found.given += rest
            rest = []
        return found, rest

    parser.parse_known_args = forgiving  # type: ignore[method-assign, assignment]


def run(arguments: argparse.Namespace) -> str:
    """Answers and saves; returns the text of the answer and what it cost, a line each.

    Raises:
        GeoMagError: something that was given cannot be used; nothing is half-written then.
    """
    # Late, so that `geomag --help` does not wait for torch.
    from .predict_request import checked

    request = checked(arguments)
    if arguments.dry_run:
        return "\n".join(_forecasts(request, _predictor(arguments, request)))
    if request.job:
        return _job(arguments, request)
    from .scenes import open_scene
    from .scenes.clip import ClippedScene

    # Before the model: this fails sooner.
    (path,) = request.scenes
    scene = open_scene(_prepared(path))
    if request.region is not None:
        scene = ClippedScene(scene, request.region)
    session = _predictor(arguments, request).open(scene)
    if request.classes:
        return _mapped(session, request, path)
    answers = _asked(session, request)
    written = [*_saved(answers, request, path), *_explained(answers, request, path)]
    lines = [line for answer in answers for line in _lines(answer, len(answers) > 1)]
    note = getattr(scene, "note", None)
    lines += [note] if note else []
    return "\n".join([*lines, *(f"wrote {file}" for file in written)])


def _predictor(arguments: argparse.Namespace, request: Request) -> Predictor:
    from .inference import Predictor

    device, threshold, overlap = arguments.device, request.threshold, request.overlap
    if arguments.config is None:
        return Predictor.default(device, threshold=threshold, overlap=overlap)
    return Predictor.from_config(
        arguments.config, arguments.checkpoint, device, threshold=threshold, overlap=overlap
    )


def _asked(session: Session, request: Request) -> list[Answer]:
    return session.ask(list(request.prompts), **asdict(request.limits))


def _lines(answer: Answer, several: bool) -> Iterator[str]:
    """What is printed of an answer."""
    text = answer.text or "(no text)"
    yield f"{answer.prompt}: {text}" if several else text
    yield str(answer.cost)
    if answer.note:
        yield answer.note


def _mapped(session: Session, request: Request, scene: Path) -> str:
    """Divides the scene among classes."""
    from .naming import written_by
    from .predict_request import MAP

    found = session.segment(request.classes, **asdict(request.limits))
    files = [path for path, _ in written_by(request.outputs, scene, MAP)]
    written = [str(file) for path in files for file in found.save(path)]
    return "\n".join([found.text, str(found.cost), *(f"wrote {file}" for file in written)])


def _saved(answers: Sequence[Answer], request: Request, scene: Path) -> Iterator[Path]:
    from .answer import save_all
    from .naming import written_by

    for path, places in written_by(request.outputs, scene, request.prompts):
        chosen = [answers[place] for place in places]
        yield from chosen[0].save(path) if len(chosen) == 1 else [save_all(chosen, path)]


def _explained(answers: Sequence[Answer], request: Request, scene: Path) -> Iterator[Path]:
    from .naming import written_by

    for path, (place,) in written_by(request.explain, scene, request.prompts):
        yield answers[place].explain(path)


def _forecasts(request: Request, predictor: Predictor) -> Iterator[str]:
    """What each prompt would cost at most; files are opened, and their pixels left alone."""
    number, count = request.shard
    answers = views = 0
    for path in request.scenes[number - 1 :: count]:
        try:
            session = predictor.open(path, region=request.region)
            for prompt in request.prompts:
                found = session.forecast(prompt, **asdict(request.limits))
                answers, views = answers + 1, views + found.views
                yield f"{path}, {prompt!r}: {found}"
        except SceneError as error:
            if not request.job:
                raise
            yield f"{path} would fail: {error}"
    if request.job or len(request.prompts) > 1:
        yield f"in all: {answers} answers, at most {views} views"


def _job(arguments: argparse.Namespace, request: Request) -> str:
    """Answers about many scenes, with a manifest of what is done."""
    from . import job

    predictor = _predictor(arguments, request)

    def ask(scene: Path) -> list[Answer]:
        session = predictor.open(_prepared(scene, progress=False), region=request.region)
        answers = _asked(session, request)
        list(_explained(answers, request, scene))
        return answers

    settings = {
        "model": predictor.name,
        "config": arguments.config,
        "checkpoint": arguments.checkpoint,
        "threshold": request.threshold,
        "overlap": request.overlap,
        "region": arguments.region,
        "explain": arguments.explain,
        **asdict(request.limits),
    }
    report = job.run(
        job.Job(request.scenes, request.prompts, request.outputs, settings, request.shard),
        ask,
        lambda line: sys.stderr.write(f"{line}\n"),
    )
    if report.failed:
        raise GeoMagError(str(report))
    return str(report)


def _prepared(path: Path, progress: bool = True) -> Path:
    """The scene, or what stands for it, with overviews where it is a large raster."""
    from .scenes import tiff

    if find_spec("rasterio") and path.is_file() and tiff.kind(path) == "TIFF":
        from .scenes.overviews import prepare

        return prepare(path, progress=progress)
    return path
