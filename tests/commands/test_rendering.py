"""Events on a terminal: no control characters, no formulas (guarantees N7 and N8)."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from opentrail.commands.rendering import (
    print_answer,
    print_csv,
    print_events,
    print_lines,
    print_records,
)
from opentrail.questions.who import WhoAnswer
from tests.factories import a_record, event_id, record_bytes

Capture = pytest.CaptureFixture[str]


def an_event(record: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Returns an event in the form of the server's lookup."""
    record = a_record() if record is None else record
    return {
        "EventId": record["eventID"],
        "EventName": record["eventName"],
        "ReadOnly": "false",
        "AccessKeyId": "AKIAEXAMPLE",
        "EventTime": 1577869200.0,
        "EventSource": record["eventSource"],
        "Username": "John",
        "Resources": [{"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"}],
        "CloudTrailEvent": record_bytes(record).decode(),
        **changes,
    }


def csv_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


#: Escapes, C1 controls, marks that reverse text, marks without width.
STEERING = "\x1b\x00\x07\x08\x7f\x9b\u200b\u202e\u2066\ufeff\r\n\t"


#: The first signs of formulas, as Japanese and Chinese keyboards write them.
FULL_WIDTH = "\uff1d\uff0b\uff0d\uff20"


# Printable text


# The table


def test_events_are_a_table_with_a_head(capsys: Capture) -> None:
    failed = an_event(
        a_record(eventName="DeleteUser", errorCode="AccessDenied"), Username="Alice", Resources=[]
    )
    print_events([an_event(), failed])
    head, first, second = capsys.readouterr().out.splitlines()
    columns = [
        "Event time",
        "User name",
        "Event name",
        "Event source",
        "Resource name",
        "Error code",
    ]
    assert [head.index(name) for name in columns] == sorted(head.index(name) for name in columns)
    assert first.split() == [
        "2020-01-01T09:00:00Z",
        "John",
        "CreateUser",
        "iam.amazonaws.com",
        "Mary",
    ]
    assert second.split() == [
        "2020-01-01T09:00:00Z",
        "Alice",
        "DeleteUser",
        "iam.amazonaws.com",
        "AccessDenied",
    ]
    assert head.index("Event name") == first.index("CreateUser") == second.index("DeleteUser")


def test_event_without_a_user_has_an_empty_cell(capsys: Capture) -> None:
    event = an_event()
    del event["Username"]
    print_events([event])
    assert "CreateUser" in capsys.readouterr().out


def test_an_empty_result_is_reported_on_standard_error(capsys: Capture) -> None:
    print_events([])
    captured = capsys.readouterr()
    assert captured.out.startswith("Event time")
    assert len(captured.out.splitlines()) == 1
    assert captured.err == "no events found\n"


def test_a_table_has_no_terminal_controls(capsys: Capture) -> None:
    record = a_record(eventName=f"Create{STEERING}", errorCode=f"E{STEERING}")
    event = an_event(
        record,
        Username=f"U{STEERING}",
        EventSource=f"S{STEERING}",
        Resources=[{"ResourceName": f"R{STEERING}"}],
    )
    print_events([event])
    out = capsys.readouterr().out
    assert not set(STEERING) & set(out) - {"\n"}
    assert len(out.splitlines()) == 2


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output a terminal of `width` columns."""

    def of_width(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    return of_width


def columns_of(text: str) -> int:
    """Returns the number of terminal columns of a line."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.category(c) == "Mn" for c in text)


WIDE = [
    an_event(Username="山田太郎", Resources=[{"ResourceName": "日本語" * 30}]),
    an_event(
        Username="Zoe\u0308", Resources=[{"ResourceName": "arn:aws:iam::1:role/" + "x" * 200}]
    ),
    an_event(a_record(eventName="DeleteUser", errorCode="AccessDenied"), EventSource="s" * 60),
]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 200])
def test_a_table_fits_its_terminal_and_stays_aligned(
    columns: int, capsys: Capture, terminal: Callable[[int], None]
) -> None:
    terminal(columns)
    print_events(WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(columns_of(line) <= max(columns, 40) for line in lines)
    starts = [
        columns_of(line[: line.index(name)])
        for line, name in zip(lines, ["Event na", "CreateU", "CreateU", "DeleteU"], strict=True)
    ]
    assert len(set(starts)) == 1
    if columns >= 120:
        assert "AccessDenied" in lines[3]


def test_a_narrow_terminal_gets_sources_without_their_domain(
    capsys: Capture, terminal: Callable[[int], None]
) -> None:
    long_name = an_event(Resources=[{"ResourceName": "x" * 200}])
    terminal(120)
    print_events([long_name])
    assert " iam  " in capsys.readouterr().out
    print_events([an_event()])
    assert " iam.amazonaws.com  " in capsys.readouterr().out


def test_pipes_get_whole_names_without_padding(capsys: Capture) -> None:
    print_events([*WIDE, an_event()])
    out = capsys.readouterr().out
    assert "日本語" * 30 in out
    assert "x" * 200 in out
    assert "…" not in out
    assert len(out.splitlines()[-1]) < 200


def test_an_arn_with_the_name_is_left_out(capsys: Capture) -> None:
    arns = ["arn:aws:iam::1:user/Mary", "arn:aws:sqs:us-east-1:1:jobs", "arn:aws:iam::1:user/Ma"]
    names = ["Mary", *arns, "Mary"]
    print_events([an_event(Resources=[{"ResourceName": name} for name in names])])
    assert f"Mary, {arns[1]}, {arns[2]}\n" in capsys.readouterr().out


def test_a_null_is_an_empty_cell(capsys: Capture) -> None:
    record = a_record(errorCode=None, sourceIPAddress=None)
    print_events([an_event(record, Username=None)])
    print_csv([an_event(record, Username=None)])
    assert "None" not in capsys.readouterr().out


# Answers

EVIDENCE = {"eventId": "the-id", "accessKeyId": None}
CHANGE: Any = {
    "sentence": "On January 1, 2020 at 9:00 AM UTC, John did it",
    "evidence": EVIDENCE,
    "certain": True,
}
CALLER: dict[str, Any] = {"steps": [], "kind": "human", "sourceIdentity": None, "sessionTags": {}}
ONE: dict[str, Any] = {
    "type": "AWS::IAM::User",
    "account": "123456789012",
    "region": None,
    "created": CHANGE,
    "changed": None,
    "deleted": None,
    "caller": {**CALLER, "end": "it begins with IAM user John"},
    "next": [],
    "renamed": [],
    "former": [],
}


NOTHING: WhoAnswer = {
    "sentence": None,
    "events": 1,
    "resource": "Mary",
    "answers": [],
    "missing": [],
}


def shown_answer(capsys: Capture, *answers: dict[str, Any]) -> str:
    answer: Any = {**NOTHING, **CHANGE, "answers": list(answers)}
    print_answer(answer, "Mary")
    out: str = capsys.readouterr().out
    return out


def test_an_answer_is_a_sentence_and_its_evidence(capsys: Capture) -> None:
    assert shown_answer(capsys, ONE) == (
        "On January 1, 2020 at 9:00 AM UTC, John did it.\n\n  eventId          the-id\n"
    )


def test_an_answer_shows_all_events_in_order(capsys: Capture) -> None:
    whole = {
        **ONE,
        "changed": {"times": 2, "complete": True, **CHANGE},
        "deleted": CHANGE,
        "caller": {**ONE["caller"], "steps": [CHANGE]},
        "next": [CHANGE, CHANGE],
    }
    out = shown_answer(capsys, whole)
    heads = [line for line in out.splitlines() if line.endswith(":")]
    assert heads == [
        "Changed 2 times, the last time:",
        "Deleted:",
        "How the caller got there:",
        "What the same caller did next:",
    ]
    assert "  It begins with IAM user John.\n" in out
    assert "Changed once:" in shown_answer(
        capsys, {**ONE, "changed": {"times": 1, "complete": True, **CHANGE}}
    )


def test_an_unknown_creator_is_reported(capsys: Capture) -> None:
    out = shown_answer(capsys, {**ONE, "created": None, "deleted": CHANGE})
    assert out.startswith("No record shows who created it.\n\nDeleted:\n")
    broken = {**CALLER, "kind": "unknown", "end": "the chain ends here"}
    assert "\n  The chain ends here.\n" in shown_answer(capsys, {**ONE, "caller": broken})


def test_several_resources_are_distinguished(capsys: Capture) -> None:
    out = shown_answer(capsys, ONE, {**ONE, "type": "AWS::IAM::Group", "region": "eu-west-1"})
    assert out.startswith("2 resources are called Mary:\n\nAWS::IAM::User 123456789012\n")
    assert "\n\nAWS::IAM::Group 123456789012 eu-west-1\n" in out


def test_an_answer_has_no_terminal_controls(capsys: Capture) -> None:
    change = {**CHANGE, "sentence": STEERING, "evidence": {"userAgent": STEERING}}
    evil: Any = {
        **ONE,
        **dict.fromkeys(("created", "deleted"), change),
        "changed": {"times": 1, "complete": True, **change},
        "type": STEERING,
        "caller": {**CALLER, "steps": [change], "kind": "unknown", "end": STEERING},
        "next": [change],
    }
    print_answer({**NOTHING, "sentence": STEERING, "answers": [evil, evil]}, STEERING)
    print_answer(NOTHING, STEERING)
    assert not set(STEERING) & set(capsys.readouterr().out) - {"\n"}


@pytest.mark.parametrize(
    ("count", "events"),
    [(0, "0 events name it"), (1, "1 event names it"), (1_200, "1,200 events name it")],
)
def test_unmade_resource_shows_the_number_of_its_events(
    count: int, events: str, capsys: Capture
) -> None:
    print_answer({**NOTHING, "events": count}, "object/x")
    assert capsys.readouterr().out == f"no record shows who created object/x ({events})\n"


# CSV


def test_csv_has_the_columns_of_awss_download(capsys: Capture) -> None:
    record = a_record(errorCode="AccessDenied")
    print_csv([an_event(record)])
    head, row = csv_rows(capsys.readouterr().out)
    assert dict(zip(head, row, strict=True)) == {
        "Event name": "CreateUser",
        "Event time": "2020-01-01T09:00:00Z",
        "User name": "John",
        "Event source": "iam.amazonaws.com",
        "Resource type": "AWS::IAM::User",
        "Resource name": "Mary",
        "AWS region": "us-east-1",
        "Source IP address": "192.0.2.10",
        "AWS access key": "AKIAEXAMPLE",
        "Event ID": event_id(1),
        "Read-only": "false",
        "Error code": "AccessDenied",
        "Request ID": record["requestID"],
    }


def test_csv_without_events_is_its_head(capsys: Capture) -> None:
    print_csv([])
    assert len(csv_rows(capsys.readouterr().out)) == 1


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", *FULL_WIDTH, "  ="])
def test_cell_that_starts_a_formula_is_made_harmless(start: str, capsys: Capture) -> None:
    text = f'{start}HYPERLINK("http://evil","x")'
    event = an_event(
        a_record(sourceIPAddress=text, errorCode=text),
        Username=text,
        Resources=[{"ResourceName": text}],
    )
    print_csv([event])
    (_, row) = csv_rows(capsys.readouterr().out)
    assert not [cell for cell in row if cell.lstrip(" ")[:1] in (*"=+-@\t\r\n", *FULL_WIDTH)]
    assert sum("HYPERLINK" in cell for cell in row) == 4


def test_quotes_commas_and_lines_stay_inside_their_cell(capsys: Capture) -> None:
    name = 'a"b,c\nd'
    print_csv([an_event(Username=name)])
    (_, row) = csv_rows(capsys.readouterr().out)
    assert len(row) == 13
    assert row[2].startswith('a"b,c')


def test_csv_has_no_terminal_controls(capsys: Capture) -> None:
    print_csv([an_event(Username=f"U{STEERING}", Resources=[{"ResourceName": f"R{STEERING}"}])])
    out = capsys.readouterr().out
    assert not set(out) & (set(STEERING) - {"\r", "\n", "\t"})


# Records


def test_each_record_is_a_line(capsys: Capture) -> None:
    records = [a_record(eventID=event_id(number)) for number in (1, 2)]
    print_records([an_event(record) for record in records])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == records


def test_a_record_is_equal_without_control_characters(capsys: Capture) -> None:
    """JSON can escape every character (guarantee N8 also covers records)."""
    record = a_record(userAgent=f"agent{STEERING}")
    print_records([an_event(record)])
    out = capsys.readouterr().out
    assert len(out.split("\n")) == 2
    assert json.loads(out) == record
    steering = {c for c in out if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert steering <= {"\n"}


# Lines


def test_each_event_is_a_line(capsys: Capture) -> None:
    print_lines([an_event(), an_event(a_record(errorCode="AccessDenied"), Resources=[])])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["2020-01-01T09:00:00Z", "John", "CreateUser", "iam", "Mary"]
    assert second.split()[-1] == "AccessDenied"
    assert first.index("CreateUser") == second.index("CreateUser")


def test_a_line_has_no_terminal_controls(capsys: Capture) -> None:
    print_lines([an_event(Username=f"U{STEERING}", Resources=[{"ResourceName": f"R{STEERING}"}])])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert not set(out[:-1]) & set(STEERING)


def test_a_line_fits_the_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    print_lines([an_event(Resources=[{"ResourceName": "名" * 100}])])
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) <= 60
    assert line.endswith("…")


def test_csv_may_continue_without_its_header(capsys: Capture) -> None:
    print_csv([])
    print_csv([an_event()], with_header=False)
    header, row = csv_rows(capsys.readouterr().out)
    assert header[0] == "Event name"
    assert row[0] == "CreateUser"


@pytest.mark.parametrize("style", [{"indent": 2}, {"indent": "\t"}, {"separators": (",", ":\r\n")}])
def test_record_of_many_lines_is_printed_on_one(capsys: Capture, style: dict[str, Any]) -> None:
    record = a_record(requestParameters={"text": "a\nb\x1b[31m\u202e"})
    print_records([an_event(record, CloudTrailEvent=json.dumps(record, **style))])
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == record
    assert line.isprintable()
