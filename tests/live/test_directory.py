"""A running server names keys in every recorder process, and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.processes import Opentrail, opentrail_server
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]
KEY = "AKIAIOSFODNN7EXAMPLE"


def callers(server: Opentrail, name: str) -> set[tuple[str, str | None]]:
    """Returns type and name of the callers of ten calls on separate connections."""
    for _ in range(10):
        server.boto("iam", key=KEY).create_user(UserName=name)
    return {
        (record["userIdentity"]["type"], record["userIdentity"].get("userName"))
        for record in server.records("name=CreateUser")
        if record["requestParameters"]["userName"] == name
    }


@pytest.mark.parametrize("recorders", ["1", "2"])
def test_key_is_named_from_the_next_call_on(tmp_path: Path, recorders: str) -> None:
    with StubUpstream() as upstream:
        flags = ("--recorders", recorders, "--upstream", upstream.url)
        with opentrail_server(tmp_path, *flags) as server:
            assert "opentrail directory add KEY-ID --user NAME" in server.output
            assert callers(server, "before") == {("Unknown", None)}
            assert server.opentrail("directory", "add", KEY, "--user", "alice").returncode == 0
            assert callers(server, "named") == {("IAMUser", "alice")}
        with opentrail_server(tmp_path, *flags) as server:
            assert "opentrail directory add" not in server.output
            assert callers(server, "restarted") == {("IAMUser", "alice")}
            assert server.opentrail("directory", "remove", KEY).returncode == 0
            assert callers(server, "removed") == {("Unknown", None)}
