"""The promises of all five slots, for every component that is installed.

pytest --pyargs geomag.testing -k acme        one plugin
pytest --pyargs geomag.testing -k acme/lines  one component
pytest --pyargs geomag.testing -k check_deterministic
"""

from __future__ import annotations

import pytest

from .. import plugins
from ..errors import GeoMagError
from ..hookspecs import SLOT_KINDS, Component
from ..plugins import Plugin, Problem
from .checks import FIRST, BrokenPromiseError, Check, InapplicableError, checks, promise_of
from .conformance import run, subjects
from .subject import Subject

STOCK = plugins.inventory()
SUBJECTS = subjects()


def _promises() -> list[object]:
    """One case for each component and promise; an excuse is an expected failure."""
    return [
        pytest.param(
            build,
            check,
            id=f"{build.name}-{name}",
            marks=[pytest.mark.xfail(reason=component.excuses[name], strict=True)]
            if name in component.excuses
            else [],
        )
        for component, build in SUBJECTS
        for name, check in checks(build.kind).items()
    ]


@pytest.mark.parametrize(
    "plugin",
    [pytest.param(item, id=f"{item.name}-can_be_used") for item in STOCK.plugins]
    + [pytest.param(item, id=f"{item.plugin}-can_be_used") for item in STOCK.problems],
)
def test_plugin(plugin: Plugin | Problem) -> None:
    if isinstance(plugin, Problem):
        pytest.fail(str(plugin), pytrace=False)


@pytest.mark.parametrize(
    "component",
    [
        pytest.param(component, id=f"{plugin.name}/{component.name}-unavailable")
        for plugin in STOCK.plugins
        for component in plugin.components
        if component.unavailable
    ],
)
def test_unavailable(component: Component) -> None:
    pytest.skip(f"{component.kind} {component.name!r} cannot be used here: {component.unavailable}")


@pytest.mark.parametrize(("build", "check"), _promises())
def test_promise(build: Subject, check: Check) -> None:
    if check.__name__ != FIRST:
        try:
            build()
        except GeoMagError as error:
            pytest.skip(f"{build.name} cannot be built: {error}")
    try:
        run(check, build)
    except InapplicableError as reason:
        pytest.skip(f"{build.name}: {reason}")
    except BrokenPromiseError as broken:
        pytest.fail(f"{build.name}: {broken}\npromised: {promise_of(check)}", pytrace=False)


@pytest.mark.parametrize(
    "component",
    [
        pytest.param(component, id=f"{build.name}-excuses")
        for component, build in SUBJECTS
        if component.excuses
    ],
)
def test_excuses_name_checks(component: Component) -> None:
    known = checks(component.kind)
    unknown = [
        f"{name!r}.{plugins.nearest(name, list(known))}"
        for name in component.excuses
        if name not in known
    ]
    if unknown:
        pytest.fail(f"no check of a {component.kind} is called {'; '.join(unknown)}", pytrace=False)


@pytest.mark.parametrize(
    ("plugin", "component"),
    [
        pytest.param(plugin, component, id=f"{plugin.name}/{component.name}-can_be_loaded")
        for plugin in STOCK.plugins
        for component in plugin.components
        if component.kind not in SLOT_KINDS and not component.unavailable
    ],
)
def test_further_component(plugin: Plugin, component: Component) -> None:
    plugins.load(component, plugin)
