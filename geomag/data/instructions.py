"""Prompts and replies composed from what is known of a scene, for every task.

Everything said is true by construction: counts, positions and classes are read off the shapes. The
contract has no prompt with a box in it, so regions are asked about by position ("top left").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from ..values import SEG, Exchange, Level, Reply, Turn
from . import phrasings
from .facts import Facts
from .grounding import ground, misplaced, refer, region, some_expression
from .samples import Kind, LabelledSample
from .words import listed, noun

TASKS: Mapping[str, float] = {
    "class": 0.30,
    "referring": 0.25,
    "absent": 0.15,
    "presence": 0.05,
    "count": 0.05,
    "grounding": 0.06,
    "region": 0.03,
    "caption": 0.03,
    "classification": 0.02,
    "conversation": 0.04,
    "follow_up": 0.02,
}
"""What training asks for, and how often."""
TEST_TASKS = ("class", "referring", "absent")
_ALWAYS: Mapping[str, float] = {"class": 0.5, "absent": 0.5}
_NOTHING: Mapping[str, float] = {"absent": 1.0}
"""What suits every scene with objects, and every one without."""
_TRIES = 8
_Maker = Callable[[Facts, Random], Exchange | None]


def compose(
    sample: LabelledSample, count: int, random: Random, tasks: Mapping[str, float] = TASKS
) -> tuple[Exchange, ...]:
    """`count` exchanges about a scene, of tasks drawn by weight, in varied wording.

    A task that the scene has nothing for (a referring expression in an empty scene) is drawn again;
    where none of the tasks suits the scene, it is asked for its classes.
    Rare classes are asked for as often as frequent ones. The same `random` composes the same.
    """
    facts = Facts(sample)
    names, weights = list(tasks), list(tasks.values())
    found: list[Exchange] = []
    asked = set()
    for _ in range(count * _TRIES):
        exchange = _TRAINED[random.choices(names, weights)[0]](facts, random)
        # The same in other words is asked only where there is nothing else.
        if exchange is not None and (key := _meaning(exchange)) not in asked:
            asked.add(key)
            found.append(exchange)
        if len(found) == count:
            break
    always = _ALWAYS if facts.present else _NOTHING
    if not found and sample.kinds and tasks is not always:
        return compose(sample, count, random, always)
    while found and len(found) < count:
        found.append(random.choice(found))
    return tuple(found)


def examine(sample: LabelledSample, tasks: Sequence[str] = TEST_TASKS) -> tuple[Exchange, ...]:
    """All that tests ask about a scene, in the first phrasing, tasks and classes in order."""
    facts = Facts(sample)
    return tuple(exchange for task in tasks for exchange in _TESTED[task](facts))


def segment(facts: Facts, kind: Kind, random: Random | None = None) -> Exchange:
    """ "every ship": a mask of them all, or an honest refusal."""
    members, word = facts.members[kind.name], noun(kind.name)
    task = "class" if members else "absent"
    prompt = facts.phrase(phrasings.SEGMENT, random, kind, len(members))
    if not members:
        text = f"There is no {word.one} here."
        return facts.exchange(prompt, text, Level.PIXEL, task, extent=kind.side)
    text = f"Here {word.are(len(members))} the {word.form(len(members))}. {SEG}"
    return facts.exchange(prompt, text, Level.PIXEL, task, instances=(members,))


def presence(facts: Facts, kind: Kind, random: Random | None = None) -> Exchange:
    members = facts.members[kind.name]
    prompt = facts.phrase(phrasings.PRESENCE, random, kind, len(members))
    text = "Yes." if members else "No."
    return facts.exchange(
        prompt, text, Level.REGION, "presence", relevant=members, extent=kind.side
    )


def count(facts: Facts, kind: Kind, random: Random | None = None) -> Exchange:
    members = facts.members[kind.name]
    prompt = facts.phrase(phrasings.COUNT, random, kind, len(members))
    number = "none" if not members else str(len(members))
    text = f"There {'is' if number == '1' else 'are'} {number}."
    return facts.exchange(prompt, text, Level.REGION, "count", relevant=members, extent=kind.side)


def describe(facts: Facts, random: Random | None = None) -> Exchange | None:
    """One sentence with what is there, how often and where; None for a scene without objects."""
    kinds = facts.present
    if not kinds:
        return None
    prompt = facts.phrase(phrasings.CAPTION, random)
    parts = [facts.quantity(kind.name) + facts.whereabouts(kind.name) for kind in kinds]
    text = f"An aerial scene with {listed(parts)}."
    return facts.exchange(prompt, text, Level.IMAGE, "caption", relevant=facts.everything)


def classify(facts: Facts, random: Random | None = None) -> Exchange | None:
    kinds = facts.present
    if not kinds:
        return None
    prompt = facts.phrase(phrasings.CLASSIFICATION, random)
    text = f"{', '.join(sorted(noun(kind.name).one for kind in kinds))}."
    return facts.exchange(prompt, text, Level.IMAGE, "classification", relevant=facts.everything)


def converse(facts: Facts, random: Random | None = None) -> Exchange | None:
    """A description in which every class named has its mask: one `[SEG]` a class."""
    kinds = facts.present
    if not kinds:
        return None
    prompt = facts.phrase(phrasings.CONVERSATION, random)
    first = noun(kinds[0].name).are(len(facts.members[kinds[0].name]))
    parts = [f"{facts.quantity(kind.name)} {SEG}" for kind in kinds]
    return facts.exchange(
        prompt,
        f"There {first} {listed(parts)}.",
        Level.PIXEL,
        "conversation",
        instances=tuple(facts.members[kind.name] for kind in kinds),
    )


def follow_up(facts: Facts, kind: Kind, random: Random | None = None) -> Exchange:
    """A second turn that makes sense after the first only: "Are there ships?" "Yes." "Show me."."""
    countable = kind.name not in facts.uncounted
    ask = count if random and countable and random.random() < 0.5 else presence
    before = ask(facts, kind, random)
    after = segment(facts, kind)
    prompt = facts.phrase(phrasings.FOLLOW_UP, random, kind, len(facts.members[kind.name]))
    turns = (*before.conversation, Turn("model", before.reply.text), Turn("user", prompt))
    return Exchange(
        conversation=turns,
        reply=Reply(after.reply.text),
        level=Level.PIXEL,
        instances=after.instances,
        relevant=after.relevant,
        extent=after.extent,
        task="follow_up",
    )


def _meaning(exchange: Exchange) -> tuple[object, ...]:
    wanted = (exchange.instances, exchange.boxed, exchange.relevant, exchange.extent)
    return exchange.task, exchange.reply.text, *wanted


def _of_any(make: Callable[[Facts, Kind, Random], Exchange]) -> _Maker:
    """Asks about a class that is there or, half of the time, about one that is not."""

    def made(facts: Facts, random: Random) -> Exchange | None:
        kind = facts.some_present(random) if random.random() < 0.5 else facts.some_absent(random)
        return make(facts, kind, random) if kind else None

    return made


def _class(facts: Facts, random: Random) -> Exchange | None:
    kind = facts.some_present(random)
    return segment(facts, kind, random) if kind else None


def _absent(facts: Facts, random: Random) -> Exchange | None:
    kind = facts.some_absent(random)
    elsewhere = misplaced(facts, random) if kind is None or random.random() < 0.3 else None
    return elsewhere or (segment(facts, kind, random) if kind else None)


def _referring(facts: Facts, random: Random) -> Exchange | None:
    expression = some_expression(facts, random)
    return refer(facts, expression, random) if expression else None


def _count(facts: Facts, random: Random) -> Exchange | None:
    # A class that is not there is mostly asked about by `presence`.
    kind = facts.some_present(random) if random.random() < 0.8 else facts.some_absent(random)
    return count(facts, kind, random) if kind and kind.name not in facts.uncounted else None


_TRAINED: Mapping[str, _Maker] = {
    "class": _class,
    "referring": _referring,
    "absent": _absent,
    "presence": _of_any(presence),
    "count": _count,
    "grounding": ground,
    "region": region,
    "caption": describe,
    "classification": classify,
    "conversation": converse,
    "follow_up": _of_any(follow_up),
}


def _each(
    make: Callable[[Facts, Kind], Exchange], wanted: Callable[[Facts], Sequence[Kind]]
) -> Callable[[Facts], list[Exchange]]:
    return lambda facts: [make(facts, kind) for kind in wanted(facts)]


def _once(make: Callable[[Facts], Exchange | None]) -> Callable[[Facts], list[Exchange]]:
    return lambda facts: [exchange for exchange in [make(facts)] if exchange]


def _expressions(facts: Facts) -> list[Exchange]:
    return [refer(facts, expression) for expression in facts.sample.expressions]


_TESTED: Mapping[str, Callable[[Facts], list[Exchange]]] = {
    "class": _each(segment, lambda facts: facts.in_order(present=True)),
    "absent": _each(segment, lambda facts: facts.in_order(present=False)),
    "referring": _expressions,
    "presence": _each(presence, lambda facts: facts.sample.kinds),
    "count": _each(count, lambda facts: facts.countable),
    "caption": _once(describe),
    "classification": _once(classify),
    "conversation": _once(converse),
}
