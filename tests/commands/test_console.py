"""`opentrail console`: prints a link."""

import json

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole


def test_the_link_is_printed(console: StubConsole, capsys: pytest.CaptureFixture[str]) -> None:
    console.answers({"url": "http://127.0.0.1:1/console/#t=x"})
    assert main(["console"]) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:1/console/#t=x\n"
    assert main(["console", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"url": "http://127.0.0.1:1/console/#t=x"}
