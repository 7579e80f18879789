"""Granularity controller (TMRA) by rules: words of the prompt decide. Learns nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from geomag.values import Level, Plan, Prompt, SceneInfo

LEVELS: tuple[tuple[Level, str], ...] = (
    (Level.PIXEL, r"segment|mask|outlin|delineat|extract|highlight|mark"),
    (Level.REGION, r"box|where|locat|detect|how many|count|number of|(is|are) there|(do|can) "),
    (Level.PIXEL, r"every|all |any |each"),
    (Level.IMAGE, r"describ|descripti|caption|summar|classif|what|which|kinds?|scene|image"),
)
"""The first row with a word of the prompt decides."""
EXTENTS: Mapping[str, float] = {
    "car": 4, "cars": 4, "vehicle": 5, "vehicles": 5, "truck": 8, "trucks": 8, "bus": 10,
    "person": 1, "people": 1, "tree": 6, "trees": 6, "pool": 10, "pools": 10,
    "house": 12, "houses": 12, "boat": 8, "boats": 8, "plane": 35, "planes": 35,
    "airplane": 35, "airplanes": 35,
    "ship": 40, "ships": 40, "tank": 20, "tanks": 20, "building": 20, "buildings": 20,
    "court": 25, "courts": 25, "diamond": 60, "diamonds": 60, "bridge": 60, "bridges": 60,
    "harbor": 60, "harbors": 60, "harbour": 60, "field": 100, "fields": 100, "stadium": 200,
    "forest": 300, "lake": 300, "river": 100, "water": 200, "airport": 1000,
}  # fmt: skip
"""Side of things in metres, roughly."""
LOOK_PIXELS = 16
"""Look pixels that the side of a target should span."""
TOKENS = {Level.IMAGE: 64, Level.REGION: 128, Level.PIXEL: 256}


class Rules:
    """A baseline beside the learned controller, and a plan that anybody can predict.

    Words for masks mean pixel level; for places, numbers and presence region level; descriptions
    image level. A prompt with none of them ("the white ship") names something: pixel level. The
    smallest thing named decides how closely to look; where the scene's resolution is unknown, down
    to native.
    """

    def __init__(self, overview_side: int, max_views: int = 64) -> None:
        self.overview_side = overview_side
        self.max_views = max_views

    def plan(self, prompt: Prompt, info: SceneInfo) -> Plan:
        text = prompt.text.lower()
        level = _level(text)
        extents = [EXTENTS[word] for word in re.findall(r"[a-z]+", text) if word in EXTENTS]
        fine = min(extents) / LOOK_PIXELS if extents and info.resolution is not None else None
        return Plan(
            level=level,
            overview_side=self.overview_side,
            stop_below=fine,
            max_views=0 if level is Level.IMAGE else self.max_views,
            max_tokens=TOKENS[level],
        )


def _level(text: str) -> Level:
    for level, pattern in LEVELS:
        if re.search(rf"\b({pattern})", text):
            return level
    return Level.PIXEL
