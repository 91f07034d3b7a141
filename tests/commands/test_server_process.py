"""The server process: changed by tests, and restarted at the same addresses."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from opentrail.pytest_plugin.session_server import running
from tests.live.processes import moto_server

pytestmark = pytest.mark.live


def test_server_is_replaced_only_if_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto_server() as moto, running(tmp_path, moto) as server:
        server.apply_to(monkeypatch)
        process = server.process
        assert process is not None
        console, endpoint = server.console, server.endpoint
        iam = boto3.client("iam")
        iam.create_user(UserName="Mary")
        iam.create_access_key(UserName="Mary")
        boto3.client("cloudtrail").lookup_events()
        assert not process.is_changed(), "state learned from calls is no change"
        server.reset()
        assert server.console is console
        console.ask("/api/v1/directory", body={"action": "add", "key": "AKIAOTHER", "user": "a"})
        assert process.is_changed()
        server.reset()
        assert not process.is_changed()
        assert (server.endpoint, server.console.url) == (endpoint, console.url)
        assert server.console.token != console.token
        assert server.mark() == 0
        iam.list_users()
        assert [record["eventName"] for record in server.records(0)[1]] == ["ListUsers"]
        server.reset(is_fresh=True)
        assert server.mark() == 0
