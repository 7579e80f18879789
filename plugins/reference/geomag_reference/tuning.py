"""What of a pretrained model is trained: nothing, everything, or low-rank adapters.

LoRA (Hu et al. 2022) is injected in place by peft, so that the model stays the class it was, its
forward is called as ever, and only the adapters ask for gradients. `merged` and `export` give the
plain model back.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from geomag.errors import ConfigError

from .architecture import RANDOM, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FROZEN = "frozen"
ALL = "all"
EVERY_LINEAR = "all-linear"
"""peft's name for all linear layers but the one that writes words; the default targets."""
ADAPTER = "default"


def tune(model: nn.Module, how: str | Mapping[str, Any]) -> None:
    """Says what trains: "frozen", "all", or the arguments of a `peft.LoraConfig`.

    LoRA goes into all linear layers unless `target_modules` says where.

    Raises:
        ConfigError: `how` is none of these, or peft cannot place its adapters so.
    """
    if isinstance(how, Mapping):
        _inject(model, how)
    elif how in (FROZEN, ALL):
        model.requires_grad_(how == ALL)
    else:
        raise ConfigError(
            f"tune={how!r}: expected 'frozen', 'all', or the arguments of LoRA, as in "
            "tune=dict(r=16, lora_alpha=32)"
        )


def trains(model: nn.Module) -> bool:
    """Whether anything in a model asks for a gradient."""
    return any(parameter.requires_grad for parameter in model.parameters())


def calm(model: nn.Module, training: bool) -> None:
    """Eval mode for all of a pretrained model, but for the dropout of its adapters in training."""
    model.eval()
    for layer in model.modules():
        if _is_adapted(layer):
            layer.lora_dropout.train(training)  # type: ignore[union-attr]  # LoRA's layers have it


def outputs_on_meta(module: nn.Module, *inputs: Tensor) -> Sequence[Tensor]:
    """What a module makes of inputs on the meta device: shapes and graph, without the sums."""
    return _called(module, _stand_ins(module), inputs)


def freeze_unreached(module: nn.Module, *inputs: Tensor) -> None:
    """Freezes what has no part in what `module` makes of inputs on the meta device: it would wait
    for a gradient forever."""
    if not trains(module):
        return
    stand_ins = _stand_ins(module)
    asking = {name: value for name, value in stand_ins.items() if value.requires_grad}
    with torch.enable_grad():
        outputs = _called(module, stand_ins, inputs)
        total = torch.stack([output.float().sum() for output in outputs]).sum()
        found = torch.autograd.grad(total, list(asking.values()), allow_unused=True)
    own = dict(module.named_parameters())
    for name, gradient in zip(asking, found, strict=True):
        own[name].requires_grad_(gradient is not None)


def sourced(model: nn.Module, weights: str | None, prefix: str) -> set[str]:
    """What `contracts.Sourced` asks for: the names, under `prefix`, of what does not learn in a
    model that was read from a folder or the hub."""
    if weights in (None, RANDOM):
        return set()
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {f"{prefix}{name}" for name in model.state_dict().keys() - learning}


def merged(model: nn.Module) -> dict[str, Tensor]:
    """The weights under the names of the plain transformers model, adapters merged into them."""
    layers = {name: layer for name, layer in model.named_modules() if _is_adapted(layer)}
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not any(name.startswith(f"{layer}.") for layer in layers):
            state[name] = tensor
    for name, layer in layers.items():
        plain: Any = copy.deepcopy(layer)
        plain.merge(safe_merge=True)
        for key, tensor in plain.get_base_layer().state_dict().items():
            state[f"{name}.{key}" if name else key] = tensor
    return state


def export(model: PreTrainedModel, folder: Path) -> None:
    """Writes `config.json` and the merged weights as safetensors, as `save_pretrained` does."""
    with quiet():
        model.save_pretrained(folder, state_dict=merged(model))


def _inject(model: nn.Module, how: Mapping[str, Any]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    arguments = {"target_modules": EVERY_LINEAR, **_plain(how)}
    model.requires_grad_(False)
    try:
        inject_adapter_in_model(LoraConfig(**arguments), model, adapter_name=ADAPTER)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"tune={dict(how)!r} is not what peft's LoraConfig takes: {error}"
        ) from error
    strange = [name for name, _ in model.named_parameters() if ".modules_to_save." in name]
    if strange or arguments.get("trainable_token_indices"):
        raise ConfigError(
            f"tune={dict(how)!r}: only low-rank adapters can be merged back; take out "
            "modules_to_save and trainable_token_indices"
        )


def _called(
    module: nn.Module, tensors: dict[str, Tensor], inputs: Sequence[Tensor]
) -> Sequence[Tensor]:
    called: Sequence[Tensor] = functional_call(module, tensors, tuple(inputs))
    return called


def _stand_ins(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers without memory."""
    named = itertools.chain(module.named_parameters(), module.named_buffers())
    return {
        name: torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
        for name, value in named
    }


def _is_adapted(layer: nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)


def _plain(value: Any) -> Any:
    """Config mappings as plain dicts, which peft compares by type."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
