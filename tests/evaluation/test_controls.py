"""Controls take away what a model should need, and nothing else."""

from __future__ import annotations

import torch

from geomag import geometry
from geomag.data.drawn import DrawnScenes
from geomag.evaluation.controls import GREY, Blanked, PromptSwapped

SCENES = DrawnScenes(length=6, size=(150, 180), seed=5)
SIDE = 64


def test_blanked_scene_is_grey_where_it_is_valid() -> None:
    blanked = Blanked(SCENES)
    assert len(blanked) == len(SCENES)
    sample, blank = SCENES[2], blanked[2]
    view = geometry.overview(sample.scene.info.size, SIDE)
    seen = blank.scene.read(view, SIDE)
    assert torch.equal(seen.valid, sample.scene.read(view, SIDE).valid)
    assert seen.pixels[:, seen.valid].unique().tolist() == [GREY]
    assert not seen.pixels[:, ~seen.valid].any()
    assert blank.exchanges == sample.exchanges
    assert blank.scene.info == sample.scene.info


def test_controls_are_built_from_configs() -> None:
    config = {"type": "DrawnScenes", "length": 2, "size": 150}
    assert len(Blanked(config)) == len(PromptSwapped(config)) == 2


def meant(sample: object, exchange: object) -> set[str]:
    return {sample.labels[one] for some in exchange.instances for one in some}  # type: ignore[attr-defined]


def test_swapped_prompts_ask_for_other_objects_with_the_truth_kept() -> None:
    swapped = PromptSwapped(SCENES, seed=1)
    words: dict[str, set[str]] = {}
    for sample in SCENES:
        for exchange in sample.exchanges:
            asked = exchange.conversation[-1].text
            words.setdefault(asked, set()).update(meant(sample, exchange))
    count = 0
    for place in range(len(SCENES)):
        sample, other = SCENES[place], swapped[place]
        kept = [one for one in sample.exchanges if one.task in ("class", "referring")]
        assert len(other.exchanges) == len(kept)
        for before, after in zip(kept, other.exchanges, strict=True):
            assert after.instances == before.instances
            assert after.reply == before.reply
            assert not meant(sample, before) & words[after.conversation[-1].text]
            count += 1
    assert count > 10


def test_swapping_is_seeded() -> None:
    def asked(seed: int) -> list[str]:
        swapped = PromptSwapped(SCENES, tasks=("class",), seed=seed)
        found = [one for place in range(len(swapped)) for one in swapped[place].exchanges]
        assert {one.task for one in found} == {"class"}
        return [one.conversation[-1].text for one in found]

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
