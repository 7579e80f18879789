"""The tokens of answers that are no text, in a small table beside the language model's own.

Its matrices stay as they were pretrained and can be frozen; only on exporting are the markers
written into them.

Letters: N tokens, H width of the language model, V its vocabulary with the markers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomag.spelling import MARKERS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COUNT = len(MARKERS)
_SAMPLE = 4096
"""Rows of a vocabulary that tell what its rows are like."""


class Markers(nn.Module):
    """Rows for the ids `first` to `first + COUNT - 1` of a language model.

    They lie over rows of the model where it has more than its tokenizer fills, else behind them.
    Tied where the model ties its own. They start as rows like the others, or as the model's own
    where it `knows` them.
    """

    def __init__(self, language: PreTrainedModel, first: int, knows: bool) -> None:
        super().__init__()
        table, head = tables(language)
        self.first = first
        self.inputs = nn.Embedding(COUNT, table.shape[1], dtype=table.dtype)
        self.outputs: nn.Linear | None = None
        if head is not table:
            self.outputs = nn.Linear(head.shape[1], COUNT, bias=False, dtype=head.dtype)
        with torch.no_grad():
            self.inputs.weight.copy_(_rows(table, first, knows))
            if self.outputs is not None:
                self.outputs.weight.copy_(_rows(head, first, knows))

    def forward(self, ids: Tensor, embed: nn.Module) -> Tensor:
        """Embeds ids `[...]` to `[..., H]`, text by the model's own `embed`."""
        marked = (ids >= self.first) & (ids < self.first + COUNT)
        text: Tensor = embed(ids.masked_fill(marked, 0))
        own = self.inputs((ids - self.first).clamp(0, COUNT - 1))
        return torch.where(marked[..., None], own.to(text.dtype), text)

    def logits(self, states: Tensor, text: Tensor) -> Tensor:
        """The logits of text `[N, V]` with those of the markers in their place."""
        own = F.linear(states, self.inputs.weight) if self.outputs is None else self.outputs(states)
        before, after = text[:, : self.first], text[:, self.first + COUNT :]
        return torch.cat([before, own.to(text.dtype), after], dim=1)

    def written(self, language: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The plain state dict of a language model with the markers in its matrices."""
        model: Any = language
        table, head = (
            next(name for name, module in model.named_modules() if module is owner)
            for owner in (model.get_input_embeddings(), model.get_output_embeddings())
        )
        made = dict(state)
        own = {f"{table}.weight": self.inputs.weight}
        if self.outputs is not None:
            own[f"{head}.weight"] = self.outputs.weight
        if f"{head}.bias" in state:
            own[f"{head}.bias"] = self.inputs.weight.new_zeros(COUNT)
        for name, rows in own.items():
            made[name] = _over(state[name], rows.detach(), self.first)
        if self.outputs is None:
            made[f"{head}.weight"] = made[f"{table}.weight"]
        return made


def tables(language: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The matrices that embed and write words; one and the same where they are tied."""
    model: Any = language
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


def _rows(table: Tensor, first: int, known: bool) -> Tensor:
    if known:
        return table[first : first + COUNT]
    sample = table[:_SAMPLE].float()
    mean = sample.mean(0)
    return mean + (sample - mean).std() * torch.randn(COUNT, len(mean), device=table.device)


def _over(table: Tensor, rows: Tensor, first: int) -> Tensor:
    """A matrix or bias with `rows` from `first` on, as long as it has to be."""
    made = table.new_zeros(max(len(table), first + len(rows)), *table.shape[1:])
    made[: len(table)] = table
    made[first : first + len(rows)] = rows.to(table)
    return made
