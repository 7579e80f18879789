"""What only some forms of an answer need, imported when one of them is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import OutputError


def needed(module: str, form: str) -> Any:
    """A module of the extra `geo`.

    Raises:
        OutputError: it is not installed; says what wanted it, and how to get it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise OutputError(
            f"{form} cannot be written without {module.partition('.')[0]} ({error}); install "
            "geomag-vlm[geo]"
        ) from error
