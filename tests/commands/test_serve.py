"""`opentrail serve` and `opentrail sandbox` refuse what cannot run; the rest is tested live."""

import sys
from pathlib import Path

import pytest

from opentrail.cli import main


def test_the_sandbox_is_for_one_machine(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its upstream verifies nothing."""
    arguments = ["sandbox", "--listen", "0.0.0.0:0", "--auth", "enforced"]
    assert main(arguments) == 2
    assert "the sandbox is for this machine alone" in capsys.readouterr().err
    assert list(empty_folder.iterdir()) == []


@pytest.mark.usefixtures("empty_folder")
def test_a_sandbox_without_moto_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "moto", raising=False)
    assert main(["sandbox"]) == 2
    assert "opentrail[sandbox]" in capsys.readouterr().err
