"""`opentrail lookup`: its requests and its output."""

import json

import pytest

from opentrail.cli import main
from tests.commands.events import an_event
from tests.factories import event_id
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]


def test_events_are_printed_as_a_table(console: StubConsole, capsys: Capture) -> None:
    console.answers({"events": [an_event()]})
    assert main(["lookup"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("Event time")
    assert "Mary" in out


def test_unknown_callers_are_shown_with_advice(console: StubConsole, capsys: Capture) -> None:
    nobody = {"type": "Unknown", "accountId": "123456789012", "accessKeyId": "AKIAX"}
    console.answers({"events": [an_event(userIdentity=nobody), an_event()]})
    assert main(["lookup"]) == 0
    said = capsys.readouterr()
    assert said.err.count("opentrail directory add KEY-ID") == 1
    assert "[directory" not in said.out
    console.answers({"events": [an_event()]})
    assert main(["lookup"]) == 0
    assert capsys.readouterr().err == ""


def test_events_are_printed_as_records_or_as_csv(console: StubConsole, capsys: Capture) -> None:
    console.answers({"events": [an_event(), an_event(eventID=event_id(2))]})
    assert main(["lookup", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["eventID"] for line in lines] == [event_id(1), event_id(2)]
    assert main(["lookup", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("Event name,Event time,")


def test_no_events_are_a_success(console: StubConsole, capsys: Capture) -> None:
    console.answers({"events": []})
    assert main(["lookup"]) == 0
    assert "no events found" in capsys.readouterr().err
    assert main(["lookup", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_omitted_events_are_mentioned(console: StubConsole, capsys: Capture) -> None:
    console.answers({"events": [an_event()], "truncated": True})
    assert main(["lookup"]) == 0
    assert "older events are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (
            ("name=CreateUser", "user=Mary Ann", "last", "2h"),
            "expression=name%3DCreateUser+user%3D%22Mary+Ann%22+last+2h&limit=50"
            "&account=own&region=us-east-1&defaults=account%2Cregion%2Ccategories"
            "&nearest=true",
        ),
        (
            (),
            "limit=50&account=own&region=us-east-1&defaults=account%2Cregion%2Ccategories"
            "&nearest=true",
        ),
        (
            ("Username=John",),
            "expression=Username%3DJohn&limit=50&account=own&region=us-east-1"
            "&defaults=account%2Cregion%2Ccategories"
            "&nearest=true",
        ),
        (
            ("--limit", "5", "--all-accounts"),
            "limit=5&region=us-east-1&defaults=region%2Ccategories&nearest=true",
        ),
        (
            ("--all-regions", "--account", "111122223333"),
            "limit=50&account=111122223333&defaults=categories&nearest=true",
        ),
        (
            ("--region", "eu-west-1"),
            "limit=50&account=own&region=eu-west-1&defaults=account%2Ccategories&nearest=true",
        ),
        (
            ("--since", "2020-01-01", "--until", "2020-01-02", "--all-categories"),
            "since=2020-01-01&until=2020-01-02&limit=50&account=own&region=us-east-1"
            "&categories=all&defaults=account%2Cregion&nearest=true",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arguments_become_the_query_of_the_request(
    console: StubConsole, arguments: tuple[str, ...], query: str
) -> None:
    console.answers({"events": []})
    assert main(["lookup", *arguments]) == 0
    assert console.asked[0].path == f"/api/v1/events?{query}"


@pytest.mark.parametrize(
    ("environment", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({}, "us-east-1"),
    ],
)
def test_the_region_comes_from_the_environment(
    console: StubConsole,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    region: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    console.answers({"events": []})
    main(["lookup"])
    assert f"&region={region}&" in console.asked[0].path


def test_a_wrong_expression_is_wrong_use(console: StubConsole, capsys: Capture) -> None:
    answer = {"code": "InvalidLookupAttributesException", "error": "expected ATTRIBUTE=VALUE"}
    console.answers(answer, 400)
    assert main(["lookup", "nonsense"]) == 2
    assert capsys.readouterr().err == "opentrail: expected ATTRIBUTE=VALUE\n"


def test_a_refusing_server_is_an_error(console: StubConsole, capsys: Capture) -> None:
    console.answers({"code": "InternalError", "error": "history is being rebuilt"}, 503)
    assert main(["lookup"]) == 1
    assert capsys.readouterr().err == "opentrail: history is being rebuilt\n"


def test_names_in_another_case_get_a_note(console: StubConsole, capsys: Capture) -> None:
    same = {"label": "user", "value": "john", "nearest": "John", "events": 3}
    console.answers({"events": [an_event()], "corrected": [same]})
    assert main(["lookup", "user=john"]) == 0
    assert "opentrail: no user is john; shown is John\n" in capsys.readouterr().err


def test_no_events_name_the_nearest_value(console: StubConsole, capsys: Capture) -> None:
    other = {"label": "event name", "value": "CreatUser", "nearest": "CreateUser", "events": 1}
    console.answers({"events": [], "nearest": [other]})
    assert main(["lookup", "name=CreatUser"]) == 0
    said = capsys.readouterr().err
    assert "opentrail: no event name is CreatUser; did you mean CreateUser (1 event)?\n" in said
