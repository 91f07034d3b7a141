"""Advice in errors fits the environment; tests/live/test_install.py tests that it works."""

import importlib.util
import sys
from pathlib import Path

import pytest

from opentrail.core.version import command_for


def test_pips_command_runs_with_the_same_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/opt/a folder/bin/python")
    assert command_for("oidc") == "'/opt/a folder/bin/python' -m pip install 'opentrail[oidc]'"


def test_without_pip_the_command_is_one_of_uv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/opt/bin/python")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert command_for("oidc") == "uv pip install --python /opt/bin/python 'opentrail[oidc]'"


def test_in_a_pipx_environment_the_command_uses_pipx(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pipx_metadata.json").write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert command_for("oidc") == "pipx runpip opentrail install 'opentrail[oidc]'"
