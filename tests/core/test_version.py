"""The version of the package and of its data."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import opentrail
from opentrail.core.version import DATA_VERSION, __version__


def test_the_package_has_a_version() -> None:
    assert opentrail.__version__ == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+\+g[0-9a-f]+)?", __version__)


def test_the_installed_package_is_this_one() -> None:
    assert version("opentrail") == __version__


def test_the_version_is_defined_in_one_place() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/opentrail/core/version.py"


def test_layout_of_the_data_is_a_counted_one() -> None:
    assert isinstance(DATA_VERSION, int)
    assert DATA_VERSION >= 1
