"""Times in the output of commands: all of them end in Z."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.live.processes import Opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow]

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.]*(\S?)")
#: Commands that print times.
COMMANDS = (
    *("lookup --limit 5", "lookup --csv", "who evidence", "timeline evidence"),
    *("insights", "insights status", "trail list", "trail show audit", "validate audit"),
    *("keys list", "users list", "users token list", "status", "doctor"),
    *("policy test policy.json --principal admin", "backup backup.tar --overwrite"),
)


@pytest.fixture
def printed(server: Opentrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns all commands' outputs about a server with some events."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "America/New_York")
    statement = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    Path("policy.json").write_text(json.dumps(policy))
    for made in (
        "trail create audit --bucket evidence --create-bucket",
        "trail create other --bucket evidence --topic missing",  # the log has this problem
        "users create anna --role admin",
        "users token add anna ci",
        "keys create --user bob --lifetime 12h",
        "trail flush audit",
    ):
        assert server.opentrail(*made.split()).returncode < 2
    done = [
        server.opentrail(*command.split(), *more)
        for command in COMMANDS
        for more in ([], ["--json"])
        if not (more and "--csv" in command)
    ]
    return "".join(one.stdout + one.stderr for one in done)


def test_times_end_in_z(printed: str) -> None:
    times = list(_TIME.finditer(printed))
    assert len(times) > 50
    assert [found[0] for found in times if found[1] != "Z"] == []
    assert "+00:00" not in printed
