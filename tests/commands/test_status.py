"""`opentrail status`: what it prints, and its exit code."""

import json
from typing import Any

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole


def a_health(**changes: Any) -> dict[str, Any]:
    health = {
        "status": "ok",
        "version": "1.2.3",
        "journal": {"position": 5, "failure": None, "unverified": None, "lost": []},
        "history": {"position": 5, "imported": 0, "files": 1, "responding": True},
        "missing": [],
    }
    return {**health, **changes}


def test_a_healthy_server_is_good(console: StubConsole, capsys: pytest.CaptureFixture[str]) -> None:
    console.answers(a_health())
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ok\n")
    assert "1.2.3" in out
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == a_health()


def test_a_degraded_server_is_not_good(
    console: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    console.answers(a_health(status="degraded", missing=["positions 3 to 4"]), 503)
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("degraded\n")
    assert "Positions 3 to 4." in out
