"""`opentrail trail`: its requests and its output."""

import json

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]


def test_a_flush_prints_the_number_of_delivered_files(
    console: StubConsole, capsys: Capture
) -> None:
    answer = {"trail": "arn:trail", "logFiles": ["a", "b"], "digestFiles": ["c"]}
    console.answers(answer)
    assert main(["trail", "flush", "my-trail"]) == 0
    assert capsys.readouterr().out == "arn:trail: 2 log files and 1 digest file delivered\n"
    assert json.loads(console.asked[0].body) == {"name": "my-trail"}
    assert main(["trail", "flush", "my-trail", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_flushing_an_unknown_trail_is_an_error(console: StubConsole, capsys: Capture) -> None:
    console.answers({"code": "TrailNotFoundException", "error": "Unknown trail: x"}, 404)
    assert main(["trail", "flush", "x"]) == 1
    assert capsys.readouterr().err == "opentrail: Unknown trail: x\n"


# Other actions

STATE = {
    "arn": "arn:trail",
    "name": "my-trail",
    "status": "Failing",
    "reason": "NoSuchBucket",
    "bucket": "evidence",
    "prefix": "audit",
    "homeRegion": "us-east-1",
    "multiRegion": True,
    "validation": True,
    "insights": False,
    "kmsKey": "alias/trails",
    "topic": None,
    "logGroup": None,
    "latestDelivery": "2020-01-01T09:00:00Z",
    "latestDigest": None,
}


def test_trails_are_listed_in_a_table(console: StubConsole, capsys: Capture) -> None:
    console.answers({"trails": [STATE]})
    assert main(["trail", "list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Name      Status   Bucket    Home Region")
    assert "my-trail  Failing  evidence  us-east-1" in out
    assert out.endswith("\nmy-trail: NoSuchBucket\n")
    console.answers({"trails": []})
    assert main(["trail", "list"]) == 0
    assert "opentrail trail create NAME" in capsys.readouterr().out


def test_a_trail_is_shown_with_its_problem(console: StubConsole, capsys: Capture) -> None:
    console.answers(STATE)
    assert main(["trail", "show", "my-trail"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("my-trail: Failing\n")
    assert "s3://evidence/audit" in out
    assert "KMS key           alias/trails" in out
    assert "SNS topic         none" in out
    assert "NoSuchBucket" in out
    assert json.loads(console.asked[0].body) == {"action": "show", "name": "my-trail"}


def test_a_trail_is_created_as_asked(
    console: StubConsole, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    console.answers(STATE)
    arguments = ["--bucket", "evidence", "--create-bucket", "--no-validation", "--single-region"]
    assert main(["trail", "create", "my-trail", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATE
    assert json.loads(console.asked[0].body) == {
        "action": "create",
        "name": "my-trail",
        "bucket": "evidence",
        "createBucket": True,
        "prefix": None,
        "kmsKey": None,
        "topic": None,
        "createTopic": False,
        "allRegions": False,
        "validation": False,
        "region": "eu-west-1",
    }


@pytest.mark.parametrize("action", ["start", "stop", "delete"])
def test_a_trail_is_changed(console: StubConsole, capsys: Capture, action: str) -> None:
    console.answers({"trail": "arn:trail"})
    assert main(["trail", action, "my-trail"]) == 0
    assert capsys.readouterr().out.startswith("arn:trail ")
    assert json.loads(console.asked[0].body) == {"action": action, "name": "my-trail"}
