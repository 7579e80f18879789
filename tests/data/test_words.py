from __future__ import annotations

import pytest

from geomag.data.words import listed, noun


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("airplane", "airplane", "airplanes"),
        ("storage_tank", "storage tank", "storage tanks"),
        ("ground_track_field", "ground track field", "ground track fields"),
        ("small-vehicle", "small vehicle", "small vehicles"),
        ("Expressway-Service-area", "expressway service area", "expressway service areas"),
        ("buildings", "building", "buildings"),
        ("bridges", "bridge", "bridges"),
        ("bus", "bus", "buses"),
        ("buses", "bus", "buses"),
        ("ferry", "ferry", "ferries"),
        ("ferries", "ferry", "ferries"),
        ("subway", "subway", "subways"),
        ("beach", "beach", "beaches"),
        ("churches", "church", "churches"),
        ("overpass", "overpass", "overpasses"),
        ("person", "person", "people"),
        ("military aircraft", "military aircraft", "military aircraft"),
        ("SUV", "SUV", "SUVs"),
    ],
)
def test_singular_and_plural(name: str, one: str, many: str) -> None:
    word = noun(name)
    assert (word.one, word.many) == (one, many)


def test_numbers_and_articles() -> None:
    assert noun("ship").times(1) == "1 ship"
    assert noun("ship").times(20) == "20 ships"
    assert noun("ship").times(21) == "many ships"
    assert noun("airplane").a == "an airplane"
    assert noun("ship").a == "a ship"


def test_what_cannot_be_counted_has_neither() -> None:
    water = noun("deep_water")
    assert not water.countable
    assert (water.every, water.a, water.times(3), water.are(3)) == (
        "all deep water", "any deep water", "deep water", "is",
    )  # fmt: skip


def test_lists() -> None:
    assert [listed(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no letters"):
        noun("_")
