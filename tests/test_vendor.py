# SPDX-License-Identifier: Apache-2.0
"""Other people's files are what they published, to the byte, and travel with the package."""

import hashlib
import tomllib
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VENDOR = resources.files("powersample") / "report" / "vendor"
SHA256 = {  # of uplot-1.6.32.tgz
    "uplot/uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot/uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot/LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


@pytest.mark.parametrize("name", SHA256)
def test_vendored_file_is_what_its_makers_published(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == SHA256[name]


def test_nothing_else_is_vendored():
    found = {path.relative_to(str(VENDOR)).as_posix() for path in Path(str(VENDOR)).rglob("*") if path.is_file()}
    assert found == {*SHA256, "README.md"}


def test_version_in_the_script_is_that_of_the_readme():
    assert "(v1.6.32)" in (VENDOR / "uplot/uPlot.iife.min.js").read_text(encoding="utf-8")[:200]
    assert "| 1.6.32 |" in (VENDOR / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["vendor", "page"])
def test_wheel_and_sdist_take_every_kind_of_file_there_is(folder):
    """An installed package finds them; a pattern that misses one shows only there."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    files = [path for path in (ROOT / "powersample/report" / folder).rglob("*") if path.is_file()]
    taken = {path for pattern in patterns["powersample"] for path in (ROOT / "powersample").glob(pattern)}
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    assert files
    assert [path.name for path in files if path not in taken] == []
    assert f"graft powersample/report/{folder}" in manifest
