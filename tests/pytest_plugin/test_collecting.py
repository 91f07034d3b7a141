"""Finding the modules that use the fixtures, by their text."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.pytest_plugin.plugin import any_uses_fixture, initial_conftests, uses_fixture


@pytest.mark.parametrize(
    "text",
    [
        "def test_a_call_is_made(opentrail): pass",
        "async def test_a_call_is_made(\n    world,\n    opentrail: Oracle,\n) -> None: pass",
        "def test_a_call_is_made(opentrail_server): pass",
        "@pytest.mark.usefixtures('a', \"opentrail\")\ndef test_a_call_is_made(): pass",
        "def f(request):\n    request.getfixturevalue('opentrail')",
    ],
)
def test_a_module_uses_a_fixture(tmp_path: Path, text: str) -> None:
    (tmp_path / "test_it.py").write_text(text)
    assert uses_fixture(tmp_path / "test_it.py", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import opentrail\ndef test_a_call_is_made(): opentrail.x()",
        "def test_a_call_is_made(my_opentrail): pass",
        "def test_a_call_is_made(request): request.config.pluginmanager.hasplugin('opentrail')",
    ],
)
def test_a_module_does_not(tmp_path: Path, text: str) -> None:
    (tmp_path / "test_it.py").write_text(text)
    assert not uses_fixture(tmp_path / "test_it.py", tmp_path)
    assert not uses_fixture(tmp_path / "missing.py", tmp_path)


def test_conftests_up_to_the_root_count(tmp_path: Path) -> None:
    inner = tmp_path / "root" / "tests" / "unit"
    inner.mkdir(parents=True)
    (inner / "test_it.py").write_text("def test_a_call_is_made(world): pass")
    (tmp_path / "root" / "tests" / "conftest.py").write_text("def world(opentrail): pass")
    assert uses_fixture(inner / "test_it.py", tmp_path)
    assert uses_fixture(inner / "test_it.py", tmp_path / "root" / "tests")
    assert not uses_fixture(inner / "test_it.py", inner)


def test_the_arguments_determine_the_initial_conftests(tmp_path: Path) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    conftest = tmp_path / "tests" / "conftest.py"
    conftest.write_text("def world(opentrail): pass")
    for arguments in ([], ["."], ["tests"], ["tests/unit/test_a.py::test_it"], ["tests/unit"]):
        found = initial_conftests(arguments, tmp_path, tmp_path)
        assert conftest in found, arguments
        assert any_uses_fixture(found)
    assert conftest not in initial_conftests(["tests/unit"], tmp_path / "tests" / "unit", tmp_path)
