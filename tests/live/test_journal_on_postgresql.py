"""A server with its journal on PostgreSQL: history has every acknowledged call once."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.live.processes import Opentrail, eventually, health, run_opentrail, until_well
from tests.live.test_control_store import SECRET, command_lines
from tests.postgres import database_in, own_server, shared_server

pytestmark = [pytest.mark.live, pytest.mark.slow]


def create_users(server: Opentrail, prefix: str, disturb: Callable[[], None]) -> list[str]:
    """Calls from three threads until `disturb` has returned; returns the acknowledged names."""
    acknowledged: list[str] = []
    is_over = threading.Event()

    def call(thread: int) -> None:
        iam = server.boto("iam")
        number = 0
        while not is_over.is_set():
            number += 1
            name = f"{prefix}-{thread}-{number}"
            try:
                iam.create_user(UserName=name)
            except (BotoCoreError, ClientError):
                continue  # refused or cut off: it may be recorded
            acknowledged.append(name)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(acknowledged) > 20, "calls are acknowledged")
        disturb()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    return acknowledged


def recorded_users(server: Opentrail) -> Counter[str]:
    records: list[Any] = list(server.records("name=CreateUser"))
    return Counter(record["requestParameters"]["userName"] for record in records)


@pytest.mark.campaign
def test_a_killed_server_has_every_acknowledged_call_once(
    tmp_path: Path,
) -> None:
    postgres = shared_server()
    database = database_in(postgres.new_database())
    postgres.execute("postgres", f"CREATE ROLE carol SUPERUSER LOGIN PASSWORD '{SECRET}'")
    url = postgres.url(database, f"carol:{SECRET}")
    server = Opentrail(tmp_path / "data", "--recorders", "2", command="sandbox")
    try:
        acknowledged: list[str] = []
        for prefix in ("first", "second"):
            server.start(OPENTRAIL_JOURNAL=url)
            assert SECRET.encode() not in command_lines()
            acknowledged += create_users(server, prefix, server.kill)
        server.start(OPENTRAIL_JOURNAL=url)
        users = recorded_users(server)
        assert set(acknowledged) <= set(users)
        assert set(users.values()) == {1}
        assert list((tmp_path / "data" / "journal").glob("*.db")) == []

        journal = health(server)["journal"]
        assert (journal["engine"], journal["quorumCommit"]) == ("postgresql", False)
        status = server.opentrail("status").stdout
        assert "on PostgreSQL, quorum commit off" in status
        folder = str(tmp_path / "data")
        verified = run_opentrail("verify-store", "--data-dir", folder, OPENTRAIL_JOURNAL=url)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "in the journal on PostgreSQL" in verified.stdout
        assert server.stop() == 0
        output = server.output + status + verified.stdout + verified.stderr
        assert SECRET not in output
    finally:
        server.close()
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert not any(SECRET.encode() in file.read_bytes() for file in files)


def test_a_postgresql_crash_loses_and_repeats_no_call(tmp_path: Path) -> None:
    with own_server() as postgres:
        server = Opentrail(tmp_path / "data", command="sandbox")
        try:
            server.start(OPENTRAIL_JOURNAL=postgres.new_database())

            def crash() -> None:
                postgres.stop("immediate")
                postgres.start()

            acknowledged = create_users(server, "during", crash)
            server.boto("iam").create_user(UserName="after")
            # Lookups wait for half a second, and may be a second late with a retry.
            eventually(lambda: "after" in recorded_users(server), "the last call is visible")
            users = recorded_users(server)
            assert {*acknowledged, "after"} <= set(users)
            assert set(users.values()) == {1}
            until_well(server)
            assert server.stop() == 0
        finally:
            server.close()


@pytest.mark.campaign
def test_verify_store_finds_damage_on_postgresql(
    tmp_path: Path,
) -> None:
    postgres = shared_server()
    url = postgres.new_database()
    server = Opentrail(tmp_path / "data", command="sandbox")
    try:
        server.start(OPENTRAIL_JOURNAL=url)
        for number in range(5):
            server.boto("iam").create_user(UserName=f"user-{number}")
        other = run_opentrail(
            *("serve", "--data-dir", str(tmp_path / "other"), "--upstream", "http://127.0.0.1:1"),
            *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"),
            OPENTRAIL_JOURNAL=url,
        )
        assert other.returncode == 3
        assert "another server uses the journal on PostgreSQL" in other.stderr
        assert server.stop() == 0
    finally:
        server.close()
    folder = ("--data-dir", str(tmp_path / "data"))
    statement = "UPDATE opentrail.batch SET body = '\\x01aa' WHERE first = 3"
    postgres.execute(database_in(url), statement)
    verified = run_opentrail("verify-store", *folder, OPENTRAIL_JOURNAL=url)
    assert verified.returncode == 1
    assert "journal, position 3: " in verified.stdout
    elsewhere = run_opentrail("verify-store", *folder)
    assert elsewhere.returncode == 2
    assert "is on PostgreSQL: set OPENTRAIL_JOURNAL" in elsewhere.stderr
    backup = run_opentrail("backup", str(tmp_path / "b"), *folder, OPENTRAIL_JOURNAL=url)
    assert backup.returncode == 2
    assert "'opentrail backup' does not copy" in backup.stderr


def test_lost_postgresql_logs_each_problem_once(tmp_path: Path) -> None:
    server = Opentrail(tmp_path / "data", command="sandbox")
    with own_server() as postgres:
        url = postgres.new_database()
        server.start(
            OPENTRAIL_JOURNAL=url,
            OPENTRAIL_CONTROL_STORE=url,
            OPENTRAIL_MASTER_KEY=base64.b64encode(bytes(32)).decode(),
        )
        try:
            until_well(server)
            began = time.monotonic()
            postgres.stop("immediate")
            with pytest.raises(ClientError):  # after 15 seconds
                server.boto("iam").create_user(UserName="mary")
            postgres.start()
            until_well(server)
            minutes = (time.monotonic() - began) / 60
            assert server.stop() == 0
        finally:
            server.close()
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    problems = [line for line in lines if line["level"] != "info"]
    changing = ("time", "after", "repeated")
    each = Counter(
        json.dumps({name: value for name, value in line.items() if name not in changing})
        for line in problems
    )
    # Three processes answer lookups with separate counts.
    assert max(each.values()) <= 3 * (2 + minutes), each.most_common(3)
    assert sum(line.get("repeated", 1) for line in problems) > 3 * len(problems)
