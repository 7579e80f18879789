"""What a labelled scene lets one say: which kinds are there, how many, where, how large."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from random import Random

from ..values import Exchange, Level, Reply, Size, Turn
from .directions import POSITIONS, Cell, cell_of
from .samples import Kind, LabelledSample, side_of
from .words import noun


class Facts:
    """A sample, looked at for what can be said about it."""

    def __init__(self, sample: LabelledSample) -> None:
        self.sample = sample
        self.uncounted = sample.uncounted
        members: dict[str, list[int]] = {kind.name: [] for kind in sample.kinds}
        for index, label in enumerate(sample.labels):
            if label in members:
                members[label].append(index)
        self.members = {name: tuple(indices) for name, indices in members.items()}

    @property
    def size(self) -> Size:
        return self.sample.scene.info.size

    @cached_property
    def present(self) -> list[Kind]:
        """The kinds that are there, the most frequent first."""
        there = [kind for kind in self.sample.kinds if self.members[kind.name]]
        return sorted(there, key=lambda kind: (-len(self.members[kind.name]), kind.name))

    @property
    def everything(self) -> tuple[int, ...]:
        return tuple(sorted(index for group in self.members.values() for index in group))

    @property
    def countable(self) -> list[Kind]:
        return [kind for kind in self.sample.kinds if kind.name not in self.uncounted]

    @cached_property
    def cells(self) -> list[Cell]:
        """Which of the scene's nine parts each shape lies in."""
        return [cell_of(shape.box, self.size) for shape in self.sample.shapes]

    def in_order(self, present: bool) -> list[Kind]:
        return [kind for kind in self.sample.kinds if bool(self.members[kind.name]) == present]

    def some_present(self, random: Random) -> Kind | None:
        """A kind that is there; the rarer in the data set, the likelier."""
        if not self.present:
            return None
        return random.choices(self.present, [1 / max(1, kind.scenes) for kind in self.present])[0]

    def some_absent(self, random: Random) -> Kind | None:
        absent = self.in_order(present=False)
        return random.choice(absent) if absent else None

    def quantity(self, name: str) -> str:
        """ "3 ships", or "ships" where single ones were not labelled."""
        return noun(name).many if name in self.uncounted else self.times(name)

    def times(self, name: str) -> str:
        return noun(name).times(len(self.members[name]))

    def whereabouts(self, name: str) -> str:
        """ " at the left" where they all are there, else nothing."""
        cells = {self.cells[index] for index in self.members[name]}
        if len(cells) != 1 or name in self.uncounted:
            return ""
        return f" at the {POSITIONS[cells.pop()]}"

    def phrase(
        self,
        phrasings: Sequence[str],
        random: Random | None,
        kind: Kind | None = None,
        number: int = 0,
        **fields: str,
    ) -> str:
        """One of the phrasings, filled in: the first without a `random`."""
        template = random.choice(phrasings) if random else phrasings[0]
        if kind:
            word = noun(kind.name)
            # What nobody can know before looking is asked for in the plural.
            fields |= {
                "every": word.every, "many": word.many, "one": word.one, "a": word.a,
                "form": word.form(number), "are": word.are(number),
            }  # fmt: skip
        return template.format(**fields)

    def exchange(
        self,
        prompt: str,
        reply: str,
        level: Level,
        task: str,
        *,
        instances: tuple[tuple[int, ...], ...] = (),
        boxed: tuple[int, ...] = (),
        relevant: tuple[int, ...] = (),
        extent: float | None = None,
    ) -> Exchange:
        """An exchange of one turn; what is masked or boxed is relevant, and sets the extent."""
        named = {index for group in instances for index in group} | set(boxed) | set(relevant)
        looked_at = tuple(sorted(named))
        if looked_at and level is not Level.IMAGE:
            extent = side_of([self.sample.shapes[index] for index in looked_at])
        return Exchange(
            conversation=(Turn("user", prompt),),
            reply=Reply(reply),
            level=level,
            instances=instances,
            boxed=boxed,
            relevant=looked_at,
            extent=extent,
            task=task,
        )
