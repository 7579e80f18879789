"""Class names as English nouns, of any vocabulary; only exceptions are listed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "bus": "buses",
    "leaf": "leaves",
    "wharf": "wharves",
    "aircraft": "aircraft",
    "spacecraft": "spacecraft",
    "hovercraft": "hovercraft",
    "sheep": "sheep",
    "crossroads": "crossroads",
    "barracks": "barracks",
    "greenhouse": "greenhouses",
}
UNCOUNTABLE = {
    "agriculture", "background", "clutter", "cropland", "farmland", "forest", "grass",
    "grassland", "ground", "ice", "land", "mud", "pavement", "rubble", "sand", "shrubland",
    "snow", "soil", "vegetation", "water", "wetland", "woodland",
}  # fmt: skip
MANY = 20
"""More than this many objects are "many"."""


@dataclass(frozen=True, slots=True)
class Noun:
    """A class name in the forms a sentence needs."""

    one: str
    many: str
    countable: bool = True

    @property
    def every(self) -> str:
        return f"every {self.one}" if self.countable else f"all {self.many}"

    @property
    def a(self) -> str:
        if not self.countable:
            return f"any {self.one}"
        return f"an {self.one}" if self.one[0] in "aeiouAEIOU" else f"a {self.one}"

    def times(self, number: int) -> str:
        """ "1 ship", "3 ships", "many ships", "water"."""
        if not self.countable:
            return self.many
        if number > MANY:
            return f"many {self.many}"
        return f"{number} {self.one if number == 1 else self.many}"

    def form(self, number: int) -> str:
        return self.one if number == 1 else self.many

    def are(self, number: int) -> str:
        return "are" if self.countable and number != 1 else "is"


@cache
def noun(name: str) -> Noun:
    """The noun a class name stands for: "ground_track_field" is a ground track field."""
    words = [
        word if word.isupper() and len(word) > 1 else word.lower()
        for word in re.split(r"[\s_\-/]+", name)
        if word
    ]
    if not words:
        raise ValueError(f"class name {name!r} has no letters in it")
    rest, last = words[:-1], words[-1]
    if last in UNCOUNTABLE:
        text = " ".join(words)
        return Noun(text, text, countable=False)
    one = _singular(last)
    return Noun(" ".join([*rest, one]), " ".join([*rest, _plural(one)]))


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _singular(word: str) -> str:
    for one, many in IRREGULAR.items():
        if word in (one, many):
            return one
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is", "as")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "xes", "sses")) else word[:-1]


def _plural(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
