"""Checkpoints of OpenMMLab and others to safetensors, which hold tensors and can hold no code.

python -m geomag_openmmlab.convert SOURCE.pth -o FILE.safetensors
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomag import weights
from geomag.errors import CheckpointError, GeoMagError

HOLDERS = ("state_dict", "model")
"""Under which of its keys a checkpoint holds the weights, where it holds more than those."""


def convert(source: Path, target: Path) -> None:
    """Writes the weights in a file of `torch.save` as safetensors, by the names they have there.

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than tensors and plain values.
        OutputError: the target cannot be written.
    """
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: expected a name that ends in .safetensors")
    weights.save(target, _state(source), {"source": source.name})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m geomag_openmmlab.convert", description=__doc__)
    parser.add_argument("source", type=Path, help="a checkpoint that torch.save wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="FILE.safetensors")
    given = parser.parse_args(arguments)
    try:
        convert(given.source, given.output)
    except GeoMagError as error:
        sys.exit(f"error: {error}")


def _state(source: Path) -> dict[str, Tensor]:
    try:
        contents: Any = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {source} does not exist") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {source} holds more than tensors and plain values, and reading it could "
            "run code; it was not read; where it was made, save its state_dict alone"
        ) from error
    except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {source} is damaged, or not what torch.save writes: {error}"
        ) from error
    holders = [name for name in HOLDERS if isinstance(contents, dict) and name in contents]
    state = contents[holders[0]] if holders else contents
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"checkpoint {source} holds no tensors by name")
    odd = [str(name) for name, tensor in state.items() if not isinstance(tensor, Tensor)]
    if odd:
        raise CheckpointError(
            f"checkpoint {source}: {', '.join(odd[:3])} should be tensors; expected a dict of them "
            f"by name, or one under {' or '.join(HOLDERS)}"
        )
    return state


if __name__ == "__main__":
    main()
