"""A server keeps its state in PostgreSQL, and reveals the password nowhere."""

from __future__ import annotations

import contextlib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.live.processes import TIMEOUT_SECONDS, Opentrail, eventually, health
from tests.postgres import database_in, own_server, shared_server

pytestmark = [pytest.mark.live, pytest.mark.campaign]
SECRET = "very-secret"


def command_lines() -> bytes:
    """Returns the command lines of all processes of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes())
    return b"\n".join(found)


def test_trails_outlive_the_server_in_postgresql(
    tmp_path: Path,
) -> None:
    postgres = shared_server()
    database = database_in(postgres.new_database())
    postgres.execute("postgres", f"CREATE ROLE bob SUPERUSER LOGIN PASSWORD '{SECRET}'")
    url = postgres.url(database, f"bob:{SECRET}")
    server = Opentrail(tmp_path / "data", "--recorders", "2", command="sandbox")
    try:
        server.start(OPENTRAIL_CONTROL_STORE=url)
        server.boto("s3").create_bucket(Bucket="logs")
        server.boto("cloudtrail").create_trail(Name="main", S3BucketName="logs")
        assert SECRET.encode() not in command_lines()
        assert server.stop() == 0
        output = server.output
        server.start(OPENTRAIL_CONTROL_STORE=url)
        listed = server.boto("cloudtrail").describe_trails()["trailList"]
        assert [trail["Name"] for trail in listed] == ["main"]
        assert server.stop() == 0
        output += server.output
    finally:
        server.close()
    assert postgres.execute(database, "SELECT key FROM documents WHERE kind = 'trail'") != []
    assert not (tmp_path / "data" / "state.db").exists()
    assert SECRET not in output
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert files
    assert not any(SECRET.encode() in file.read_bytes() for file in files)


def metric(server: Opentrail) -> str:
    url = f"{server.console}/metrics"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - of this machine
        lines = answer.read().decode().splitlines()
    name = "opentrail_control_store_failing "
    return next(str(line) for line in lines if line.startswith(name))


def until(server: Opentrail, status: str) -> dict[str, Any]:
    """Returns the health of a server once it has a status."""
    return eventually(
        lambda: (shown := health(server))["status"] == status and shown, f"the status {status}"
    )


@pytest.mark.parametrize("how", ["frozen", "dead"])
def test_calls_are_recorded_without_the_database(tmp_path: Path, how: str) -> None:
    with own_server() as postgres, contextlib.ExitStack() as stack:
        server = Opentrail(tmp_path / "data", command="sandbox")
        stack.callback(server.close)
        server.start(OPENTRAIL_CONTROL_STORE=postgres.new_database())
        server.boto("s3").create_bucket(Bucket="logs")
        server.boto("cloudtrail").create_trail(Name="main", S3BucketName="logs")
        server.boto("cloudtrail").start_logging(Name="main")
        assert until(server, "ok")["controlStore"]["failure"] is None
        if how == "frozen":
            stack.enter_context(postgres.frozen())
        else:
            postgres.stop("immediate")
        server.boto("iam").create_user(UserName="Mary")
        until(server, "degraded")
        # The calls may have been in a failed commit.
        silent = "the control store does not answer"
        eventually(lambda: health(server)["controlStore"]["failure"] == silent, silent)
        server.boto("iam").create_user(UserName="John")
        with pytest.raises(ClientError, match=r"ServiceUnavailable.*control store"):
            server.boto("cloudtrail").describe_trails()
        status = server.opentrail("status", "--data-dir", str(tmp_path / "data"))
        assert status.returncode == 1
        assert (
            "Trails, keys and policies are not known: the control store does not answer"
            in status.stdout
        )
        doctor = server.opentrail("doctor", "--data-dir", str(tmp_path / "data"))
        assert "the control store does not answer" in doctor.stdout
        assert metric(server) == "opentrail_control_store_failing 1.0"
        who = server.opentrail("who", "Mary", "--data-dir", str(tmp_path / "data"))
        assert "created IAM user Mary" in who.stdout
        assert server.stop(within=30) == 0


def test_a_server_continues_once_the_database_returns(tmp_path: Path) -> None:
    with own_server() as postgres:
        server = Opentrail(tmp_path / "data", command="sandbox")
        try:
            server.start(OPENTRAIL_CONTROL_STORE=postgres.new_database())
            with postgres.frozen():
                until(server, "degraded")
            until(server, "ok")
            assert metric(server) == "opentrail_control_store_failing 0.0"
            assert server.boto("cloudtrail").describe_trails()["trailList"] == []
        finally:
            server.close()


def test_a_server_without_its_database_names_the_cause(tmp_path: Path) -> None:
    server = Opentrail(tmp_path / "data", "--upstream", "http://127.0.0.1:9")
    url = f"postgresql://bob:{SECRET}@/state?host={tmp_path}"
    with pytest.raises(AssertionError, match="server ended with 74") as caught:
        server.start(OPENTRAIL_CONTROL_STORE=url)
    assert "state store cannot be opened" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert SECRET not in str(caught.value)
