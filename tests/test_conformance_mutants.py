"""The conformance kit catches what it says it catches: every check has a mutant that fails it.

A mutant is a component of `plugins/tiny` with one promise broken, and is caught by exactly the
checks that it names.
"""

from __future__ import annotations

import pytest

from geomag.hookspecs import SLOT_KINDS
from geomag.testing.checks import checks
from geomag.testing.conformance import violations
from tests.mutants import (  # noqa: F401  they list themselves
    adapter,
    any_kind,
    controller,
    cropper,
    encoder,
    generation,
    mask_head,
)
from tests.mutants.catalogue import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutant_is_caught(mutant: Mutant) -> None:
    found = violations(mutant.subject())
    assert {violation.check for violation in found} == set(mutant.caught_by), "\n".join(
        str(violation) for violation in found
    )


@pytest.mark.parametrize("kind", SLOT_KINDS)
def test_every_check_catches_a_mutant(kind: str) -> None:
    caught = {name for one in MUTANTS if one.kind == kind for name in one.caught_by[:1]}
    assert set(checks(kind)) - caught == set()


def test_mutants_name_checks_that_exist() -> None:
    for one in MUTANTS:
        assert set(one.caught_by) <= set(checks(one.kind)), str(one)


def test_mutants_are_at_least_25() -> None:
    assert len([one for one in MUTANTS if one.caught_by]) >= 25
