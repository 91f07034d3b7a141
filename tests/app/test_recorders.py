"""Several recorder processes behind one port, feeding one journal."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from pathlib import Path

import pytest

from opentrail.core.identity import key_for_account
from tests.capture.proxy.wires import TIMEOUT_SECONDS, Wire, ok, scope, scripted
from tests.live.processes import (
    Opentrail,
    eventually,
    moto_server,
    opentrail_server,
    runs,
    stalled_disk,
    unthrottled,
)
from tests.stub_upstream import StubUpstream

pytestmark = pytest.mark.live

GET = f"GET /bucket/key HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n\r\n"


@pytest.fixture
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


def children(server: Opentrail) -> list[int]:
    """Returns the ids of the recorder processes."""
    return server.children(b"recorder_process")


def new_children(server: Opentrail, before: list[int]) -> set[int]:
    """Returns the new processes."""
    return set(children(server)) - set(before)


def get(server: Opentrail, path: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(server.console + path, timeout=TIMEOUT_SECONDS) as answer:
        return str(answer.read().decode())


def create_user(server: Opentrail, name: str, key: str | None = None) -> int:
    """Calls over a new connection, and returns the status."""
    return create(server, name, key)[0]


def create(
    server: Opentrail, name: str, key: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Calls over a new connection, and returns the answer."""
    body = f"Action=CreateUser&Version=2010-05-08&UserName={name}"
    signed = scope("iam", key=key) if key else scope("iam")
    wire = Wire.to(server.url).send(
        f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {signed}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    wire.socket.settimeout(3 * TIMEOUT_SECONDS)
    answer = wire.answer()
    wire.close()
    return answer


def create_unthrottled(server: Opentrail, name: str) -> int:
    """Calls over a new connection, again while it is throttled; returns the status."""
    return unthrottled(partial(create, server, name), itemgetter(2))[0]


@pytest.mark.campaign
def test_connections_are_distributed_and_calls_recorded_once(tmp_path: Path) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url, "--recorders", "3") as server,
    ):
        assert len(children(server)) == 3
        before = [Path(f"/proc/{pid}/io").read_text() for pid in children(server)]
        names = [f"user-{n}" for n in range(120)]
        with ThreadPoolExecutor(12) as clients:
            statuses = list(clients.map(partial(create_unthrottled, server), names))
        assert Counter(statuses) == {200: 120}
        after = [Path(f"/proc/{pid}/io").read_text() for pid in children(server)]
        assert all(x != y for x, y in zip(before, after, strict=True)), "one had nothing to do"
        recorded = Counter(r["requestParameters"]["userName"] for r in server.records())
        assert recorded == Counter(names)
        # A late process keeps its previous count.
        for total in (
            'opentrail_calls_total{service="iam"} 120.0',
            'opentrail_records_total{category="Management"} 120.0',
        ):
            eventually(lambda total=total: total in get(server, "/metrics"), total)  # type: ignore[misc]
        health = json.loads(get(server, "/health"))
        assert (health["recorders"], health["lostRecords"]) == (3, 0)
        pids = children(server)
        assert server.stop() == 0
        assert not any(runs(pid) for pid in pids)


@pytest.mark.campaign
def test_new_key_is_known_to_every_process_first(moto: str, tmp_path: Path) -> None:
    """Each new connection lands in the next process, immediately after the key's answer."""
    with opentrail_server(tmp_path / "data", "--upstream", moto, "--recorders", "3") as server:
        iam = server.boto("iam")
        for name in ("John", "Jane", "Joan"):
            iam.create_user(UserName=name)
            made = iam.create_access_key(UserName=name)["AccessKey"]
            for count in range(4):
                create_user(server, f"{name}-{count}", made["AccessKeyId"])
        users = server.records("EventName=CreateUser")
        found = {
            r["requestParameters"]["userName"]: r["userIdentity"].get("userName") for r in users
        }
        expected = {f"{n}-{c}": n for n in ("John", "Jane", "Joan") for c in range(4)}
        assert {name: who for name, who in found.items() if "-" in name} == expected


@pytest.mark.campaign
def test_next_server_knows_learned_identities(moto: str, tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", moto) as server:
        iam = server.boto("iam")
        iam.create_user(UserName="John")
        key = iam.create_access_key(UserName="John")["AccessKey"]["AccessKeyId"]
        assert server.stop() == 0
        server.flags = (*server.flags, "--recorders", "2")
        server.start()
        for count in range(2):
            assert create_user(server, f"by-john-{count}", key) == 200
        found = [r["userIdentity"].get("userName") for r in server.records("EventName=CreateUser")]
        assert found[:2] == ["John", "John"]


@pytest.mark.campaign
def test_cloudtrail_api_answers_and_its_calls_take_effect(moto: str, tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", moto, "--recorders", "2") as server:
        server.boto("s3").create_bucket(Bucket="logs")
        for _ in range(2):
            client = server.boto("cloudtrail")
            client.create_trail(Name="mine", S3BucketName="logs", EnableLogFileValidation=True)
            client.start_logging(Name="mine")
            server.boto("iam").create_user(UserName="Mary")
            client.stop_logging(Name="mine")
            assert client.get_trail_status(Name="mine")["IsLogging"] is False
            flushed = server.opentrail("trail", "flush", "mine")
            assert flushed.returncode == 0, flushed.stderr
            client.delete_trail(Name="mine")
            server.boto("iam").delete_user(UserName="Mary")
        names = Counter(r["eventName"] for r in server.records())
        assert names["CreateTrail"] == names["StartLogging"] == names["StopLogging"] == 2
        denied = Wire.to(server.url).send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n")
        denied.send("X-Amz-Target: com.amazonaws.cloudtrail.v20131101.X.ListTrails\r\n\r\n")
        status, _, body = denied.answer()
        assert (status, b"MissingAuthenticationToken" in body) == (400, True)


@pytest.mark.anomaly
def test_killed_process_is_replaced_without_losing_answered_calls(
    tmp_path: Path,
) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url, "--recorders", "2") as server,
    ):
        answered = []
        for round_ in range(3):
            first = children(server)
            for count in range(10):
                assert create_user(server, f"user-{round_}-{count}") == 200
                answered.append(f"user-{round_}-{count}")
            os.kill(first[0], signal.SIGKILL)
            eventually(partial(new_children, server, first), "new process")
            eventually(lambda: len(children(server)) == 2, "second process")
        recorded = Counter(r["requestParameters"]["userName"] for r in server.records())
        assert recorded == Counter(answered)
        assert server.stop() == 0
        assert "process ended, starting another" in server.output


@pytest.mark.slow
@pytest.mark.anomaly
def test_a_killed_server_leaves_no_process(tmp_path: Path) -> None:
    flags = ("--upstream", "http://127.0.0.1:9", "--recorders", "2")
    with opentrail_server(tmp_path / "data", *flags) as server:
        pids = server.children(b"opentrail.")
        assert len(pids) == 4, "recorders, history, insights"
        assert server.process is not None
        stopped = pids[0]
        os.kill(stopped, signal.SIGSTOP)
        server.process.kill()
        eventually(lambda: [pid for pid in pids if runs(pid)] == [stopped], "end of the others")
        os.kill(stopped, signal.SIGCONT)
        eventually(lambda: not runs(stopped), "end of the stopped process")


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.anomaly
def test_a_hanging_process_is_replaced_without_delaying_others(tmp_path: Path) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url, "--recorders", "2") as server,
    ):
        kept = [Wire.to(server.url) for _ in range(2)]
        for wire in kept:
            wire.send(f"GET /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n\r\n")
            wire.answer()
        hung = children(server)[0]
        os.kill(hung, signal.SIGSTOP)
        eventually(lambda: hung not in children(server), "end of the process that hangs")
        eventually(lambda: len(children(server)) == 2, "new process")
        for count in range(6):
            assert create_user(server, f"after-{count}") == 200


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.anomaly
def test_every_process_accepts_calls_once_the_journal_recovers(tmp_path: Path) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url, "--recorders", "2") as server,
    ):
        with stalled_disk(server), ThreadPoolExecutor(4) as clients:
            names = [f"meanwhile-{n}" for n in range(4)]
            statuses = list(clients.map(lambda name: create_user(server, name), names))
        # SQLite stops waiting; late calls on a busy machine are throttled before.
        assert {503} <= set(statuses) <= {400, 503}
        eventually(lambda: create_user(server, "again") == 200, "first call")
        eventually(
            lambda: [create_user(server, "again") for _ in range(4)] == [200] * 4, "all of them"
        )

        def lost() -> int:
            gaps = server.records("EventName=RecordsLost")
            return sum(gap["serviceEventDetails"]["lostRecords"] for gap in gaps)

        eventually(lambda: lost() == statuses.count(503), "record of the lost calls")


@pytest.mark.campaign
@pytest.mark.anomaly
def test_processes_end_with_their_server_in_any_case(tmp_path: Path) -> None:
    with opentrail_server(
        tmp_path / "data", "--upstream", "http://127.0.0.1:9", "--recorders", "2"
    ) as server:
        pids = children(server)
        assert len(pids) == 2
        server.kill()
        eventually(lambda: not any(runs(pid) for pid in pids), "end of the processes")


@pytest.mark.campaign
def test_sigterm_to_all_processes_lets_calls_finish(tmp_path: Path) -> None:
    """As with service managers: the signal reaches every process of the group."""
    reached, go_on = threading.Event(), threading.Event()

    def slow(wire: Wire) -> None:
        wire.request()
        reached.set()
        assert go_on.wait(TIMEOUT_SECONDS)
        wire.send(ok(b"late but whole"))

    with (
        scripted(slow) as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream.url, "--recorders", "2"
        ) as server,
    ):
        wire = Wire.to(server.url).send(GET)
        idle = Wire.to(server.url)
        assert reached.wait(TIMEOUT_SECONDS)
        assert server.process is not None
        for pid in (*children(server), server.process.pid):
            os.kill(pid, signal.SIGTERM)
        assert idle.rest() == b"", "idle connections are closed immediately"
        go_on.set()
        assert wire.answer()[2] == b"late but whole"
        assert server.wait() == 0


@pytest.mark.campaign
def test_the_listening_socket_is_free_after_the_end(tmp_path: Path) -> None:
    with opentrail_server(
        tmp_path / "data", "--upstream", "http://127.0.0.1:9", "--recorders", "2"
    ) as server:
        server.port = int(server.url.rpartition(":")[2])
        assert server.stop() == 0
        server.start()
        account = key_for_account("210987654321")
        assert create_user(server, "x", account) == 502
        (record,) = server.records()
        assert record["recipientAccountId"] == "210987654321"
