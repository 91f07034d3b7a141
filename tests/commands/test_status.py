"""`opentrail status`: its output and its exit code."""

import json
from typing import Any

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole

TRAIL = {"name": "my-trail", "status": "Logging", "reason": None, "latestDelivery": None}


def a_status(**changes: Any) -> dict[str, Any]:
    status: dict[str, Any] = {
        "status": "ok",
        "version": "1.2.3",
        "started": "2020-01-01T09:00:00Z",
        "upstreams": {"*": "http://127.0.0.1:5000", "s3": "http://127.0.0.1:8333"},
        "newestEvent": "2020-01-01T09:00:05Z",
        "visibleSeconds": {"p50": 0.012, "p99": None},
        "journal": {"position": 5, "failure": None, "unverified": None, "lost": []},
        "history": {"position": 5, "imported": 0, "files": 1, "responding": True},
        "missing": [],
        "controlStore": {"failure": None},
        "trailProblems": [],
        "trails": [],
        "disk": {
            "path": "/data",
            "used": 1_500_000_000,
            "free": 2_000_000_000_000,
            "parts": {
                "journal": 1_000_000_000,
                "history": 400_000_000,
                "spilledBodies": 0,
                "other": 100_000_000,
            },
            "bytesPerDay": {"Data": 3_000_000_000, "Management": 20_000_000},
            "daysLeft": 662,
        },
        "lastProblem": None,
    }
    return {**status, **changes}


def test_a_healthy_server_exits_0(console: StubConsole, capsys: pytest.CaptureFixture[str]) -> None:
    console.answers(a_status(trails=[TRAIL]))
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ok\n")
    for line in (
        "version          1.2.3",
        "upstream         http://127.0.0.1:5000, s3=http://127.0.0.1:8333",
        "newest event     2020-01-01T09:00:05Z",
        "visible after    p50 0.012 s (last minute)",
        "disk             1.50 GB used, 2,000.00 GB free, /data",
        "records take     journal 1.00 GB, event history 0.40 GB, spilled bodies 0.00 GB, the rest"
        " 0.10 GB",
        "records grow by  Data 3.00 GB, Management 0.02 GB a day; the disk is full in 662 days",
        "last problem     none since the start",
        "my-trail  Logging",
    ):
        assert f"  {line}\n" in out
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == a_status(trails=[TRAIL])


def test_a_degraded_server_exits_with_an_error(
    console: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = [{"first": 3, "last": None, "reason": "cut"}]
    journal = {"position": 5, "failure": "disk full", "unverified": "00.db", "lost": lost}
    history: dict[str, object] = {"position": 5, "imported": 0, "files": 1, "responding": False}
    history["failure"] = "it ended"
    console.answers(
        a_status(status="degraded", missing=["positions 3 to 4"], journal=journal, history=history)
    )
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("degraded\n")
    for text in (
        "Positions 3 to 4.",
        "disk full",
        "Not verified: 00.db",
        "history process does not answer",
        "it ended",
        "Positions 3 to unknown: cut.",
    ):
        assert text in out


def test_a_failing_trail_exits_with_an_error(
    console: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"time": "2020-01-01T09:00:00", "message": "delivery failed", "error": "NoSuchBucket"}
    failing = {**TRAIL, "status": "Failing", "reason": "NoSuchBucket"}
    console.answers(a_status(trails=[failing], lastProblem=problem))
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert "my-trail  Failing: NoSuchBucket" in out
    assert "2020-01-01T09:00:00 delivery failed: NoSuchBucket" in out
