"""`opentrail trail`: what it asks, and what it prints."""

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
    assert capsys.readouterr().out == "arn:trail: 2 log files and 1 digest files delivered\n"
    assert json.loads(console.asked[0].body) == {"name": "my-trail"}
    assert main(["trail", "flush", "my-trail", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_a_flush_of_an_unknown_trail_is_not_good(console: StubConsole, capsys: Capture) -> None:
    console.answers({"code": "TrailNotFoundException", "error": "Unknown trail: x"}, 404)
    assert main(["trail", "flush", "x"]) == 1
    assert capsys.readouterr().err == "opentrail: Unknown trail: x\n"
