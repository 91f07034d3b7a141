"""A server keeps its state in PostgreSQL; nothing that it writes or shows has the password."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.live.processes import Opentrail
from tests.postgres import shared_server

pytestmark = [pytest.mark.live, pytest.mark.campaign]
SECRET = "very-secret"


def command_lines() -> bytes:
    """Returns the command lines of all processes of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes())
    return b"\n".join(found)


def test_trails_outlive_the_server_in_postgresql_and_the_password_is_nowhere(
    tmp_path: Path,
) -> None:
    postgres = shared_server()
    database = make_url(postgres.new_database()).database or ""
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


def test_a_server_whose_database_is_not_there_names_the_cause(tmp_path: Path) -> None:
    server = Opentrail(tmp_path / "data", "--upstream", "http://127.0.0.1:9")
    url = f"postgresql://bob:{SECRET}@/state?host={tmp_path}"
    with pytest.raises(AssertionError, match="server ended with 74") as caught:
        server.start(OPENTRAIL_CONTROL_STORE=url)
    assert "state store cannot be opened" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert SECRET not in str(caught.value)
