"""A model whose weights are shared out among processes, by torch's `fully_shard`.

mmengine's own strategy names a CUDA device and loads checkpoints of its own kind. Here the blocks
of a model are sharded in place, so that it stays what it was, on a GPU or on the CPU; and
checkpoints hold whole tensors, so that any number of processes, sharded or not, can go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import ConfigError


def shard(model: nn.Module, device: torch.device, least: int) -> None:
    """Shares out the weights of a model among all processes, block by block.

    A block is an entry of a `ModuleList` with at least `least` parameters: a layer of a
    transformer. It is whole only while it runs. What belongs to no block is whole during a step.

    Raises:
        ConfigError: a block holds numbers of several types, which cannot be sent together, or a
            single number learns, which cannot be shared out.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        torch.distributed.broadcast(tensor.detach(), src=0)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    chosen = list(blocks(model, least))
    problems = [
        f"{name} holds {' and '.join(sorted(kinds))}"
        for name, module in [*chosen, ("the rest of the model", model)]
        if len(kinds := _types(module, {id(block) for _, block in chosen} - {id(module)})) > 1
    ]
    if problems:
        raise ConfigError(
            f"sharded: {'; '.join(problems)}; weights that are shared out together need one type: "
            "give all parts the same dtype"
        )
    single = {name: one for name, one in model.named_parameters() if one.dim() == 0}
    learning = [name for name, one in single.items() if one.requires_grad]
    if learning:
        raise ConfigError(
            f"sharded: {', '.join(learning)} cannot be shared out, being single numbers; make each "
            "a tensor of one element, or start without --sharded"
        )
    replicated = set(single.values())
    for _, module in chosen:
        fully_shard(module, mesh=mesh, ignored_params=replicated)
    fully_shard(model, mesh=mesh, reshard_after_forward=False, ignored_params=replicated)


def blocks(model: nn.Module, least: int) -> Iterator[tuple[str, nn.Module]]:
    """The entries of module lists of at least `least` parameters, by name; none inside another."""
    inside = ""
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        parent = model.get_submodule(name.rpartition(".")[0]) if "." in name else model
        if not isinstance(parent, nn.ModuleList):
            continue
        if sum(parameter.numel() for parameter in module.parameters()) >= least:
            inside = f"{name}."
            yield name, module


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def gathered(state: Any) -> Any:
    """A state dict with whole tensors in the CPU's memory; all processes have to ask together."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, Tensor):
        return state.detach().cpu()
    if isinstance(state, Mapping):
        return {key: gathered(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(gathered(value) for value in state)
    return state


def scattered(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors shared out as those of the same name and shape in `like` are."""
    return {name: _scattered(tensor, like.get(name)) for name, tensor in state.items()}


def scattered_optimizer(state: Mapping[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """The state dict of an optimizer, shared out as its parameters are."""
    shared = {
        place: {
            name: _scattered(value, parameters[place]) if isinstance(value, Tensor) else value
            for name, value in kept.items()
        }
        for place, kept in state["state"].items()
    }
    return {**state, "state": shared}


def _scattered(tensor: Tensor, like: Tensor | None) -> Tensor:
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    whole = tensor.to(like.device)
    # Every process has read the same file: nothing has to be sent.
    shared = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return cast(Tensor, shared)


def _types(module: nn.Module, without: set[int]) -> set[str]:
    """The types of the numbers in a module, but for those in some of its submodules."""
    inner = {
        id(parameter)
        for part in module.modules()
        if id(part) in without
        for parameter in part.parameters()
    }
    return {str(one.dtype) for one in module.parameters() if id(one) not in inner}
