"""`opentrail serve` and `opentrail sandbox` refuse wrong settings; tests/live has the rest."""

import subprocess
import sys
from importlib import import_module
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
    import_module("opentrail.commands.serve")  # while there are paths
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "moto", raising=False)
    assert main(["sandbox"]) == 2
    assert "opentrail[sandbox]" in capsys.readouterr().err


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("arguments", [["--upstream", "nonsense"], ["--recorders", "257"]])
def test_wrong_setting_is_refused_before_loading_the_server(arguments: list[str]) -> None:
    """Loading it takes half a second."""
    program = (
        "import sys; from opentrail.cli import main; code = main(sys.argv[1:]);"
        "print(code, 'opentrail.app.server' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "serve", *arguments]
    assert subprocess.check_output(command, text=True).split() == ["2", "False"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("serve", "--listen", "nowhere"), "--listen"),
        (("serve", "--console-listen", "0.0.0.0:1"), "--console-listen"),
        (("serve", "--upstream", "localhost"), "--upstream"),
        (("serve", "--delivery-interval", "soon"), "--delivery-interval"),
        (("serve", "--history-retention-days", "0"), "--history-retention-days"),
        (("serve", "--auth", "open"), "--auth"),
        (("serve", "--unknown-keys", "refuse"), "--unknown-keys"),
        (("serve", "--on-record-failure", "ignore"), "--on-record-failure"),
        (("serve", "--recorders", "257"), "--recorders"),
        (("serve", "--config", "gone.toml"), "gone.toml"),
        (("sandbox", "--listen", "nowhere"), "--listen"),
        (("sandbox", "--s3", "ceph"), "--s3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_setting_is_wrong_use_and_starts_nothing(
    arguments: tuple[str, ...],
    named: str,
    capsys: pytest.CaptureFixture[str],
    empty_folder: Path,
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("opentrail: ")
    assert named in said
    assert list(empty_folder.iterdir()) == []
