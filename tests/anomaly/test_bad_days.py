"""Bad days: each ends with a clear message, the right exit code or AWS error, and nothing lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from tests.live.processes import (
    Opentrail,
    eventually,
    free_port,
    health,
    moto_server,
    opentrail_server,
    run_opentrail,
    until_well,
)
from tests.live.test_sql import finished
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.anomaly, pytest.mark.live]

NOBODY = "http://127.0.0.1:9"


# The data directory


@pytest.mark.campaign
def test_second_server_exits_3_and_names_the_first(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", NOBODY) as first:
        second = run_opentrail("serve", "--data-dir", str(tmp_path / "data"), "--upstream", NOBODY)
        assert second.returncode == 3
        assert first.process is not None
        assert f"in use by the server with process id {first.process.pid}" in second.stderr
        (tmp_path / "data" / "lock").unlink()
        third = run_opentrail("serve", "--data-dir", str(tmp_path / "data"), "--upstream", NOBODY)
        assert third.returncode == 3
        until_well(first)


def test_a_newer_data_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "version").write_text("999\n")
    done = run_opentrail("serve", "--data-dir", str(tmp_path / "data"), "--upstream", NOBODY)
    assert done.returncode == 4
    assert "upgrade opentrail" in done.stderr


def test_an_impossible_data_directory_exits_74(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run_opentrail("serve", "--data-dir", str(tmp_path / "file" / "d"), "--upstream", NOBODY)
    assert done.returncode == 74
    assert "cannot be used" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    with file_system(tmp_path / "small", 24) as folder:
        yield folder


@contextmanager
def file_system(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mounts a file system, or skips the test."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Takes all remaining space."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_at_the_start_exits_74(small_disk: Path, is_new: bool) -> None:
    folder = small_disk / "data"
    if not is_new:
        with opentrail_server(folder, "--upstream", NOBODY) as server:
            assert server.stop() == 0
    filler = fill(small_disk)
    done = run_opentrail("serve", "--data-dir", str(folder), "--upstream", NOBODY)
    assert done.returncode == 74
    assert re.search("No space left|disk is full", done.stderr)
    filler.unlink()
    with opentrail_server(folder, "--upstream", NOBODY) as server:
        until_well(server)


@pytest.mark.campaign
def test_full_disk_refuses_calls_until_there_is_room(small_disk: Path) -> None:
    with (
        StubUpstream() as upstream,
        opentrail_server(small_disk / "data", "--upstream", upstream.url) as server,
    ):
        iam = server.boto("iam")
        iam.create_user(UserName="before")
        filler = fill(small_disk)

        def refused() -> bool:
            """The journal's own file may have room for a few more records."""
            iam.create_user(UserName="meanwhile")
            return False

        with pytest.raises(
            botocore.exceptions.ClientError, match=r"not be recorded|cannot be"
        ) as e:
            eventually(refused, "a refusal")
        answer = e.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert answer["Error"]["Code"] == "ServiceUnavailable"
        assert health(server)["status"] == "failing"
        forwarded = upstream.count
        with pytest.raises(botocore.exceptions.ClientError, match="cannot be recorded"):
            iam.create_user(UserName="refused")
        assert upstream.count == forwarded, "a call that cannot be recorded was forwarded"
        filler.unlink()
        until_well(server)  # without a restart
        iam.create_user(UserName="after")
        assert server.stop() == 0
        server.start()
        parameters = [record["requestParameters"] or {} for record in server.records()]
        names = [given.get("userName") for given in parameters]
        assert names.count("before") == names.count("after") == 1
        assert "refused" not in names


def test_each_door_says_that_the_disk_is_full(small_disk: Path) -> None:
    with opentrail_server(small_disk / "data", "--upstream", NOBODY) as server:
        cloudtrail = server.boto("cloudtrail")
        athena = boto3.client(
            "athena",
            "us-east-1",
            endpoint_url=f"{server.url}/athena",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}),
        )
        statement = "SELECT count(*) FROM event_history"
        assert finished(cloudtrail, statement)["QueryStatus"] == "FINISHED"
        fill(small_disk)
        doors: dict[str, Callable[[], Any]] = {
            "StartQuery": lambda: cloudtrail.start_query(QueryStatement=statement),
            "CreateEventDataStore": lambda: cloudtrail.create_event_data_store(Name="a-store"),
            "StartQueryExecution": lambda: athena.start_query_execution(QueryString=statement),
        }
        for name, call in doors.items():
            with pytest.raises(botocore.exceptions.ClientError, match="disk is full") as error:
                eventually(lambda: call() is None, name)  # noqa: B023
            assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        asked = server.opentrail("query", statement)
        assert asked.returncode != 0
        assert "the server's disk is full" in asked.stderr
        assert "Traceback" not in server.output


@pytest.mark.campaign
def test_full_disk_with_allow_leaves_a_gap_record(small_disk: Path) -> None:
    with (
        StubUpstream() as upstream,
        opentrail_server(
            small_disk / "data", "--upstream", upstream.url, "--on-record-failure", "allow"
        ) as server,
    ):
        iam = server.boto("iam")
        filler = fill(small_disk)
        eventually(
            lambda: iam.create_user(UserName="lost") and health(server)["lostRecords"],
            "a counted loss",
        )
        for _ in range(5):
            iam.create_user(UserName="lost")
        filler.unlink()
        until_well(server)
        gap = eventually(lambda: server.records("EventName=RecordsLost"), "a gap record")
        lost = sum(record["serviceEventDetails"]["lostRecords"] for record in gap)
        assert lost == health(server)["lostRecords"]
        kept = [r for r in server.records() if r["eventName"] == "CreateUser"]
        assert lost + len(kept) == upstream.count


@pytest.mark.campaign
@pytest.mark.parametrize("recorders", ["1", "2"])
def test_losses_before_a_stop_are_reported_after_it(small_disk: Path, recorders: str) -> None:
    flags = ("--on-record-failure", "allow", "--recorders", recorders)
    with (
        StubUpstream() as upstream,
        opentrail_server(small_disk / "data", "--upstream", upstream.url, *flags) as server,
    ):
        iam = server.boto("iam")
        filler = fill(small_disk)
        eventually(
            lambda: iam.create_user(UserName="lost") and health(server)["lostRecords"],
            "a counted loss",
        )
        server.stop()
        filler.unlink()
        server.start()
        gap = eventually(lambda: server.records("EventName=RecordsLost"), "a gap record")
        lost = sum(record["serviceEventDetails"]["lostRecords"] for record in gap)
        kept = [r for r in server.records() if r["eventName"] == "CreateUser"]
        assert lost + len(kept) == upstream.count
        server.stop()
        assert list((small_disk / "data" / "lost").iterdir()) == []


# Options and addresses


@pytest.mark.campaign
def test_port_in_use_exits_2_with_the_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("--listen", "--console-listen"):
            free = [f"--{'console-' if flag == '--listen' else ''}listen", "127.0.0.1:0"]
            done = run_opentrail(
                *("serve", "--data-dir", str(tmp_path / "data"), "--upstream", NOBODY),
                *(flag, address, *free),
            )
            assert done.returncode == 2
            assert address in done.stderr
            assert f"choose another address with {flag}" in done.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--upstream", "nonsense"], "--upstream"),
        (["--upstream", "ftp://x"], "--upstream"),
        (["--upstream", "http://h/path"], "path"),
        (["--upstream", NOBODY, "--listen", "4747"], "--listen"),
        (["--upstream", NOBODY, "--listen", "0.0.0.0:0"], "loopback"),
        (["--upstream", NOBODY, "--delivery-interval", "soon"], "--delivery-interval"),
        (["--upstream", NOBODY, "--digest-interval", "0"], "--digest-interval"),
        (["--upstream", NOBODY, "--history-retention-days", "1.5"], "--history-retention-days"),
        (["--upstream", NOBODY, "--on-record-failure", "maybe"], "refuse, allow"),
        (["--upstream", NOBODY, "--auth", "strict"], "permissive, verify, enforced"),
        (["--upstream", NOBODY, "--unknown-keys", "refuse"], "needs --auth verify or enforced"),
        (["--upstream", NOBODY, "--recorders", "257"], "at most 256"),
        (["--upstream", NOBODY, "--config", "/nowhere.toml"], "/nowhere.toml"),
        ([], "--upstream"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_wrong_options_exit_2_and_are_named(tmp_path: Path, flags: list[str], named: str) -> None:
    done = run_opentrail("serve", "--data-dir", str(tmp_path / "data"), *flags)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_commands_without_a_server_exit_2(tmp_path: Path) -> None:
    for command in (["lookup"], ["who", "Mary"], ["trail", "flush", "x"]):
        done = run_opentrail(*command, "--data-dir", str(tmp_path))
        assert done.returncode == 2
        assert "no server runs" in done.stderr


# Upstreams


@pytest.mark.parametrize("upstream", [NOBODY, "http://no-such-host.invalid"])
def test_a_dead_upstream_gives_502_and_a_record(tmp_path: Path, upstream: str) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", upstream) as server:
        calls: dict[str, Callable[[], Any]] = {
            "iam": lambda: server.boto("iam").create_user(UserName="x"),
            "s3": lambda: server.boto("s3").create_bucket(Bucket="some-bucket"),
            "dynamodb": lambda: server.boto("dynamodb").list_tables(),
        }
        for service, call in calls.items():
            with pytest.raises(botocore.exceptions.ClientError) as caught:
                call()
            answer = caught.value.response
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 502, service
            assert answer["Error"]["Code"] == "BadGateway"
            assert upstream in answer["Error"]["Message"]
        recorded = {r["eventName"]: r for r in server.records()}
        assert set(recorded) == {"CreateUser", "CreateBucket", "ListTables"}
        for record in recorded.values():
            assert record["errorCode"] == "BadGateway"
            assert "cannot be reached" in record["additionalEventData"]["opentrail"]["failure"]


@pytest.mark.campaign
def test_an_interrupted_upstream_leaves_its_answer_incomplete(
    tmp_path: Path,
) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def break_off() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
            connection.sendall(head + b"x" * 200_000)
            connection.close()

        threading.Thread(target=break_off, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with opentrail_server(tmp_path / "data", "--upstream", url) as server:
            body = server.boto("s3").get_object(Bucket="bucket", Key="key")["Body"]
            with pytest.raises(
                (botocore.exceptions.IncompleteReadError, botocore.exceptions.HTTPClientError)
            ):
                body.read()
            record = eventually(server.records, "the record")[0]
            assert record["eventName"] == "GetObject"
            assert (
                "before its answer was complete"
                in (record["additionalEventData"]["opentrail"]["failure"])
            )


# Buckets


@pytest.mark.campaign
def test_a_missing_bucket_is_named(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        done = server.try_aws(
            "cloudtrail", "create-trail", "--name", "trail", "--s3-bucket-name", "not-there"
        )
        assert done.returncode != 0
        assert "S3BucketDoesNotExistException" in done.stderr
        assert "S3 bucket not-there does not exist!" in done.stderr
        flushed = server.opentrail("trail", "flush", "trail")
        assert flushed.returncode == 1
        assert "trail 'trail' not found" in flushed.stderr


@pytest.mark.campaign
@pytest.mark.slow
def test_a_bucket_that_disappears_loses_nothing(tmp_path: Path) -> None:
    with (
        moto_server() as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream, "--delivery-interval", "0.5"
        ) as server,
    ):
        direct = boto3.client(
            "s3",
            endpoint_url=upstream,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        direct.create_bucket(Bucket="fragile")
        trails = server.boto("cloudtrail")
        trails.create_trail(Name="trail", S3BucketName="fragile", EnableLogFileValidation=True)
        for item in direct.list_objects_v2(Bucket="fragile")["Contents"]:
            direct.delete_object(Bucket="fragile", Key=item["Key"])
        direct.delete_bucket(Bucket="fragile")
        trails.start_logging(Name="trail")
        server.boto("iam").create_user(UserName="unlucky")
        eventually(
            lambda: trails.get_trail_status(Name="trail").get("LatestDeliveryError"),
            "a delivery error",
        )
        assert trails.get_trail_status(Name="trail")["LatestDeliveryError"] == "NoSuchBucket"
        flushed = server.opentrail("trail", "flush", "trail")
        assert flushed.returncode == 1
        assert "NoSuchBucket" in flushed.stderr
        direct.create_bucket(Bucket="fragile")
        assert server.opentrail("trail", "flush", "trail").returncode == 0
        status = trails.get_trail_status(Name="trail")
        assert "LatestDeliveryError" not in status
        assert "LatestDigestDeliveryTime" in status
        done = server.try_aws(
            *("cloudtrail", "validate-logs", "--start-time", "2020-01-01T00:00:00Z"),
            *("--trail-arn", "arn:aws:cloudtrail:us-east-1:123456789012:trail/trail"),
        )
        assert done.returncode == 0, done.stderr
        assert "log files valid" in done.stdout


@pytest.mark.campaign
def test_the_sandbox_recreates_lost_trail_buckets(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox", port=free_port()) as server:
        server.aws("s3", "mb", "s3://kept")
        server.aws("cloudtrail", "create-trail", "--name", "kept", "--s3-bucket-name", "kept")
        server.aws("cloudtrail", "start-logging", "--name", "kept")
        assert server.opentrail("trail", "flush", "kept").returncode == 0
        assert server.stop() == 0
        server.start()
        assert "recreated it with a new digest chain" in server.output
        server.aws("iam", "create-user", "--user-name", "John")
        assert server.opentrail("trail", "flush", "kept").returncode == 0
        assert "CloudTrail/us-east-1" in server.aws("s3", "ls", "--recursive", "s3://kept")


# Event history


def history_process(server: Opentrail) -> int:
    """Returns the id of the event history process."""
    (pid,) = server.children(b"opentrail.adapters.duckdb.process")
    return pid


@pytest.mark.campaign
def test_killed_history_process_is_refilled_without_traffic(
    tmp_path: Path,
) -> None:
    with (
        StubUpstream() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        iam = server.boto("iam")
        for number in range(5):
            iam.create_user(UserName=f"user-{number}")
        assert len(server.records()) == 5
        killed = history_process(server)
        os.kill(killed, signal.SIGKILL)
        # No records follow: `lookup` asks the console port.
        names = [record["requestParameters"]["userName"] for record in server.records()]
        assert sorted(names) == [f"user-{number}" for number in range(5)]
        assert history_process(server) != killed
        iam.create_user(UserName="another")
        assert len(server.records()) == 6


# Parts that do not run

#: Ends the event history process before it is ready, as long as a file exists.
ENDING = """
import os, sys
if "opentrail.adapters.duckdb.process" in sys.orig_argv and os.path.exists({file!r}):
    sys.exit(1)
"""
#: Runs a command whose standard error is a full, unread pipe.
UNREAD = """
import os, sys
reading, writing = os.pipe()
os.set_inheritable(reading, True)
os.set_blocking(writing, False)
try:
    while True:
        os.write(writing, bytes(4096))
except BlockingIOError:
    os.set_blocking(writing, True)
os.dup2(writing, 2)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_recording_continues_without_history(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    (tmp_path / "sitecustomize.py").write_text(ENDING.format(file=str(broken)))
    with StubUpstream() as stub:
        server = Opentrail(tmp_path / "data", "--upstream", stub.url)
        try:
            server.start(PYTHONPATH=str(tmp_path))
            failure = eventually(lambda: health(server)["history"]["failure"], "a failure")
            assert "did not get ready" in failure
            assert health(server)["status"] == "degraded"
            for number in range(5):
                server.boto("iam").create_user(UserName=f"user-{number}")
            assert health(server)["journal"]["failure"] is None
            broken.unlink()
            until_well(server)
            assert server.count("eventName=CreateUser") == 5
            assert server.stop() == 0
        finally:
            server.close()


def test_lookup_without_history_is_throttled(tmp_path: Path) -> None:
    """A lookup fails while the history process stands still, then finds each call."""
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        server.boto("iam").create_user(UserName="user-0")
        assert server.count("eventName=CreateUser") == 1
        [history] = server.children(b"duckdb.process")
        os.kill(history, signal.SIGSTOP)
        try:
            for number in range(1, 5):
                server.boto("iam").create_user(UserName=f"user-{number}")
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                server.boto("cloudtrail").lookup_events()
            assert refused.value.response["Error"]["Code"] == "ThrottlingException"
        finally:
            os.kill(history, signal.SIGCONT)
        until_well(server)
        assert server.count("eventName=CreateUser") == 5


def test_server_with_unread_log_records_calls(tmp_path: Path) -> None:
    with StubUpstream() as stub:
        server = Opentrail(tmp_path / "data", "--upstream", stub.url)
        server.prefix = (sys.executable, "-c", UNREAD)
        try:
            server.start()
            assert server.process is not None
            for number in range(20):
                server.process.send_signal(signal.SIGHUP)  # is logged
                server.boto("iam").create_user(UserName=f"user-{number}")
            until_well(server)
            assert server.count("eventName=CreateUser") == 20
            assert server.stop() == 0
        finally:
            server.close()
