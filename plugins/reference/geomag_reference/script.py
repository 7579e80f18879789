"""What a language model takes in, told token by token on the host.

Letters: L tokens, T visual tokens, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Script:
    """What a language model takes in, token by token.

    `places` are positions, one list an axis. The tokens at `visual`, in order, show what is seen;
    their ids do not count. `next` is the position of the token to follow.
    """

    ids: Sequence[int]
    places: Sequence[Sequence[int]]
    visual: Sequence[int]
    next: int

    def with_answer(self, ids: Sequence[int]) -> Script:
        more = range(self.next, self.next + len(ids))
        places = [[*axis, *more] for axis in self.places]
        return Script([*self.ids, *ids], places, self.visual, self.next + len(ids))


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What visual tokens show: `rows [T, H]`, and what is added to each of the first layers,
    each `[T, H]`, where the model has that (DeepStack, Meng et al. 2024)."""

    rows: Tensor
    deep: tuple[Tensor, ...] = ()
