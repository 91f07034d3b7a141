"""A power cut at any moment keeps each acknowledged call: the disk forgets unsynced writes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opentrail.adapters.table_hashes import HINT
from tests.forgetful_disk import Call, Disk, calls, strace
from tests.live.processes import Opentrail, eventually
from tests.live.test_stores import create
from tests.stub_upstream import RawRequest, StubUpstream

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow]

SEED = int(os.environ.get("OPENTRAIL_POWER_SEED", "1"))
CALLS_PER_SECOND, SECONDS, CONNECTIONS = 500, 6, 16
#: Small files, so that sealing and new segments fall into these seconds.
FLAGS = ("--history-seal-records", "500", "--insights", "off")
#: The end of the journal may be torn: the torn records look damaged, but nobody acknowledged them.
TORN = "lost: the newest segment of the journal is damaged"
IN_STORE = """
    SELECT element_at(requestParameters, 'userName') AS name, count(*) AS n FROM everything
    WHERE eventName = 'CreateUser' GROUP BY 1
"""
ROLE = "arn:aws:iam::123456789012:role/any"
_USER = re.compile(rb"UserName=(\d+)")
_ACKNOWLEDGED = re.compile(rb"<User>(\d+)</User>")


def answer(request: RawRequest) -> bytes:
    """Names the user in the answer, so that a trace shows which calls were acknowledged."""
    found = _USER.search(request.body)
    body = b"<User>%s</User>" % (found[1] if found else b"0")
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def send_calls(port: int) -> None:
    """Sends `CALLS_PER_SECOND` calls, each for another user."""
    count = CALLS_PER_SECOND * SECONDS // CONNECTIONS

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = asyncio.get_running_loop().time()
        for index in range(count):
            body = f"Action=CreateUser&Version=2010-05-08&UserName={1 + number * count + index}"
            writer.write(
                f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/"
                f"x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            await reader.readuntil(b"</User>")
            due = start + (index + 1) * SECONDS / count
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        writer.close()

    await asyncio.gather(*map(client, range(CONNECTIONS)))


@dataclass
class Traced:
    """The system calls of a server's life."""

    folder: Path
    trace: list[Call]
    #: Number of the call that sent an answer -> the user that it names.
    acknowledged: dict[int, str]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed: apt-get install strace")
    top = tmp_path_factory.mktemp("power")
    with StubUpstream(answer=answer) as upstream:
        server = Opentrail(top / "data", "--upstream", upstream.url, *FLAGS)
        server.prefix = strace(found, top / "trace")
        try:
            try:
                server.start()
            except AssertionError:
                if "PTRACE" not in server.output:
                    raise
                pytest.skip(f"strace may not trace here: {server.output}")
            store = create(server.boto("cloudtrail"), "everything")
            asyncio.run(send_calls(int(server.url.rpartition(":")[2])))
            fill_store(server, store)
            assert server.opentrail("query", "SELECT count(*) FROM event_history").returncode == 0
            assert (
                server.opentrail("directory", "add", "AKIAEXAMPLE", "--user", "Ann").returncode == 0
            )
        finally:
            for child in server.children(b"opentrail"):  # strace would leave it running
                os.kill(child, signal.SIGTERM)
            server.wait()
    trace = list(calls(top / "trace"))
    acknowledged = {}
    for number, call in enumerate(trace):
        if call.name in ("write", "writev", "sendto", "sendmsg"):
            for text in call.texts():
                if sent := _ACKNOWLEDGED.search(text):
                    acknowledged[number] = sent[1].decode()
    return Traced(top / "data", trace, acknowledged)


def fill_store(server: Opentrail, store: str) -> None:
    """Returns once the calls are in a store's file, and in its Iceberg table."""
    server.boto("cloudtrail").enable_federation(EventDataStore=store, FederationRoleArn=ROLE)
    table = server.data_dir / "stores" / store[-36:] / "iceberg" / "metadata"
    eventually((table / HINT).exists, "the store is published")


def cuts(traced: Traced, count: int) -> Iterator[tuple[Path, set[str]]]:
    """Yields folders as cuts leave them, each with the users of the acknowledged calls."""
    choose = random.Random(SEED)
    first, last, end = min(traced.acknowledged), max(traced.acknowledged), len(traced.trace)
    # A third is later, while the store is written.
    late = count // 3
    moments = sorted(
        [*choose.sample(range(first, last), count - late), *choose.sample(range(last, end), late)]
    )
    disk = Disk(traced.folder)
    users: set[str] = set()
    for number, call in enumerate(traced.trace):
        if moments and number == moments[0]:
            moments.pop(0)
            folder = traced.folder.with_name(f"cut-{number}")
            disk.after_cut(folder, choose)
            yield folder, set(users)
        disk.apply(call)
        if number in traced.acknowledged:
            users.add(traced.acknowledged[number])


def in_store(server: Opentrail) -> Counter[str]:
    done = server.opentrail("query", "--json", IN_STORE)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return Counter({row["name"]: int(row["n"]) for row in rows})


@pytest.mark.parametrize(
    "count", [3, pytest.param(30, marks=pytest.mark.campaign, id="thirty cuts")]
)
def test_power_cut_keeps_each_acknowledged_call(traced: Traced, count: int) -> None:
    for folder, users in cuts(traced, count):
        server = Opentrail(folder, "--upstream", "http://127.0.0.1:1", *FLAGS)
        try:
            server.start()
            found = Counter(
                record["requestParameters"]["userName"]
                for record in server.records("eventName=CreateUser")
            )
            assert users - found.keys() == set()
            assert {user for user, times in found.items() if times > 1} == set()
            assert in_store(server) == found
            *problems, _ = server.opentrail("verify-store").stdout.splitlines()
            assert [text for text in problems if not text.endswith(TORN)] == []
        finally:
            server.close()


def test_each_replaced_file_is_durable(traced: Traced) -> None:
    """Its content is synced before it gets its name, and then the name is synced."""
    disk = Disk(traced.folder)
    replaced = set()
    for call in traced.trace:
        if call.name.startswith("rename") and len(paths := disk.paths(call)) == 2:
            old, new = paths
            assert not disk.unsynced(old), f"{new} has a name before its content is durable"
            replaced.add(new)
        disk.apply(call)
    names = {Path(path).relative_to(traced.folder).parts[0] for path in replaced}
    assert names >= {
        "history",
        "inventory.json",
        "keys",
        "lost",
        "queries",
        "stores",
        "version",
        "written",
    }
    assert replaced & disk.unsynced_names() == set()
