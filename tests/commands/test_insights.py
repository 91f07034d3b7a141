"""`opentrail insights`: its output for a server's answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from opentrail.cli import main
from opentrail.commands.insights import chart
from tests.factories import ABSENT, a_principal_record, an_insight_record
from tests.stub_console import StubConsole, stub_console

INCIDENT = {
    "id": "5f0c11d2-0000-5000-8000-000000000000",
    "sentence": "EC2 RunInstances: 42 calls in 6 minutes, usually 0.3 a minute",
    "state": "over",
    "start": "2020-01-01T09:00:00Z",
    "end": "2020-01-01T09:06:00Z",
    "account": "123456789012",
    "region": "us-east-1",
    "eventSource": "ec2.amazonaws.com",
    "eventName": "RunInstances",
    "errorCode": None,
    "expected": None,
    "average": 7,
    "baseline": 0.3,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubConsole]:
    with stub_console(tmp_path) as stub:
        yield stub


def run(server: StubConsole, *arguments: str) -> int:
    return main(["insights", *arguments, "--data-dir", str(server.data_dir)])


def test_incidents_are_one_line_each(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"end": None, "start": "2020-01-02T09:00:00Z", "expected": "a test"}
    open_one = {**INCIDENT, **changes}
    server.answers({"incidents": [open_one, INCIDENT]})
    assert run(server, "--since", "2020-01-01", "--limit", "7") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"2020-01-02T09:00:00Z  5f0c11d2  {INCIDENT['sentence']} (going on) (expected: a test)",
        f"2020-01-01T09:00:00Z  5f0c11d2  {INCIDENT['sentence']}",
    ]
    assert server.asked[0].path == "/api/v1/insights?since=2020-01-01&limit=7"


def test_an_empty_list_is_reported_on_stderr(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {"state": "watching", "daysLearned": 28, "daysToLearn": 28}
    server.answers({"incidents": [], **status})
    assert run(server) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "no unusual activity found\n")


@pytest.mark.parametrize(("state", "days"), [("off", 0), ("starting", 0), ("learning", 0)])
def test_unwatched_activity_is_no_verdict(
    server: StubConsole, capsys: pytest.CaptureFixture[str], state: str, days: int
) -> None:
    server.answers({"incidents": [], "state": state, "daysLearned": days, "daysToLearn": 28})
    assert run(server) == 5
    assert "because Insights is " in capsys.readouterr().err
    server.answers({"incidents": [], "state": "learning", "daysLearned": 1, "daysToLearn": 28})
    assert run(server) == 0


def test_json_is_one_incident_a_line(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"incidents": [INCIDENT, INCIDENT]})
    run(server, "--json")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [INCIDENT] * 2


def shown() -> dict[str, Any]:
    minutes = [[f"2020-01-01T09:{n:02}:00Z", n] for n in range(9)]
    around = {"from": "2020-01-01T09:00:00Z", "until": "2020-01-01T09:09:00Z"}
    return {**INCIDENT, "record": an_insight_record("End"), "minutes": minutes, **around}


def test_incident_has_a_chart_and_attributions(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers(shown())
    assert run(server, "show", "5f0c/11") == 0
    assert server.asked[0].path == "/api/v1/insights/5f0c%2F11"
    out = capsys.readouterr().out
    assert out.startswith("EC2 RunInstances: 42 calls")
    assert "2020-01-01T09:00:00Z to 2020-01-01T09:06:00Z" in out
    assert "▁▂▃▄▅▆▇█" not in out
    assert "8.4 a minute, usually 0.0017  arn:aws:iam::123456789012:user/John" in out


@pytest.mark.parametrize("attributions", [[], [{"attribute": "userAgent", "insight": []}], None])
def test_an_incident_of_an_older_record_is_shown(
    server: StubConsole, capsys: pytest.CaptureFixture[str], attributions: Any
) -> None:
    record = an_insight_record("End", sourceEventCategory=ABSENT)
    context = record["insightDetails"]["insightContext"]
    context["attributions"] = attributions
    if attributions is None:
        del context["attributions"]
    server.answers({**shown(), "record": record, "events": []})
    assert run(server, "show", "5f0c11d2") == 0
    assert "5f0c11d2 --events prints the calls" in capsys.readouterr().out
    assert run(server, "show", "5f0c11d2", "--events") == 0
    assert "+AND+eventCategory+%3D+%22Management%22" in server.asked[-1].path


def test_the_calls_of_an_incident_are_requested(server: StubConsole) -> None:
    def react(asked: Any) -> tuple[int, Any]:
        if asked.path.startswith("/api/v1/insights/"):
            return 200, {**shown(), "errorCode": "AccessDenied"}
        return 200, {"events": []}

    server.react = react
    assert run(server, "show", "5f0c11d2", "--events") == 0
    query = server.asked[1].path
    assert "eventName+%3D+%22RunInstances%22" in query
    assert "eventName+%3D+%22RunInstances%22+AND+eventSource" in query
    assert "+AND+eventCategory+%3D+%22Management%22+AND" in query
    assert "+AND+errorCode+%3D+%22AccessDenied%22" in query
    assert "since=2020-01-01T09%3A00%3A00Z&until=2020-01-01T09%3A06%3A00Z" in query


def test_the_status_is_one_line_for_each_figure(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {
        "state": "learning",
        "daysLearned": 3,
        "daysToLearn": 28,
        "watchedUntil": None,
        "unwatchedCalls": 0,
        "unwatchedUses": 0,
        "daysToScan": None,
    }
    server.answers(status)
    assert run(server, "status") == 0
    assert capsys.readouterr().out == "state           learning: 3 of 28 days of event history\n"
    watching = {
        **status,
        "state": "watching",
        "knownSince": "2020-01-01T09:00:00Z",
        "watchedUntil": "2020-01-29T09:00:00Z",
        "keys": 1200,
        "openIncidents": 1,
        "unwatchedCalls": 5,
        "unwatchedUses": 1_000,
        "daysScanned": 3,
        "daysToScan": 34,
    }
    server.answers(watching)
    run(server, "status")
    assert capsys.readouterr().out.splitlines() == [
        "state           watching",
        "watches         1,200 APIs and error codes of APIs",
        "events from     2020-01-01T09:00:00Z",
        "counted until   2020-01-29T09:00:00Z",
        "open incidents  1",
        "scan            3 of 34 days",
        "not watched     5 calls: there are too many keys",
        "not compared    1,000 uses by principals: there are too many values",
    ]
    run(server, "status", "--json")
    assert json.loads(capsys.readouterr().out) == watching
    totals = ("keys", "openIncidents", "unwatchedCalls", "unwatchedUses")
    server.answers({**watching, **dict.fromkeys(totals), "daysToScan": None})
    run(server, "status")
    assert capsys.readouterr().out.splitlines() == [
        "state           watching",
        "events from     2020-01-01T09:00:00Z",
        "counted until   2020-01-29T09:00:00Z",
    ], "a user of some accounts"


def test_an_incident_is_marked_as_expected(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({**INCIDENT, "expected": "load test"})
    assert run(server, "expected", "5f0c11d2", "--note", "load test") == 0
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/insights/5f0c11d2/expected")
    assert json.loads(asked.body) == {"note": "load test"}
    assert capsys.readouterr().out == (
        "expected: for 90 days from 2020-01-01T09:00:00Z,"
        " ec2 RunInstances is reported only if it is more\n"
    )


def test_a_scan_prints_its_findings(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"incidents": [INCIDENT], "known": 2})
    assert run(server, "scan", "--since", "2020-01-01") == 0
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/insights/scan?since=2020-01-01")
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == "1 found and recorded, 2 recorded before\n"


def shown_of_principal(name: str) -> dict[str, Any]:
    record = a_principal_record(name, "End")
    extension = {**record["insightDetails"]["extension"], "eventID": "7"}
    return {**INCIDENT, "record": record, "extension": extension, "minutes": []}


def test_principal_incident_has_no_chart(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers(shown_of_principal("new-api"))
    assert run(server, "show", "5f0c11d2") == 0
    out = capsys.readouterr().out
    assert "  principal arn:aws:iam::123456789012:user/John\n" in out
    assert "  new       iam:CreateAccessKey\n" in out
    assert "┄" not in out
    assert "a minute, usually" not in out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("new-api", 'eventID = "7"'),
        (
            "api-fan-out",
            '(userIdentity.arn = "arn:aws:iam::123456789012:user/John"'
            ' OR userIdentity.arn = "arn:aws:iam::123456789012:user/John/*")',
        ),
        ("access-denied", ' AND (errorCode = "AccessDenied*" OR errorCode = "*Unauthorized'),
    ],
)
def test_the_calls_of_a_principal_are_requested(
    server: StubConsole, name: str, expected: str
) -> None:
    def react(asked: Any) -> tuple[int, Any]:
        if asked.path.startswith("/api/v1/insights/"):
            return 200, shown_of_principal(name)
        return 200, {"events": []}

    server.react = react
    assert run(server, "show", "5f0c11d2", "--events") == 0
    (expression,) = parse_qs(urlsplit(server.asked[1].path).query)["expression"]
    assert expected in expression


@pytest.mark.parametrize(
    "wrong",
    [
        ["show"],
        ["expected"],
        ["scan"],
        ["list", "5f0c"],
        ["--events"],
        ["show", "5f0c", "--note", "x"],
    ],
)
def test_wrong_use_is_refused(server: StubConsole, wrong: list[str]) -> None:
    assert run(server, *wrong) == 2
    assert server.asked == []


def test_a_chart_has_scaled_bars_and_a_baseline() -> None:
    lines = chart([0, 8, 4], baseline=4, room=80)
    assert len(lines) == 8
    assert lines[0].split() == ["8", "█"]
    assert lines[4] == "        ┄██"


def test_long_chart_has_the_largest_of_several_minutes() -> None:
    lines = chart([0] * 500 + [9] + [0] * 499, baseline=0, room=60)
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].count("█") == 1
