"""What reading a scene leaves behind in the process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.scenes.rasters import noise, write


def test_rasterio_itself_is_left_as_it_was(tmp_path: Path) -> None:
    """Whoever reads a scene first and warps something afterwards still has GDAL's VRT driver."""
    path = write(tmp_path / "scene.tif", noise(3, 40, 60))
    script = f"""
        from geomag.scenes import open_scene
        from geomag.geometry import overview
        scene = open_scene({str(path)!r})
        scene.read(overview(scene.info.size, 32), 32)
        from rasterio.warp import calculate_default_transform
        edges = 300000, 3000000, 300900, 3000900
        calculate_default_transform("EPSG:32645", "EPSG:4326", 9, 9, *edges)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
