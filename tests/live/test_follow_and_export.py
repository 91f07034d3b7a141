"""`tail` across restarts of a real server, and `export` of its records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    free_port,
    moto_server,
    opentrail_server,
)

pytestmark = [pytest.mark.live, pytest.mark.campaign]
EVERYTHING = ("--all-accounts", "--all-regions", "--all-categories")


class Follower:
    """A running `opentrail tail --json`."""

    def __init__(self, server: Opentrail, *arguments: str) -> None:
        command = [sys.executable, "-m", "opentrail", "tail", *EVERYTHING, "--json", *arguments]
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(server.data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        self.records: list[Any] = []
        self.said = ""
        self._threads = [threading.Thread(target=work) for work in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.records.append(json.loads(line))

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def names(self) -> list[str]:
        return [record["requestParameters"]["userName"] for record in self.records]

    def until(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(self.records) < count:
            assert time.monotonic() < deadline, (self.names(), self.said)
            time.sleep(0.01)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(TIMEOUT_SECONDS)
        for thread in self._threads:
            thread.join()
        return code


@contextmanager
def following(server: Opentrail, *arguments: str) -> Iterator[Follower]:
    follower = Follower(server, *arguments)
    try:
        yield follower
    finally:
        if follower.process.poll() is None:
            follower.process.kill()
            follower.interrupt()


def create(server: Opentrail, *names: str) -> None:
    iam = server.boto("iam")
    for name in names:
        iam.create_user(UserName=name)


def test_tail_continues_over_restarts_without_gap_or_repetition(
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream, port=free_port()) as server,
    ):
        create(server, "before", "shown")
        expression = "name=CreateUser"
        with following(server, expression, "--last", "1", "--resume", str(place)) as follower:
            follower.until(1)
            create(server, "a", "b")
            follower.until(3)
            assert server.stop() == 0
            server.start()
            create(server, "c")
            follower.until(4)
            server.kill()
            server.start()
            create(server, *(f"many-{number}" for number in range(30)))
            follower.until(34)
            assert follower.interrupt() == 130
            assert follower.names() == ["shown", *"abc", *(f"many-{n}" for n in range(30))]
            assert "waiting for the server" in follower.said
            assert "Traceback" not in follower.said
        create(server, "meanwhile")
        with following(server, expression, "--resume", str(place)) as follower:
            create(server, "after")
            follower.until(2)
            assert follower.interrupt() == 130
            assert follower.names() == ["meanwhile", "after"]
            assert follower.said == ""


def test_a_tail_without_a_reader_delays_no_call(tmp_path: Path) -> None:
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream) as server,
    ):
        create(server, "first")
        read, write = os.pipe()
        command = [sys.executable, "-m", "opentrail", "tail", "--all-regions", "--json"]
        slow = subprocess.Popen(
            [*command, "--after", "0", "--data-dir", str(server.data_dir)],
            stdout=write,
            env=clean_environment(),
        )
        os.close(write)
        try:
            create(server, *(f"user-{number}" for number in range(100)))
            assert len(server.records("name=CreateUser")) == 101
        finally:
            os.close(read)
            assert slow.wait(TIMEOUT_SECONDS) == 0  # its reader has left


def test_an_export_equals_lookups(tmp_path: Path) -> None:
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream) as server,
    ):
        create(server, *(f"user-{number}" for number in range(20)))
        server.boto("s3").create_bucket(Bucket="reports")
        server.boto("s3").put_object(Bucket="reports", Key="日本 \"x'.txt", Body=b"x")
        found = server.records()
        for kind in ("parquet", "ndjson", "csv"):
            done = server.opentrail("export", *EVERYTHING, f"--{kind}", str(tmp_path / kind))
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"{len(found)} events in 1 file of {tmp_path / kind}\n"
            assert done.stderr == ""
        lines = (tmp_path / "ndjson" / "events-00001.ndjson").read_text().splitlines()
        assert [json.loads(line) for line in lines] == found
        for kind in ("parquet", "csv"):
            rows = duckdb.execute(
                f"SELECT event_id, record FROM '{tmp_path}/{kind}/*.{kind}'"  # noqa: S608
            ).fetchall()
            assert [json.loads(record) for _, record in rows] == found
            assert [event_id for event_id, _ in rows] == [record["eventID"] for record in found]
        done = server.opentrail("export", "user=nobody", "--parquet", str(tmp_path / "none"))
        assert done.stdout == f"0 events in 1 file of {tmp_path / 'none'}\n"
