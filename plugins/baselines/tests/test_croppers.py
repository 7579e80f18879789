"""What each baseline looks at, on looks that hold numbers instead of an image."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from geomag import geometry
from geomag.contracts import Binding
from geomag.errors import ConfigError, PluginError
from geomag.registry import CROPPERS
from geomag.testing import check_component
from geomag.values import Box, Level, Look, Plan, Prompt, SceneInfo, Size, Turn, View

SIDE = 32
SCENE = SceneInfo(Size(200, 330))
PLAN = Plan(Level.PIXEL, overview_side=SIDE)
PROMPT = Prompt((Turn("user", "every ship"),), torch.zeros(1, 4))
FACTS = {"visual_dims": (4, 8), "strides": (4, 8), "prompt_dim": 4}


class Square:
    """A target, exact to the pixel."""

    def __init__(self, left: int, top: int, side: int) -> None:
        self.box = Box(left, top, left + side, top + side)
        self.area = float(side * side)

    def draw(self, view: View, side: int, stride: int = 1) -> Tensor:
        cells = side // stride
        down = view.box.height / view.size.height * stride
        across = view.box.width / view.size.width * stride
        rows = torch.arange(cells) * down + view.box.top
        columns = torch.arange(cells) * across + view.box.left
        covered = _shared(rows, down, self.box.top, self.box.bottom)[:, None]
        return covered * _shared(columns, across, self.box.left, self.box.right)


def _shared(start: Tensor, length: float, low: float, high: float) -> Tensor:
    return ((start + length).clamp(max=high) - start.clamp(min=low)).clamp(min=0) / length


class Gradient(nn.Module):
    """Finds the right of a look more relevant than the left, from 0 to 1."""

    def __init__(self, prompt_dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.prompt_dim = prompt_dim
        self.scale = nn.Parameter(torch.tensor(scale))

    def relevance(self, looks: Sequence[Look], prompt: Prompt) -> list[Tensor | None]:
        return [torch.linspace(0, 1, 8).expand(8, 8) * self.scale for _ in looks]

    def rank(
        self,
        looks: Sequence[Look],
        relevance: Sequence[Tensor | None],
        candidates: Sequence[View],
        plan: Plan,
    ) -> Sequence[View]:
        return []


def look(view: View) -> Look:
    valid = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    valid[: view.size.height, : view.size.width] = True
    features = tuple(torch.zeros(4, SIDE // stride, SIDE // stride) for stride in (4, 8))
    return Look(view, torch.zeros(3, SIDE, SIDE), valid, features)


@torch.no_grad()
def seen(cropper: object, budget: int) -> list[View]:
    """The views a cropper would see, asked in rounds of four."""
    looks = [look(geometry.overview(SCENE.size, SIDE))]
    while len(looks) <= budget:
        offered = geometry.candidates(looks, PLAN, SCENE)
        relevance = cropper.relevance(looks, PROMPT)
        ranked = cropper.rank(looks, relevance, offered, PLAN)
        assert set(ranked) <= set(offered)
        assert len(set(ranked)) == len(ranked)
        if not ranked:
            break
        looks += [look(view) for view in ranked[: min(4, budget + 1 - len(looks))]]
    return [item.view for item in looks[1:]]


def build(name: str, **arguments: object) -> object:
    return CROPPERS.build({"type": f"baselines/{name}", **arguments}, **FACTS)


def native() -> list[View]:
    return geometry.tiles(SCENE.size, SIDE, 1)


@pytest.mark.parametrize("name", ["whole", "tiles", "random", "oracle"])
def test_blind_croppers_have_no_opinion(name: str) -> None:
    looks = [look(geometry.overview(SCENE.size, SIDE))] * 2
    assert build(name).relevance(looks, PROMPT) == [None, None]


def test_whole_looks_at_nothing_more() -> None:
    assert seen(build("whole"), 100) == []


def test_tiles_sees_every_native_tile_in_raster_order() -> None:
    views = seen(build("tiles"), 1000)
    assert [view for view in views if view.scale == 1] == native()


def test_random_sees_everything_in_another_order() -> None:
    views = seen(build("random"), 1000)
    assert set(native()) <= set(views)
    assert views != seen(build("tiles"), 1000)
    assert views != seen(build("random", seed=1), 1000)
    assert views == seen(build("random"), 1000)


@pytest.mark.parametrize("name", ["tiles", "random", "oracle", "uncertain"])
@pytest.mark.parametrize("budget", [1, 3, 7, 12])
def test_budgets_nest(name: str, budget: int) -> None:
    cropper = build(name, **({"cropper": {"type": Gradient}} if name == "uncertain" else {}))
    if isinstance(cropper, Binding):
        cropper.bind([Square(10, 10, 60), Square(200, 120, 40)])
    assert seen(cropper, budget) == seen(cropper, 30)[:budget]


def test_random_ranks_a_view_alike_beside_any_others() -> None:
    cropper, views = build("random"), native()
    half = views[::2]
    whole_order = cropper.rank([], [], views, PLAN)
    assert cropper.rank([], [], half, PLAN) == [view for view in whole_order if view in half]


def test_random_does_not_mind_whether_a_side_is_an_int() -> None:
    views = native()
    same = [
        View(Box(*map(float, (v.box.left, v.box.top, v.box.right, v.box.bottom))), v.size, v.scene)
        for v in views
    ]
    assert build("random").rank([], [], views, PLAN) == build("random").rank([], [], same, PLAN)


@torch.no_grad()
def test_uncertain_looks_first_where_the_other_cannot_decide() -> None:
    cropper = build("uncertain", cropper={"type": Gradient})
    looks = [look(geometry.overview(SCENE.size, SIDE))]
    offered = geometry.candidates(looks, PLAN, SCENE)
    relevance = cropper.relevance(looks, PROMPT)
    ranked = cropper.rank(looks, relevance, offered, PLAN)
    assert sorted(ranked, key=offered.index) == offered
    opinions = geometry.relevance_of(ranked, looks, relevance)
    certainty = [abs(opinion - 0.5) for opinion in opinions]
    assert certainty == sorted(certainty)
    assert certainty[0] < 0.1 < 0.4 < certainty[-1]


def test_uncertain_begins_where_there_is_no_opinion() -> None:
    cropper = build("uncertain", cropper={"type": Gradient})
    looks = [look(view) for view in (geometry.overview(SCENE.size, SIDE), native()[0])]
    inside, outside = native()[0], native()[-1]
    sure = torch.ones(8, 8)
    assert cropper.rank(looks, [sure, None], [outside, inside], PLAN) == [inside, outside]


def test_uncertain_trains_and_saves_what_it_wraps() -> None:
    cropper = build("uncertain", cropper={"type": Gradient, "scale": 0.5})
    assert dict(cropper.named_parameters()).keys() == {"cropper.scale"}
    (relevance,) = cropper.relevance([look(geometry.overview(SCENE.size, SIDE))], PROMPT)
    relevance.sum().backward()
    assert cropper.cropper.scale.grad is not None


def test_uncertain_hands_on_what_is_wrong_with_the_other() -> None:
    with pytest.raises(PluginError, match="Nearest: 'baselines/tiles'"):
        build("uncertain", cropper={"type": "baselines/tils"})
    with pytest.raises(ConfigError, match="unknown argument 'scal'"):
        build("uncertain", cropper={"type": Gradient, "scal": 1})


def test_oracle_finds_a_single_pixel_and_nothing_else() -> None:
    oracle = build("oracle")
    oracle.bind([Square(300, 150, 1)])
    assert isinstance(oracle, Binding)
    views = seen(oracle, 1000)
    assert len(views) == len(geometry.planned_rungs(PLAN, SCENE))
    for view in views:
        assert view.box.left <= 300 < view.box.right
        assert view.box.top <= 150 < view.box.bottom
    (coarse,) = oracle.relevance([look(geometry.overview(SCENE.size, SIDE))], PROMPT)
    assert coarse.sum() == 1
    assert coarse.shape == (4, 4)


def test_oracle_prefers_the_view_with_most_of_the_targets() -> None:
    oracle = build("oracle")
    oracle.bind([Square(2, 2, 8), Square(98, 98, 20), Square(40, 40, 4)])
    views = [view for view in native() if view in set(seen(oracle, 1000))]
    (first, *_) = oracle.rank([], [], native(), PLAN)
    assert len(views) == 3
    assert (first.box.left, first.box.top) == (96, 96)


def test_oracle_forgets() -> None:
    oracle = build("oracle")
    oracle.bind([Square(2, 2, 8)])
    oracle.bind([])
    assert seen(oracle, 1000) == []


def test_uncertain_keeps_its_promises_around_a_cropper_with_opinions() -> None:
    config = {"type": "baselines/uncertain", "cropper": {"type": "tiny/cropper", "width": 8}}
    assert check_component("cropper", config) == []
