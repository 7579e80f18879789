"""A prompt's embedding, of any length, to one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PromptPool(nn.Module):
    """Neighbouring words are read together ("no ships"), then the telling ones are averaged."""

    def __init__(self, prompt_dim: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(prompt_dim, width)
        self.neighbours = nn.Conv1d(width, width, 3, padding=1)
        self.weigh = nn.Linear(width, heads)
        self.outward = nn.Sequential(nn.Linear(heads * width, width), nn.GELU())

    def forward(self, embeddings: Sequence[Tensor]) -> Tensor:
        """`[T, P]` each, to `[B, width]`; what a prompt becomes does not depend on the others."""
        rows = torch.nn.utils.rnn.pad_sequence(list(embeddings), batch_first=True)
        lengths = torch.tensor([len(row) for row in embeddings], device=rows.device)
        known = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]  # [B, T]
        words = self.inward(rows.to(self.inward.weight.dtype)) * known[..., None]
        words = F.gelu(words + self.neighbours(words.transpose(1, 2)).transpose(1, 2))
        scores = self.weigh(words).masked_fill(~known[..., None], -torch.inf)
        mixed = scores.softmax(1).transpose(1, 2) @ words  # [B, heads, width]
        pooled: Tensor = self.outward(mixed.flatten(1))
        return pooled
