"""How many tokens a region gets."""

from __future__ import annotations

import pytest
import torch

from geomag import geometry, tokens
from geomag.values import Level, Look, Plan, Size, View

SIDE, GRID = 64, 16
PLAN = Plan(Level.PIXEL, SIDE)


def look_at(view: View, seed: int = 0) -> Look:
    valid = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    valid[: view.size.height, : view.size.width] = True
    features = torch.rand(5, GRID, GRID, generator=torch.Generator().manual_seed(seed))
    return Look(view, torch.zeros(3, SIDE, SIDE), valid, (features,))


def whole(height: int = SIDE, width: int = SIDE) -> Look:
    return look_at(geometry.overview(Size(height, width), SIDE))


def corner(seed: int = 0) -> Look:
    """A full tile of a larger scene."""
    return look_at(geometry.tiles(Size(4 * SIDE, 4 * SIDE), SIDE, 1)[0], seed)


def covered(item: object) -> torch.Tensor:
    grid = torch.zeros(GRID, GRID)
    for top, left, bottom, right in item.cells.tolist():  # type: ignore[attr-defined]
        grid[top:bottom, left:right] += 1
    return grid


def test_no_opinion_is_the_full_grid_where_there_is_room() -> None:
    (found,) = tokens.adjust([whole()], [None], PLAN, 1000)
    assert len(found.cells) == GRID * GRID
    assert (covered(found) == 1).all()
    torch.testing.assert_close(found.features, whole().features[0].flatten(1).T)


def test_irrelevant_is_one_token() -> None:
    (found,) = tokens.adjust([corner()], [torch.zeros(8, 8)], PLAN, 1000)
    assert found.cells.tolist() == [[0, 0, GRID, GRID]]
    torch.testing.assert_close(found.features[0], corner().features[0].mean((1, 2)))


def test_the_overview_is_always_seen_in_eight_by_eight_blocks() -> None:
    found = tokens.adjust([whole(), corner()], [torch.zeros(8, 8)] * 2, PLAN, 1000)
    assert [len(item.cells) for item in found] == [64, 1]
    assert (covered(found[0]) == 1).all()
    few = tokens.adjust([whole(), corner()], [torch.zeros(8, 8)] * 2, PLAN, 20)
    assert sum(len(item.cells) for item in few) <= 20


def test_a_relevant_corner_is_seen_cell_by_cell_and_the_rest_coarsely() -> None:
    relevance = torch.zeros(GRID, GRID)
    relevance[3, 13] = 0.9
    (found,) = tokens.adjust([corner()], [relevance], PLAN, 1000)
    assert (covered(found) == 1).all()
    assert [3, 13, 4, 14] in found.cells.tolist()
    assert len(found.cells) == 1 + 3 * 4
    place = found.cells.tolist().index([3, 13, 4, 14])
    torch.testing.assert_close(found.positions[place][:2], torch.tensor([3.5, 13.5]) / GRID / 4)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20, 64, 200])
def test_the_budget_holds_and_goes_to_the_most_relevant(limit: int) -> None:
    looks = [corner(), corner(1), corner(2)]
    relevance = [torch.rand(8, 8, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    relevance[1] = relevance[1] * 0.05
    found = tokens.adjust(looks, relevance, PLAN, limit)
    counts = [len(item.cells) for item in found]
    assert sum(counts) <= limit
    assert counts[1] <= 1
    planned = Plan(Level.PIXEL, SIDE, max_tokens=limit)
    again = tokens.adjust(looks, relevance, planned, 1000)
    assert [len(item.cells) for item in again] == counts


def test_padding_gets_no_token() -> None:
    (found,) = tokens.adjust([whole(SIDE // 2, SIDE)], [None], PLAN, 1000)
    assert len(found.cells) == GRID * GRID // 2
    assert found.cells[:, 2].max() <= GRID // 2
    (single,) = tokens.adjust([whole(1, 1)], [None], PLAN, 1000)
    assert single.cells.tolist() == [[0, 0, 1, 1]]
    assert single.positions.tolist() == [[0.5, 0.5, 1.0, 1.0]]


def test_features_learn_through_their_mean() -> None:
    look = corner()
    look.features[0].requires_grad_(True)
    (found,) = tokens.adjust([look], [torch.zeros(8, 8)], PLAN, 1000)
    found.features.sum().backward()
    assert look.features[0].grad is not None
    torch.testing.assert_close(look.features[0].grad, torch.full((5, GRID, GRID), 1 / GRID**2))


def test_a_grid_that_is_no_power_of_two() -> None:
    view = geometry.tiles(Size(240, 240), 60, 1)[0]
    look = Look(
        view, torch.zeros(3, 60, 60), torch.ones(60, 60, dtype=torch.bool), (torch.rand(5, 15, 15),)
    )
    (found,) = tokens.adjust([look], [None], PLAN, 1000)
    assert len(found.cells) == 225
    (found,) = tokens.adjust([look], [torch.zeros(15, 15)], PLAN, 1000)
    assert found.cells.tolist() == [[0, 0, 15, 15]]
    torch.testing.assert_close(found.features[0], look.features[0].mean((1, 2)))


def test_a_scene_without_data_gives_no_tokens() -> None:
    look = whole()
    look.valid[:] = False
    (found,) = tokens.adjust([look], [None], PLAN, 1000)
    assert found.cells.shape == found.positions.shape == (0, 4)
    assert found.features.shape == (0, 5)
    assert found.relevance.shape == (0,)


@pytest.mark.parametrize("limit", [3, 30, 1000])
@pytest.mark.parametrize("side", [8, GRID, 32])
def test_a_token_carries_the_highest_relevance_of_its_cells(side: int, limit: int) -> None:
    """Of a map that is coarser than the grid, as fine, or finer."""
    looks = [corner(), whole(40, SIDE), corner(1)]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    # Mostly dull, so that some blocks stay large.
    maps = [torch.rand(side, side, generator=seed) ** 12 for seed in seeds]
    found = tokens.adjust(looks, [maps[0], maps[1], None], PLAN, limit)
    sizes = set()
    for item, opinion in zip(found, [*maps, torch.ones(side, side)], strict=True):
        assert item.relevance.shape == (len(item.cells),)
        fine = opinion.repeat_interleave(GRID, 0).repeat_interleave(GRID, 1)
        data = (item.look.valid[::4, ::4]).repeat_interleave(side, 0).repeat_interleave(side, 1)
        for cells, relevance in zip(item.cells.tolist(), item.relevance.tolist(), strict=True):
            top, left, bottom, right = (edge * side for edge in cells)
            inside = (fine * data)[top:bottom, left:right]
            assert relevance == pytest.approx(float(inside.max()), abs=1e-6)
            sizes.add(cells[2] - cells[0])
    assert len(sizes) > 1 or limit == 3


def test_no_opinion_is_relevance_one() -> None:
    (found,) = tokens.adjust([corner()], [None], PLAN, 20)
    assert found.relevance.tolist() == [1.0] * len(found.cells)


def test_relevance_of_padding_is_no_relevance() -> None:
    relevance = torch.full((GRID, GRID), 0.04)
    relevance[GRID // 2 :] = 1
    found = tokens.adjust([whole(SIDE // 2, SIDE)], [relevance], PLAN, 1000)[0]
    assert found.relevance.tolist() == pytest.approx([0.04] * len(found.cells))


def test_relevance_is_detached_and_features_are_not() -> None:
    opinion = torch.rand(GRID, GRID).requires_grad_(True)
    look = corner()
    look.features[0].requires_grad_(True)
    (found,) = tokens.adjust([look], [opinion], PLAN, 1000)
    assert not found.relevance.requires_grad
    assert found.features.requires_grad


def test_relevance_of_a_grid_that_is_no_power_of_two() -> None:
    view = geometry.tiles(Size(240, 240), 60, 1)[0]
    valid = torch.ones(60, 60, dtype=torch.bool)
    look = Look(view, torch.zeros(3, 60, 60), valid, (torch.rand(5, 15, 15),))
    relevance = torch.zeros(15, 15)
    relevance[14, 14] = 0.7
    (found,) = tokens.adjust([look], [relevance], PLAN, 1000)
    place = found.cells.tolist().index([14, 14, 15, 15])
    assert float(found.relevance[place]) == pytest.approx(0.7)
    assert int((found.relevance > 0).sum()) == 1
