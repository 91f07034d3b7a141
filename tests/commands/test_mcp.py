"""`opentrail mcp`: its requirements; tests/live/test_mcp.py tests its answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opentrail.cli import main, parser
from tests.commands.exits import exits
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]


def test_without_the_package_the_error_explains_its_installation(
    console: StubConsole, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "mcp"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "opentrail.mcp.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "needs the package mcp" in said.err
    assert "pip install 'opentrail[mcp]'" in said.err


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("4749", "--listen must be HOST:PORT"),
        ("0.0.0.0:0", "--listen 0.0.0.0 is not a loopback address: no token may cross"),
        ("127.0.0.1:0", "no server runs on data directory opentrail-data"),
    ],
)
@pytest.mark.usefixtures("empty_folder")
def test_it_listens_on_this_machine_only(listen: str, message: str, capsys: Capture) -> None:
    assert main(["mcp", "--listen", listen]) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_named(console: StubConsole, capsys: Capture) -> None:
    authority = console.url.rpartition("/")[2]
    assert main(["mcp", "--listen", authority]) == 2
    assert f"--listen {authority} cannot be used: Address already in use" in capsys.readouterr().err


@pytest.mark.usefixtures("empty_folder")
def test_without_a_server_nothing_starts(capsys: Capture) -> None:
    assert main(["mcp"]) == 2
    assert "no server runs on data directory opentrail-data" in capsys.readouterr().err


def test_the_command_has_only_the_protocols_output() -> None:
    assert exits("mcp", "--json") == 2


@pytest.mark.slow
def test_no_other_command_imports_the_package() -> None:
    """It takes two seconds and 70 MB; `parser()` imports the module of every command."""
    program = (
        "import sys; from opentrail.cli import parser; parser(); import opentrail.app.server;"
        " sys.exit('mcp' in sys.modules or 'pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_documented_settings_of_agents_match_the_command() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/ask-with-agents.md").read_text()
    blocks = re.findall(r"^```json\n(.*?)^```", page, re.M | re.S)
    assert len(blocks) == 5
    for block in blocks:
        (servers,) = json.loads(block).values()
        settings = servers["opentrail"]
        if settings.get("type") == "http":
            assert settings["url"].endswith(":4749/mcp")
            continue
        assert settings["command"] == "opentrail"
        options = parser("mcp").parse_args(settings["args"])
        assert options.data_dir == "/home/you/opentrail-data" or settings["env"]
