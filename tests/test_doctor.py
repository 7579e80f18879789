"""What `geomag doctor` makes of what is installed."""

from __future__ import annotations

import pytest

from geomag import cli
from geomag.doctor_command import Finding, examine

WELL = {"geomag-vlm": "0.1.0", "torch": "2.13.0+cpu", "pillow": "13.0.0", "rasterio": "1.4.4"}


def ill(installed: dict[str, str]) -> list[Finding]:
    return [finding for finding in examine(installed) if finding.cure is not None]


def test_what_goes_together_needs_no_cure() -> None:
    assert ill(WELL) == []


@pytest.mark.parametrize(
    ("more", "culprit", "cure"),
    [
        ({"mmcv": "2.2.0", "onedl-mmcv": "2.3.6"}, "mmcv and onedl-mmcv", "uninstall mmcv"),
        (
            {"opencv-python": "5.0", "opencv-python-headless": "4.12"},
            "opencv-python-headless and opencv-python",
            "opencv-python==5.0",
        ),
        ({"geomag": "1.0"}, "geomag and geomag-vlm", "uninstall geomag"),
        ({"torch": "2.9.1"}, "torch 2.9.1", "torch>=2.10"),
        ({"transformers": "4.57.1"}, "transformers 4.57.1", "transformers>=5.3"),
        ({"pillow": "12.10"}, None, None),
    ],
)
def test_what_does_not_go_together_is_named_with_its_cure(
    more: dict[str, str], culprit: str | None, cure: str | None
) -> None:
    found = ill(WELL | more)
    if culprit is None or cure is None:
        assert found == []
        return
    (finding,) = found
    assert culprit in finding.what
    assert finding.cure is not None
    assert cure in finding.cure


def test_files_alone_are_no_installation() -> None:
    assert [finding.cure for finding in ill({})] == ["pip install -e . in its folder"]


def test_the_report_lists_plugins_and_has_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "plugin tiny" in report
    assert report.splitlines()[0].startswith("GeoMag ")
