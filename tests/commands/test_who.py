"""`opentrail who`: its requests and its output."""

import json

import pytest

from opentrail.cli import main
from tests.commands.test_rendering import ONE
from tests.factories import event_id
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]

SENTENCE = (
    "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary through the AWS CLI"
)


def test_who_prints_the_creator_with_the_evidence(console: StubConsole, capsys: Capture) -> None:
    evidence = {"eventId": event_id(1), "userAgent": "aws-cli/2.15.17", "accessKeyId": None}
    made = {**a_change(SENTENCE, certain=True), "evidence": evidence}
    console.answers({**made, "events": 3, "record": "{}", "answers": [{**ONE, "created": made}]})
    assert main(["who", "Mary"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{SENTENCE}.\n")
    assert event_id(1) in out
    assert console.asked[0].path == "/api/v1/who?resource=Mary"


def test_unknown_creator_is_reported_and_exits_with_1(
    console: StubConsole, capsys: Capture
) -> None:
    console.answers({"sentence": None, "events": 3, "first": []})
    assert main(["who", "Mary"]) == 1
    assert "Mary" in capsys.readouterr().out
    assert main(["who", "Mary", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["sentence"] is None


def test_an_unknown_creator_is_printed_with_advice(console: StubConsole, capsys: Capture) -> None:
    sentence = SENTENCE.replace("IAM user John", "an unknown caller with access key AKIAX")
    console.answers({"sentence": sentence, "evidence": {}, "events": 1, "answers": [ONE]})
    assert main(["who", "Mary"]) == 0
    assert "opentrail directory add KEY-ID" in capsys.readouterr().err


def test_who_accepts_a_type_and_account(console: StubConsole, capsys: Capture) -> None:
    console.answers({"sentence": None, "events": 0, "answers": [], "first": []})
    assert main(["who", "Mary", "--type", "user", "--account", "123456789012"]) == 1
    assert console.asked[0].path == "/api/v1/who?resource=Mary&type=user&account=123456789012"
    assert "no record shows" in capsys.readouterr().out


def test_who_can_answer_in_json(console: StubConsole, capsys: Capture) -> None:
    answer = {"sentence": SENTENCE, "evidence": {}, "events": 1, "record": "{}"}
    console.answers(answer)
    assert main(["who", "Mary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def a_change(sentence: str, **more: object) -> dict[str, object]:
    return {"sentence": sentence, "evidence": {"eventId": sentence[:9]}, **more}


def test_who_prints_earlier_names_and_resources(console: StubConsole, capsys: Capture) -> None:
    life = {
        "name": "Mary",
        "created": a_change("Ann created Mary"),
        "renamed": [a_change("Bob renamed Mary to Maria")],
        "deleted": None,
    }
    answer = {
        **ONE,
        "created": a_change("Eve put rule Mary", certain=False),
        "changed": a_change("Ida changed Mary", times=2, complete=True),
        "renamed": [a_change("Tom renamed Mia to Mary")],
        "deleted": None,
        "former": [life, life, life, {**life, "name": "Meg"}],
    }
    console.answers({**a_change("Eve put rule Mary"), "events": 9, "answers": [answer]})
    assert main(["who", "Mary"]) == 0
    out = capsys.readouterr().out
    parts = [line for line in out.splitlines() if line and "eventId" not in line]
    former = ["  Ann created Mary.", "  Bob renamed Mary to Maria."]
    assert parts == [
        "Eve put rule Mary.",
        "No earlier event names it.",
        "Renamed:",
        "Tom renamed Mia to Mary.",
        "Changed 2 times, the last time:",
        "Ida changed Mary.",
        "Former resources of this name:",
        *former * 3,
        "  And 1 more; --json shows them.",
    ]


def test_a_final_rename_is_printed_once(console: StubConsole, capsys: Capture) -> None:
    renamed = a_change("Tom renamed Mia to Mary")
    changed = {**renamed, "times": 1, "complete": True}
    answer = {**ONE, "created": None, "changed": changed, "renamed": [renamed]}
    console.answers({**renamed, "events": 9, "answers": [answer]})
    assert main(["who", "Mary"]) == 0
    assert capsys.readouterr().out.count("Tom renamed") == 1


def test_who_prints_no_terminal_controls(console: StubConsole, capsys: Capture) -> None:
    evil = "\x1b[2J\u202eevil"
    made = {"sentence": f"On {evil}", "evidence": {"userAgent": evil}, "certain": True}
    console.answers({**made, "events": 1, "answers": [{**ONE, "created": made}]})
    assert main(["who", evil]) == 0
    console.answers({"sentence": None, "events": 0, "first": []})
    assert main(["who", evil]) == 1
    assert not {"\x1b", "\u202e"} & set(capsys.readouterr().out)
