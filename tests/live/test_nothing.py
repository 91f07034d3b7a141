"""No command calls a result good that rests on nothing: the page's table, on a new server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentrail.cli import parser
from tests.live.processes import Opentrail, opentrail_server

pytestmark = pytest.mark.live

PAGE = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text()
ROWS = re.findall(
    r"^\| `([^`]+)` \| `([^`]+)` \| (\d+) \|$", PAGE.split("## Answers over nothing")[1], re.M
)
POLICY = (
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'
)
RULE = """
title: A user is deleted
name: user_deleted
level: high
logsource: {product: aws, service: cloudtrail}
detection: {deleted: {eventName: DeleteUser}, condition: deleted}
"""
#: Commands that give no verdict and no list.
OTHERS = {
    **dict.fromkeys(("serve", "sandbox"), "they run until a signal"),
    "mcp": "each answer names its basis: tests/mcp",
    "tail": "it waits for events",
    "console": "it prints a link",
    "status": "it describes this server",
    "doctor": "it checks this machine and server",
    "explain": "it needs an event",
    "restore": "it needs a backup",
    **dict.fromkeys(("help", "version", "completion"), "they print text"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("nothing") / "data"
    flags = ("--upstream", "http://127.0.0.1:9", "--insights", "off")
    with opentrail_server(folder, *flags) as started:
        yield started


@pytest.mark.parametrize(("command", "words", "code"), ROWS, ids=[row[0] for row in ROWS])
def test_command_says_that_there_is_nothing(
    server: Opentrail, tmp_path: Path, command: str, words: str, code: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "POLICY").write_text(POLICY)
    (tmp_path / "RULE").write_text(RULE)
    places = re.compile(r"^(EMPTY|POLICY|RULE|OUT(?:\.\w+)?)$")
    typed = [str(tmp_path / word) if places.match(word) else word for word in shlex.split(command)]
    done = server.opentrail(*typed)
    assert words in done.stdout + done.stderr
    assert done.returncode == int(code)
    if code != "0":
        assert "good" not in (done.stdout + done.stderr).replace("not good", "")


def test_every_command_is_in_the_table_or_gives_no_verdict() -> None:
    (commands,) = (action for action in parser()._actions if action.metavar == "COMMAND")
    assert isinstance(commands.choices, dict)
    named = {command.split()[0] for command, _, _ in ROWS}
    assert {*commands.choices} == named | {*OTHERS}
    assert not named & {*OTHERS}
