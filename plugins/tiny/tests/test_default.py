from __future__ import annotations

import subprocess
import sys

import torch

from geomag import plugins
from geomag.model import GeoMag
from geomag_tiny.default import model


def test_the_whole_model_is_small() -> None:
    built = GeoMag(**model()["config"])
    size = sum(parameter.numel() for parameter in built.parameters())
    assert 3e6 < size <= 7e6
    assert 2 * size <= 14e6  # bytes, in 16 bits
    state = built.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    numbers = [tensor for tensor in state.values() if tensor.is_floating_point()]
    assert all(tensor.dtype == torch.float32 for tensor in numbers)
    assert sum(tensor.numel() for tensor in numbers) == size


def test_every_component_is_offered_and_loads() -> None:
    (plugin,) = [one for one in plugins.inventory().plugins if one.name == "tiny"]
    assert plugin.package == "geomag-vlm-tiny"
    for component in plugin.components:
        assert callable(plugins.load(component, plugin))


def test_weights_are_named_only_where_they_are_shipped() -> None:
    weights = model()["weights"]
    assert weights is None or weights.is_file()


def test_listing_the_plugin_costs_no_torch() -> None:
    code = (
        "import sys, geomag_tiny; geomag_tiny.geomag_components(); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
