"""Finding, loading and classifying plugins, with packages that exist as folders only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from geomag import plugins
from geomag.errors import PluginError
from geomag.hookspecs import KINDS, Component

HEAD = """
from geomag.hookspecs import Component, hookimpl

@hookimpl
def geomag_components():
    return [Component("mask_head", "lines", "collections:OrderedDict"),
            Component("cropper", "edges", "collections:Counter", tiny={"width": 8})]
"""


class Site:
    """A folder of installed packages."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def install(
        self,
        package: str,
        source: str,
        plugin: str = "acme",
        version: str = "1.0",
        group: str = "geomag.v1",
    ) -> None:
        module = package.replace("-", "_")
        (self.root / f"{module}.py").write_text(source)
        folder = self.root / f"{module}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {module}\n")

    @property
    def entry_points(self) -> list[EntryPoint]:
        found = distributions(path=[str(self.root)])
        return [entry for distribution in found for entry in distribution.entry_points]

    def inventory(self) -> plugins.Inventory:
        return plugins.inventory(self.entry_points)

    def reason(self) -> str:
        """Why its only package cannot be used."""
        stock = self.inventory()
        assert stock.plugins == ()
        (problem,) = stock.problems
        return problem.reason


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("shop_"):
            del sys.modules[name]


def test_a_plugin_is_listed_with_its_package_version_and_components(site: Site) -> None:
    site.install("shop-heads", HEAD, version="1.2.3")
    (plugin,) = site.inventory().plugins
    assert (plugin.name, plugin.package, plugin.version) == ("acme", "shop-heads", "1.2.3")
    assert site.inventory().names("cropper") == ["acme/edges"]
    assert site.inventory().problems == ()


def test_find_gives_the_component_and_load_its_class(site: Site) -> None:
    site.install("shop-heads", HEAD)
    found = plugins.find("cropper", "acme/edges", site.entry_points)
    assert found == Component("cropper", "edges", "collections:Counter", tiny={"width": 8})
    assert plugins.load(found).__name__ == "Counter"


def test_finding_one_plugin_imports_no_other(site: Site) -> None:
    site.install("shop-heads", HEAD)
    site.install("shop-other", HEAD, plugin="other")
    plugins.find("cropper", "acme/edges", site.entry_points)
    assert "shop_heads" in sys.modules
    assert "shop_other" not in sys.modules


def test_two_packages_of_one_name_stop_only_the_run_that_asks(site: Site) -> None:
    site.install("shop-one", HEAD, version="1.0")
    site.install("shop-two", HEAD, version="2.0")
    site.install("shop-three", HEAD, plugin="other")
    stock = site.inventory()
    assert [plugin.name for plugin in stock.plugins] == ["other"]
    assert {problem.package for problem in stock.problems} == {"shop-one", "shop-two"}
    plugins.find("cropper", "other/edges", site.entry_points)
    with pytest.raises(PluginError) as caught:
        plugins.find("cropper", "acme/edges", site.entry_points)
    assert "shop-one 1.0" in str(caught.value)
    assert "shop-two 2.0" in str(caught.value)
    assert "uninstall" in str(caught.value)


def test_a_failing_import_stops_only_the_run_that_asks(site: Site) -> None:
    site.install("shop-broken", "raise RuntimeError('no licence\\nfile')", plugin="broken")
    site.install("shop-heads", HEAD)
    assert [plugin.name for plugin in site.inventory().plugins] == ["acme"]
    plugins.find("cropper", "acme/edges", site.entry_points)
    with pytest.raises(PluginError, match=r"'broken' \(shop-broken 1.0\).*no licence file$"):
        plugins.find("cropper", "broken/edges", site.entry_points)


def test_a_missing_module_is_reported(site: Site) -> None:
    site.install("shop-needy", "import a_library_nobody_has")
    assert "a_library_nobody_has" in site.reason()


@pytest.mark.parametrize("group", ["geomag.v2", "geomag.v0", "geomag.v10"])
def test_a_plugin_for_another_version_is_listed_and_never_imported(site: Site, group: str) -> None:
    site.install("shop-future", "raise SystemExit('imported')", group=group)
    assert group in site.reason()
    assert "geomag.v1" in site.reason()
    with pytest.raises(PluginError, match=r"shop-future 1\.0"):
        plugins.find("cropper", "acme/edges", site.entry_points)
    assert "shop_future" not in sys.modules


def test_a_package_for_both_versions_can_be_used(site: Site) -> None:
    site.install("shop-both", HEAD)
    entries = site.root / "shop_both-1.0.dist-info" / "entry_points.txt"
    entries.write_text(entries.read_text() + "\n[geomag.v2]\nacme = shop_both_next\n")
    assert [plugin.name for plugin in site.inventory().plugins] == ["acme"]
    plugins.find("cropper", "acme/edges", site.entry_points)


def test_a_misspelt_hook_is_found(site: Site) -> None:
    site.install("shop-typo", HEAD.replace("def geomag_components", "def geomag_component"))
    assert "geomag_component" in site.reason()


def test_a_hook_with_arguments_is_found(site: Site) -> None:
    site.install("shop-args", HEAD.replace("geomag_components()", "geomag_components(config)"))
    assert "config" in site.reason()


def test_a_forgotten_marker_is_found(site: Site) -> None:
    site.install("shop-bare", HEAD.replace("@hookimpl", ""))
    assert "@hookimpl" in site.reason()


def test_a_hook_that_raises_is_reported(site: Site) -> None:
    site.install("shop-hook", HEAD.replace("    return", "    raise OSError('disk')\n    return"))
    assert "OSError: disk" in site.reason()


@pytest.mark.parametrize(
    ("written", "instead", "expected"),
    [
        ('"cropper", "edges"', '"mask_head", "lines"', "'lines' is offered twice"),
        ('"cropper"', '"croper"', "Nearest: 'cropper'"),
        ('"edges"', '"ed.ges"', "slash, dot"),
        ('"collections:Counter"', '"collections.Counter"', "'package.module:Class'"),
        (
            'Component("mask_head", "lines", "collections:OrderedDict")',
            '"lines"',
            "not a Component",
        ),
        ('"cropper"', "3", "as text"),
    ],
)
def test_a_wrong_component_is_found(site: Site, written: str, instead: str, expected: str) -> None:
    site.install("shop-wrong", HEAD.replace(written, instead))
    assert expected in site.reason()


def test_all_wrong_components_are_named_at_once(site: Site) -> None:
    source = HEAD.replace('"edges"', '"ed/ges"').replace('"mask_head"', '"mask"')
    site.install("shop-wrong", source)
    assert "ed/ges" in site.reason()
    assert "'mask'" in site.reason()


def test_a_hook_that_returns_no_list_is_found(site: Site) -> None:
    site.install("shop-none", HEAD.replace("return [", "return None and ["))
    assert "returned None, expected a list" in site.reason()


def test_a_plugin_that_exits_on_import_does_not_take_the_program_down(site: Site) -> None:
    site.install("shop-exit", "raise SystemExit('good bye')")
    assert "good bye" in site.reason()


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("cropper", "acme/edge", "Nearest: 'acme/edges'"),
        ("cropper", "amce/edges", "Nearest: 'acme/edges'"),
        ("cropper", "zz/zzzz", "Installed croppers: acme/edges."),
        ("cropper", "acme/lines", "It is a mask_head."),
        ("llm_adapter", "acme/any", "Installed llm_adapters: none."),
        ("croppers", "acme/edges", "Nearest: 'cropper'"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_a_list(
    site: Site, kind: str, name: str, expected: str
) -> None:
    site.install("shop-heads", HEAD)
    with pytest.raises(PluginError) as caught:
        plugins.find(kind, name, site.entry_points)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("nowhere_at_all:Class", "No module named 'nowhere_at_all'"),
        ("collections:Nothing", "no attribute 'Nothing'"),
        ("collections:abc", "is not a class"),
    ],
)
def test_a_target_that_is_no_class_names_its_plugin(target: str, expected: str) -> None:
    component = Component("cropper", "edges", target)
    plugin = plugins.Plugin("acme", "shop-heads", "1.0", (component,))
    with pytest.raises(PluginError) as caught:
        plugins.load(component, plugin)
    assert expected in str(caught.value)
    assert "'acme/edges' (shop-heads 1.0)" in str(caught.value)


def test_a_model_is_a_function() -> None:
    assert callable(plugins.load(Component("model", "whole", "shutil:which")))
    with pytest.raises(PluginError, match="is not a function"):
        plugins.load(Component("model", "whole", "string:digits"))
    with pytest.raises(PluginError, match="is not a class"):
        plugins.load(Component("cropper", "whole", "shutil:which"))


def test_the_group_carries_the_version_of_the_contracts() -> None:
    from geomag.contracts import API_VERSION
    from geomag.hookspecs import ENTRY_POINT_GROUP

    assert f"geomag.v{API_VERSION}" == ENTRY_POINT_GROUP


def test_the_slots_are_the_registries() -> None:
    from geomag.hookspecs import SLOT_KINDS
    from geomag.promises import CONTRACTS
    from geomag.registry import SLOTS

    assert tuple(SLOTS) == SLOT_KINDS == tuple(CONTRACTS) == KINDS[:5]


def test_what_is_really_installed_can_be_used() -> None:
    assert plugins.inventory().problems == ()
    assert "baselines/oracle" in plugins.inventory().names("cropper")


def test_declaring_costs_no_torch() -> None:
    script = (
        "import sys\nfrom geomag import plugins\nassert plugins.inventory().plugins\n"
        "sys.exit(str([name for name in ('torch', 'mmengine', 'numpy') if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stderr.strip() == "[]"
