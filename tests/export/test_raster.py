from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from pyproj import CRS

from geomag.answer import save_all
from geomag.errors import OutputError
from geomag.export.layers import MASKS
from geomag.export.raster import category_names, write_class_map
from geomag.outline import Window
from geomag.scenes.georeference import Georeference
from geomag.values import Size
from tests.export.answers import TENTH, UTM, WGS84, answer, native, ring_with_island

NOT_PLACED = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",
)


def speckled(seed: int = 0, height: int = 700, width: int = 1300) -> np.ndarray:
    """Noise in the right half of more than one block."""
    dense = np.random.default_rng(seed).random((height, width)) < 0.3
    dense[:, : width // 2] = False
    return dense


@pytest.mark.parametrize(
    "place",
    [
        TENTH,
        Georeference(UTM, (0.08, 0.06, 612345.6, 0.06, -0.08, 5345678.9)),
        Georeference(UTM, (0.1, 0.0, 612345.6, 0.0, 0.1, 5345678.9)),
        Georeference(WGS84, (1e-6, 0.0, 9.0, 0.0, -1e-6, 48.0)),
        Georeference(CRS.from_epsg(3857).to_wkt(), (0.3, 0.0, 1e6, 0.0, -0.3, 6e6)),
    ],
    ids=["north", "rotated", "south", "degrees", "mercator"],
)
def test_a_mask_is_a_cloud_optimised_geotiff(place: Georeference, tmp_path: Path) -> None:
    dense = speckled()
    answer(dense, georeference=place, prompt="every ship, été").save(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert CRS.from_wkt(file.crs.to_wkt()) == CRS.from_wkt(place.crs)
        assert file.transform[:6] == pytest.approx(place.transform, rel=1e-14)
        assert (file.dtypes, file.nodata) == (("uint8",), 255)
        assert file.descriptions == ("every ship, été",)
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1)
        assert file.colormap(1)[1] == (*MASKS[0], 255)
        assert np.array_equal(file.read(1), dense)
        assert not (file.read(1) == 255).any()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@NOT_PLACED
def test_several_prompts_are_several_bands(tmp_path: Path) -> None:
    one, other = speckled(0), speckled(1)[::-1].copy()
    found = [answer(native(one), native(other)), answer(other, prompt="water")]
    save_all(found, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.descriptions == ("every ship", "water")
        assert np.array_equal(file.read(1), one | other)
        assert np.array_equal(file.read(2), other)
        assert file.crs is None
        assert file.transform.is_identity


@NOT_PLACED
@pytest.mark.parametrize("size", [(1, 1), (1, 600), (3, 5)])
def test_small_and_empty_masks_are_written_too(size: tuple[int, int], tmp_path: Path) -> None:
    for dense in (np.zeros(size, bool), np.ones(size, bool)):
        answer(dense).save(tmp_path / "a.tif")
        with rasterio.open(tmp_path / "a.tif") as file:
            assert np.array_equal(file.read(1), dense)


def test_bands_cover_the_same_ground(tmp_path: Path) -> None:
    here = answer(ring_with_island(), georeference=TENTH)
    there = answer(ring_with_island(), name="elsewhere.tif")
    with pytest.raises(OutputError, match=r"elsewhere\.tif and harbour\.tif cover different"):
        save_all([here, there], tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


def test_a_class_map_has_numbers_names_and_colours(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 4, (86, 100)).astype(np.uint8)
    numbers = coarse.repeat(7, axis=0).repeat(7, axis=1)[:600]
    blocks = [
        (Window(left, top, min(left + 512, 700), min(top + 512, 600)), numbers[top:, left:])
        for top in (0, 512)
        for left in (0, 512)
    ]
    cut = [(w, part[: w.height, : w.width]) for w, part in blocks]
    size, classes = Size(600, 700), ["water", "forêt", "road"]
    path = tmp_path / "classes.tif"
    write_class_map(path, TENTH, size, classes, cut)
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags(1) == {"CLASS_1": "water", "CLASS_2": "forêt", "CLASS_3": "road"}
        assert file.colormap(1)[3] == (*MASKS[2], 255)
        assert file.nodata == 255
        assert np.array_equal(file.read(1), numbers)


def test_the_names_of_values_are_those_of_the_classes() -> None:
    names = category_names(["a <b> & 'c'", "forêt"])
    band = ElementTree.fromstring(names)[0]
    assert band.attrib == {"band": "1"}
    assert [item.text for item in band[0]] == ["none", "a <b> & 'c'", "forêt"]


def test_as_many_classes_as_fit_have_colours_of_their_own(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(254)]
    write_class_map(tmp_path / "a.tif", TENTH, Size(1, 1), names, [])
    with rasterio.open(tmp_path / "a.tif") as file:
        colours = [file.colormap(1)[number] for number in range(1, 255)]
    assert len(set(colours)) == 254
    assert colours[: len(MASKS)] == [(*colour, 255) for colour in MASKS]


def test_more_classes_than_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="at most 254"):
        write_class_map(tmp_path / "a.tif", None, Size(1, 1), ["class"] * 255, [])


LARGE = """
import resource, sys
from pathlib import Path
import numpy as np
import rasterio.shutil
from geomag.masks import SceneMask
from geomag.tile import Tile
from geomag.values import Box, Size, View
from tests.export.answers import TENTH, answer
scene, random = Size(30_000, 30_000), np.random.default_rng(0)
spots = (random.random((256, 256)) < 0.02).astype(np.uint8) * 255
tiles = [Tile(View(Box(0, 0, 30_000, 30_000), Size(256, 256), scene), spots)]
for left in range(0, 30_000 - 512, 7168):
    view = View(Box(left, 1024, left + 512, 1536), Size(512, 512), scene)
    tiles.append(Tile(view, random.integers(0, 255, (512, 512), np.uint8)))
found = answer(SceneMask(scene, tuple(tiles), 0, 1.0), georeference=TENTH)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found.save(Path(sys.argv[1]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
with rasterio.open(sys.argv[1]) as file:
    part = file.read(1, window=((1000, 1600), (7000, 7800)))
assert (part == found.masks[0].to_dense(Box(7000, 1000, 7800, 1600))).all()
"""


@pytest.mark.slow
def test_the_memory_of_a_large_mask_stays_flat(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "a.tif")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 300, f"grew by {ran.stdout} MB"
