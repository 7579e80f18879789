"""What a second prompt on an open GeoTIFF costs: nothing where it was seen before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from geomag import Predictor, geometry
from geomag.contracts import Scene
from geomag.model import GeoMag
from geomag.scenes.raster import RasterScene
from geomag.scenes.raster_file import RasterFile
from geomag.session import Session
from geomag.values import Look, Pixels, Plan, Prompt, View
from tests.scenes.rasters import noise, write
from tests.stand_ins import Closest, Parrot, Shades, Thresholds

SIDE = 16
HEIGHT, WIDTH = 150, 210
ROOT = Path(__file__).resolve().parents[1]
ACCOUNTS = Path("/proc/self/io")


class Pointed:
    """Finds relevant, and ranks, the side of the scene that the prompt names."""

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [_asked(look.view, prompt.text) for look in looks]

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        found = geometry.relevance_of(candidates, looks, relevance)
        return [view for view, how in zip(candidates, found, strict=True) if how]


def _asked(view: View, text: str) -> Tensor:
    """1 for the pixels of a canvas whose centres lie in the half, or the quarter, asked for."""
    x = view.box.left + (torch.arange(SIDE) + 0.5) * view.box.width / view.size.width
    y = view.box.top + (torch.arange(SIDE) + 0.5) * view.box.height / view.size.height
    columns = x > WIDTH * 0.6 if "right" in text else x < WIDTH * 0.4
    rows = y < HEIGHT * 0.4 if "upper" in text else y < HEIGHT
    return (rows[:, None] & columns[None]).float()


def built(overlap: int = 0) -> GeoMag:
    return GeoMag(
        vision_encoder={"type": Shades},
        llm_adapter={"type": Parrot},
        granularity_controller={"type": Closest, "stop_below": 0.5},
        cropper={"type": Pointed},
        mask_head={"type": Thresholds},
        overview_side=SIDE,
        overlap=overlap,
    )


def opened(folder: Path, model: GeoMag, **more: Any) -> Session:
    """A session on a scene that no format can compress, in blocks of 16."""
    path = folder / "scene.tif"
    if not path.exists():
        blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        write(path, noise(3, HEIGHT, WIDTH), **blocks)
    return Predictor(model).open(str(path), **more)


class Watch:
    """What is read and encoded while it is watching."""

    def __init__(self, model: GeoMag, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.views: list[View] = []
        self.calls = self.pixels = 0
        self._scene: Any = scene
        self._bytes = self._scene.bytes_read
        encoder: Any = model.vision_encoder
        encoder.register_forward_hook(self._encoded)
        read, decode = RasterScene.read, RasterFile.read

        def reading(scene: RasterScene, view: View, side: int) -> Pixels:
            self.views.append(view)
            return read(scene, view, side)

        def decoding(file: RasterFile, level: Any, rows: slice, columns: slice) -> Any:
            self.pixels += (rows.stop - rows.start) * (columns.stop - columns.start)
            return decode(file, level, rows, columns)

        monkeypatch.setattr(RasterScene, "read", reading)
        monkeypatch.setattr(RasterFile, "read", decoding)

    def _encoded(self, *_: object) -> None:
        self.calls += 1

    @property
    def bytes(self) -> int:
        return int(self._scene.bytes_read - self._bytes)


@pytest.mark.parametrize("overlap", [0, 4])
@pytest.mark.parametrize("second", ["ships at the left", "cars at the left", "upper left"])
def test_where_it_was_seen_nothing_is_read_or_encoded(
    second: str, overlap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(overlap)
    session = opened(tmp_path, model)
    first = session.ask("ships at the left")
    assert first.cost.new_views > 10
    watch = Watch(model, session.scene, monkeypatch)
    answer = session.ask(second)
    assert (watch.views, watch.calls, watch.pixels, watch.bytes) == ([], 0, 0, 0)
    assert (answer.cost.new_views, answer.cost.pixels_read) == (0, 0)
    assert answer.cost.views > 5
    assert {seen.view for seen in answer.looks} <= {seen.view for seen in first.looks}


@pytest.mark.parametrize("overlap", [0, 4])
def test_elsewhere_only_the_new_views_are_read_and_encoded(
    overlap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(overlap)
    session = opened(tmp_path, model)
    known = {seen.view for seen in session.ask("ships at the left").looks}
    watch = Watch(model, session.scene, monkeypatch)
    answer = session.ask("ships at the right")
    new = [seen.view for seen in answer.looks if seen.view not in known]
    assert 10 < len(new) < len(answer.looks)
    assert sorted(map(str, watch.views)) == sorted(map(str, new))
    assert watch.calls == answer.cost.new_views == len(new)
    assert answer.cost.pixels_read == sum(view.size.area for view in new)
    alone = RasterScene(tmp_path / "scene.tif")
    for view in new:
        alone.read(view, SIDE)
    assert watch.bytes == alone.bytes_read > 0


def test_what_the_cache_let_go_is_read_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built()
    looks = opened(tmp_path, model).ask("ships at the left").cost.views
    # Pixels, where they are valid, and the two levels of features.
    look = SIDE**2 * (3 * 4 + 1) + (SIDE // 2) ** 2 * 3 * 4 + (SIDE // 4) ** 2 * 3 * 4
    session = opened(tmp_path, model, cache_bytes=(looks - 3) * look)
    first = session.ask("ships at the left")
    watch = Watch(model, session.scene, monkeypatch)
    answer = session.ask("upper left")
    assert {seen.view for seen in answer.looks} < {seen.view for seen in first.looks}
    # The overview was asked for first, so it is one of the three that went.
    assert 1 <= answer.cost.new_views == watch.calls == len(watch.views) < answer.cost.views


SCRIPT = """
import sys
from pathlib import Path
from tests.test_second_prompt import built, opened, rchar
session = opened(Path(sys.argv[1]), built())
session.ask("ships at the left")
for prompt in ("cars at the left", "cars at the right"):
    before, own = rchar()
    session.ask(prompt)
    print(rchar()[0] - before - own)
"""


def rchar() -> tuple[int, int]:
    """Bytes that this process has read from anywhere, and those that asking for it will add."""
    with ACCOUNTS.open("rb", buffering=0) as file:
        content = file.read()
    return int(content.split()[1]), len(content)


@pytest.mark.skipif(not ACCOUNTS.exists(), reason="the system does not count what a process reads")
def test_the_system_counts_no_byte_for_it(tmp_path: Path) -> None:
    opened(tmp_path, built())
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # Without GDAL's own cache every block counts as often as it is asked for.
        env={**os.environ, "PYTHONPATH": str(ROOT), "GDAL_CACHEMAX": "0"},
    )
    assert ran.returncode == 0, ran.stderr
    seen, elsewhere = map(int, ran.stdout.split())
    assert seen == 0
    assert elsewhere > WIDTH * 0.4 * HEIGHT * 3
