from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomag.errors import OutputError
from geomag.export import layers
from geomag.export.explain import draw_looks
from geomag.export.shown import SeenView
from geomag.geometry import overview, tiles
from geomag.values import Size
from tests.export.answers import answer


def looked(size: Size, relevance: float | None = 0.0) -> tuple[SeenView, ...]:
    """The overview and four native looks, of which the third is the relevant one."""
    views = [overview(size, 64), *tiles(size, 64, 1)[:4]]
    maps = [None if relevance is None else np.full((8, 8), relevance, np.float32) for _ in views]
    if relevance is not None and len(maps) > 3:
        maps[3] = np.ones((8, 8), np.float32)
    return tuple(SeenView(view, found) for view, found in zip(views, maps, strict=True))


def drawn(size: Size, relevance: float | None = 0.0) -> np.ndarray:
    found = answer(np.zeros((size.height, size.width), bool))
    shown = replace(found.shown, views=looked(size, relevance))
    return draw_looks(found.scene, shown, str(found.cost)).astype(int)


def warm(picture: np.ndarray) -> np.ndarray:
    """Where there is more red than blue, by far."""
    return picture[..., 0] - picture[..., 2] > 60


def test_heat_is_where_it_was_relevant() -> None:
    size = Size(500, 500)
    picture, cold = drawn(size), drawn(size, relevance=None)
    height = layers.stage(size).size.height
    panel = np.s_[16 : 16 + height, 16 + height + 16 : 16 + 2 * height + 16]
    rows, columns = np.nonzero(warm(picture)[panel])
    # The third of eight columns of 64 scene pixels.
    scale = height / 500
    assert abs(rows.max() - 64 * scale) < 3
    assert abs(columns.min() - 128 * scale) < 3
    assert abs(columns.max() - 192 * scale) < 3
    assert not warm(cold)[panel].any()


@pytest.mark.parametrize("size", [Size(1, 1), Size(3, 900), Size(900, 3), Size(300, 400)])
def test_any_shape_is_drawn(size: Size) -> None:
    picture = drawn(size)
    assert picture.min() >= 0
    assert picture.max() <= 255
    height, width = picture.shape[:2]
    assert max(height, width) < 2400
    # Wide scenes have their panels one above the other.
    frame = layers.SCALES[1] if size.width > 64 or size.height > 64 else None
    if frame:
        assert (picture == frame).all(-1).any()


def test_it_is_written_as_png_or_not_at_all(tmp_path: Path) -> None:
    found = answer(np.zeros((90, 70), bool))
    found = replace(found, shown=replace(found.shown, views=looked(Size(90, 70))))
    assert found.explain(tmp_path / "new" / "why.PNG") == tmp_path / "new" / "why.PNG"
    with Image.open(tmp_path / "new" / "why.PNG") as picture:
        assert picture.format == "PNG"
    with pytest.raises(OutputError, match=r"why\.jpg: looks are drawn as a picture"):
        found.explain(tmp_path / "why.jpg")
    with pytest.raises(OutputError, match="cannot be written"):
        found.explain(tmp_path / "new" / "why.PNG" / "a.png")
    assert len(list(tmp_path.rglob("*"))) == 2
