"""The command line: arguments in, text and exit codes out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from opentrail.version import __version__
from tests.factories import a_record, event_id, record_bytes
from tests.stub_console import StubConsole, stub_console

Capture = pytest.CaptureFixture[str]
COMMANDS = (
    ("serve",),
    ("sandbox",),
    ("lookup",),
    ("who",),
    ("tail",),
    ("import",),
    ("export",),
    ("trail",),
    ("trail", "flush"),
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test; the folder is an empty one."""
    for name in list(os.environ):
        if name.startswith(("OPENTRAIL_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[StubConsole]:
    with stub_console(tmp_path / "opentrail-data") as stub:
        yield stub


def an_event(**changes: Any) -> dict[str, Any]:
    record = a_record(**changes)
    return {
        "EventId": record["eventID"],
        "EventName": record["eventName"],
        "ReadOnly": "false",
        "EventSource": record["eventSource"],
        "Username": "John",
        "Resources": [{"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"}],
        "CloudTrailEvent": record_bytes(record).decode(),
    }


def exits(*arguments: str) -> int:
    """Returns the exit code of arguments that argparse itself judges."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


# Arguments


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...], capsys: Capture) -> None:
    assert exits(*command, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: opentrail {' '.join(command)}")
    assert "--help" in out


def test_help_lists_every_command(capsys: Capture) -> None:
    assert exits("--help") == 0
    out = capsys.readouterr().out
    assert all(command[0] in out for command in COMMANDS)


def test_the_version_is_printed(capsys: Capture) -> None:
    assert exits("--version") == 0
    assert capsys.readouterr().out == f"opentrail {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("lookup", "--fly"),
        ("lookup", "a=b", "c=d"),
        ("lookup", "--limit"),
        ("who",),
        ("who", "Mary", "John"),
        ("import",),
        ("import", "--rejected"),
        ("tail", "a=b", "c=d"),
        ("tail", "--since", "2020-01-01"),
        ("export",),
        ("export", "a=b"),
        ("export", "--csv", "here", "--ndjson", "there"),
        ("trail",),
        ("trail", "fly"),
        ("trail", "flush"),
        ("serve", "here"),
        ("serve", "--listen"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert exits(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: opentrail" in captured.err


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
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_setting_is_wrong_use_and_starts_nothing(
    arguments: tuple[str, ...], named: str, capsys: Capture, tmp_path: Path
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("opentrail: ")
    assert named in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("lookup",),
        ("who", "Mary"),
        ("tail",),
        ("export", "--csv", "here"),
        ("trail", "flush", "my-trail"),
    ],
    ids=" ".join,
)
def test_without_a_server_a_question_is_wrong_use(
    arguments: tuple[str, ...], capsys: Capture
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("opentrail: no server runs on data directory opentrail-data")
    assert "--data-dir" in said


# lookup


def test_events_are_printed_as_a_table(console: StubConsole, capsys: Capture) -> None:
    console.answers({"events": [an_event()]})
    assert main(["lookup"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("Event time")
    assert "Mary" in out


def test_unknown_callers_come_with_how_to_name_them(console: StubConsole, capsys: Capture) -> None:
    nobody = {"type": "Unknown", "accountId": "123456789012", "accessKeyId": "AKIAX"}
    console.answers({"events": [an_event(userIdentity=nobody), an_event()]})
    assert main(["lookup"]) == 0
    said = capsys.readouterr()
    assert said.err.count("[directory.ACCESS-KEY-ID]") == 1
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


def test_no_events_are_a_good_answer(console: StubConsole, capsys: Capture) -> None:
    console.answers({"events": []})
    assert main(["lookup"]) == 0
    assert "no events found" in capsys.readouterr().err
    assert main(["lookup", "--json"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (
            (),
            "limit=50&account=123456789012&region=us-east-1&defaults=account%2Cregion%2Ccategories",
        ),
        (
            ("Username=John",),
            "expression=Username%3DJohn&limit=50&account=123456789012&region=us-east-1"
            "&defaults=account%2Cregion%2Ccategories",
        ),
        (
            ("--limit", "5", "--all-accounts"),
            "limit=5&region=us-east-1&defaults=region%2Ccategories",
        ),
        (("--all-regions", "--account", "1"), "limit=50&account=1&defaults=categories"),
        (
            ("--region", "eu-west-1"),
            "limit=50&account=123456789012&region=eu-west-1&defaults=account%2Ccategories",
        ),
        (
            ("--since", "2020-01-01", "--until", "2020-01-02", "--all-categories"),
            "since=2020-01-01&until=2020-01-02&limit=50&account=123456789012&region=us-east-1"
            "&categories=all&defaults=account%2Cregion",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_question_says_what_was_asked_for(
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
def test_the_region_is_the_one_of_the_environment(
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


def test_a_server_that_says_no_is_not_good(console: StubConsole, capsys: Capture) -> None:
    console.answers({"code": "InternalError", "error": "history is being rebuilt"}, 503)
    assert main(["lookup"]) == 1
    assert capsys.readouterr().err == "opentrail: history is being rebuilt\n"


# who

SENTENCE = (
    "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary through the AWS CLI"
)


def test_who_prints_the_creator_with_the_evidence(console: StubConsole, capsys: Capture) -> None:
    evidence = {"eventId": event_id(1), "userAgent": "aws-cli/2.15.17", "accessKeyId": None}
    console.answers({"sentence": SENTENCE, "evidence": evidence, "events": 3, "record": "{}"})
    assert main(["who", "Mary"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{SENTENCE}.\n")
    assert event_id(1) in out
    assert console.asked[0].path == "/api/v1/who?resource=Mary"


def test_an_unknown_creator_is_reported_and_exits_with_1(
    console: StubConsole, capsys: Capture
) -> None:
    console.answers({"sentence": None, "events": 3, "first": []})
    assert main(["who", "Mary"]) == 1
    assert "Mary" in capsys.readouterr().out
    assert main(["who", "Mary", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["sentence"] is None


def test_an_unknown_creator_comes_with_how_to_name_him(
    console: StubConsole, capsys: Capture
) -> None:
    sentence = SENTENCE.replace("IAM user John", "an unknown caller with access key AKIAX")
    console.answers({"sentence": sentence, "evidence": {}, "events": 1, "record": "{}"})
    assert main(["who", "Mary"]) == 0
    assert "[directory.ACCESS-KEY-ID]" in capsys.readouterr().err


def test_who_may_be_narrowed_to_a_type_and_an_account(
    console: StubConsole, capsys: Capture
) -> None:
    console.answers({"sentence": None, "events": 0, "answers": [], "first": []})
    assert main(["who", "Mary", "--type", "user", "--account", "123456789012"]) == 1
    assert console.asked[0].path == "/api/v1/who?resource=Mary&type=user&account=123456789012"
    assert "no record shows" in capsys.readouterr().out


def test_who_may_be_answered_as_json(console: StubConsole, capsys: Capture) -> None:
    answer = {"sentence": SENTENCE, "evidence": {}, "events": 1, "record": "{}"}
    console.answers(answer)
    assert main(["who", "Mary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_who_shows_nothing_that_steers_a_terminal(console: StubConsole, capsys: Capture) -> None:
    evil = "\x1b[2J\u202eevil"
    answer = {"sentence": f"On {evil}", "evidence": {"userAgent": evil}, "events": 1}
    console.answers(answer)
    assert main(["who", evil]) == 0
    console.answers({"sentence": None, "events": 0, "first": []})
    assert main(["who", evil]) == 1
    assert not {"\x1b", "\u202e"} & set(capsys.readouterr().out)


# trail flush


def test_a_flush_prints_the_number_of_delivered_files(
    console: StubConsole, capsys: Capture
) -> None:
    answer = {"trail": "arn:trail", "logFiles": ["a", "b"], "digestFiles": ["c"]}
    console.answers(answer)
    assert main(["trail", "flush", "my-trail"]) == 0
    assert capsys.readouterr().out == "arn:trail: 2 log files and 1 digest files delivered\n"
    assert json.loads(console.asked[0].body) == {"name": "my-trail"}
    assert main(["trail", "flush", "my-trail", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_a_flush_of_an_unknown_trail_is_not_good(console: StubConsole, capsys: Capture) -> None:
    console.answers({"code": "TrailNotFoundException", "error": "Unknown trail: x"}, 404)
    assert main(["trail", "flush", "x"]) == 1
    assert capsys.readouterr().err == "opentrail: Unknown trail: x\n"


# As a process


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "opentrail", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"opentrail {__version__}\n"


def test_a_closed_pipe_is_not_an_error(console: StubConsole, tmp_path: Path) -> None:
    """As in `opentrail lookup | head -1`."""
    console.answers({"events": [an_event(eventID=event_id(n)) for n in range(3_000)]})
    command = [sys.executable, "-m", "opentrail", "lookup", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert said == ""
