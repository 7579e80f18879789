"""Prompts about single objects and places: referring expressions, boxes, parts of the scene."""

from __future__ import annotations

from collections import defaultdict
from random import Random

from ..values import BOX, SEG, Exchange, Level
from . import phrasings
from .directions import POSITIONS, may_be_at
from .facts import Facts
from .samples import Expression, Kind, side_of
from .words import listed, noun

MOST_BOXES = 4
"""More objects than this are not asked for in boxes."""
MOST_TOGETHER = 5
"""More objects than this in one place are no referring expression of ours."""
CLEARLY = 1.4
"""The largest object is this many times larger than the next, or it is not called the largest."""
APART = 0.05
"""The leftmost object leads by this share of the scene's side, or it is not called the leftmost."""


def refer(facts: Facts, expression: Expression, random: Random | None = None) -> Exchange:
    """A mask of what an expression means; a refusal where it means nothing that is there."""
    prompt = facts.phrase(phrasings.REFER, random, phrase=expression.text)
    if not expression.members:
        return facts.exchange(prompt, "There is nothing like that here.", Level.PIXEL, "referring")
    text = f"Here {'it is' if len(expression.members) == 1 else 'they are'}. {SEG}"
    return facts.exchange(prompt, text, Level.PIXEL, "referring", instances=(expression.members,))


def some_expression(facts: Facts, random: Random) -> Expression | None:
    """One that came with the data or, as often, one read off the shapes."""
    given = facts.sample.expressions
    if given and random.random() < 0.5:
        return random.choice(given)
    kind = facts.some_present(random)
    composed = expressions_of(facts, kind) if kind else []
    if composed:
        return random.choice(composed)
    return random.choice(given) if given else None


def expressions_of(facts: Facts, kind: Kind) -> list[Expression]:
    """What can be said of single objects of a kind, or of those in one place, and of no others."""
    members = facts.members[kind.name]
    if not members or kind.name in facts.uncounted:
        return []
    word = noun(kind.name)
    found = []
    places = defaultdict(list)
    for index in members:
        places[facts.cells[index]].append(index)
    for cell, group in places.items():
        # None of the others may be meant as well.
        others = [index for index in members if index not in group]
        doubtful = [i for i in others if may_be_at(facts.sample.shapes[i].box, facts.size, cell)]
        if len(group) > MOST_TOGETHER or doubtful:
            continue
        place, text = POSITIONS[cell], word.times(len(group))
        the = word.one if len(group) == 1 else text
        found.append(Expression(f"{text} at the {place}", tuple(group)))
        found.append(Expression(f"the {the} at the {place}", tuple(group)))
    return found + _superlatives(facts, members, word.one)


def misplaced(facts: Facts, random: Random) -> Exchange | None:
    """Asks for a kind that is there, at a place where it clearly is not; it must be refused."""
    kind = facts.some_present(random)
    if kind is None or kind.name in facts.uncounted:
        return None
    boxes = [facts.sample.shapes[index].box for index in facts.members[kind.name]]
    empty = [
        place
        for cell, place in POSITIONS.items()
        if not any(may_be_at(box, facts.size, cell) for box in boxes)
    ]
    if not empty:
        return None
    place, one = random.choice(empty), noun(kind.name).one
    phrase = random.choice([f"the {one} at the {place}", f"1 {one} at the {place}"])
    prompt = facts.phrase(phrasings.REFER, random, phrase=phrase)
    return facts.exchange(
        prompt, f"There is no {one} at the {place}.", Level.PIXEL, "absent", extent=kind.side
    )


def ground(facts: Facts, random: Random) -> Exchange | None:
    """Boxes of the objects of a kind, of what an expression means, or a refusal."""
    choice = random.random()
    if choice < 0.2:
        kind = facts.some_absent(random)
        if kind is None:
            return None
        prompt = facts.phrase(phrasings.GROUND, random, kind, 1)
        text = f"There is no {noun(kind.name).one} here."
        return facts.exchange(prompt, text, Level.REGION, "grounding", extent=kind.side)
    if choice < 0.6:
        expression = some_expression(facts, random)
        if expression is None:
            return None
        prompt = facts.phrase(phrasings.GROUND_PHRASE, random, phrase=expression.text)
        return _boxed(facts, prompt, expression.members)
    kind = facts.some_present(random)
    if kind is None or kind.name in facts.uncounted:
        return None
    members = facts.members[kind.name]
    return _boxed(facts, facts.phrase(phrasings.GROUND, random, kind, len(members)), members)


def region(facts: Facts, random: Random) -> Exchange | None:
    """What is in one of the nine parts of the scene; None where a border makes that doubtful."""
    if not facts.sample.kinds:
        return None
    places = list(POSITIONS)
    filled = set(facts.cells)
    if filled and random.random() < 0.8:
        places = sorted(filled)
    cell = random.choice(places)
    shapes = facts.sample.shapes
    inside = {index for index in facts.everything if facts.cells[index] == cell}
    doubtful = any(
        may_be_at(shapes[index].box, facts.size, cell)
        for index in facts.everything
        if index not in inside
    )
    if doubtful or facts.uncounted:
        return None
    counts = {kind.name: len(inside & set(facts.members[kind.name])) for kind in facts.present}
    parts = [noun(name).times(number) for name, number in counts.items() if number]
    text = listed(parts) if parts else "None of the objects I know"
    return facts.exchange(
        facts.phrase(phrasings.REGION, random, place=POSITIONS[cell]),
        f"{text}.",
        Level.REGION,
        "region",
        relevant=tuple(inside),
        extent=side_of(shapes),
    )


def _boxed(facts: Facts, prompt: str, members: tuple[int, ...]) -> Exchange | None:
    if not 0 < len(members) <= MOST_BOXES:
        return None
    boxes = {index: facts.sample.shapes[index].box for index in members}
    # One order for a set of boxes, or there would be many right answers.
    ordered = tuple(sorted(members, key=lambda index: (boxes[index].top, boxes[index].left)))
    text = f"Here: {' '.join([BOX] * len(ordered))}"
    return facts.exchange(prompt, text, Level.REGION, "grounding", boxed=ordered)


def _superlatives(facts: Facts, members: tuple[int, ...], one: str) -> list[Expression]:
    if len(members) < 2:
        return []
    shapes, size = facts.sample.shapes, facts.size
    boxes = {index: shapes[index].box for index in members}
    across = {i: (box.left + box.right) / 2 / size.width for i, box in boxes.items()}
    down = {i: (box.top + box.bottom) / 2 / size.height for i, box in boxes.items()}
    area = {index: shapes[index].area for index in members}
    found = []
    for words, values, gap in (
        (("leftmost", "rightmost"), across, APART),
        (("topmost", "bottommost"), down, APART),
        (("smallest", "largest"), area, None),
    ):
        order = sorted(members, key=values.__getitem__)
        for word, first, second in (
            (words[0], order[0], order[1]),
            (words[1], order[-1], order[-2]),
        ):
            near, far = sorted((values[first], values[second]))
            if far >= near * CLEARLY if gap is None else far - near >= gap:
                found.append(Expression(f"the {word} {one}", (first,)))
    return found
