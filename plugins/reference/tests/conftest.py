"""Small models of transformers, saved on the spot; one thread, so that quick tests stay quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geomag_reference.pretrained import architecture_of, load, quiet

Saved = Callable[..., Path]


@pytest.fixture(autouse=True)
def single() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The folder of a small model of a family; made once, so only to be read."""
    known: dict[str, Path] = {}

    def make(family: str, **fields: Any) -> Path:
        key = repr((family, sorted(fields.items())))
        if key not in known:
            known[key] = tmp_path_factory.mktemp(family)
            save(known[key], family, **fields)
        return known[key]

    return make


def save(folder: Path, family: str, **fields: Any) -> Any:
    """A small model with weights that are nowhere zero or one."""
    from transformers import AutoModel

    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = architecture_of({"model_type": family, **fields}, None, {})
        model = load(AutoModel, config, None)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    with quiet():
        model.save_pretrained(folder)
    return model
