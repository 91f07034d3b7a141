"""What servers on PostgreSQL cost beside one that has its journal in files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.load import calls_per_second
from benchmarks.main_job import under_load
from benchmarks.nginx import stub
from benchmarks.processes import proportional_mb_of_all
from benchmarks.records import Multiplier
from benchmarks.servers import Server, create_user, opentrail
from benchmarks.wire import Connection, percentile
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.core.event import NewEntry, new_event_id
from tests.factories import a_new_entry
from tests.postgres import PostgresServer, database_in, primary_and_standby

Figures = dict[str, float]
CALLS = 1_000
#: Calls a second to all servers: three of them and two of PostgreSQL share two cores here.
RATE = 200
LOAD_SECONDS = 10
#: Appends at a time of each process, and for how long.
WRITERS, APPENDING_SECONDS = 500, 10
#: Different records that each process appends, again and again.
RECORDS = 20_000
#: Name in the figures → number of servers on PostgreSQL; 0 is one with files.
KINDS = {"files": 0, "one on PostgreSQL": 1, "three on PostgreSQL": 3}


def cluster() -> Figures:
    """Measures calls in turn, when calls at a steady rate are found, and as many calls as can be.

    PostgreSQL has a synchronous standby. Everything is on the CPUs of one machine.
    """
    figures: Figures = {}
    with primary_and_standby(fsync=True) as (primary, standby), stub() as upstream:
        for kind, count in KINDS.items():
            with _servers(upstream, primary, standby, count) as servers:
                figures |= {f"{kind}: {name}": value for name, value in _added(upstream, servers)}
                figures |= {f"{kind}: {name}": value for name, value in _visible(servers)}
                rate = calls_per_second(servers[0].port, create_user("bench"), LOAD_SECONDS, None)
                figures[f"{kind}: calls/s through one server"] = rate
                memory = max(proportional_mb_of_all(server.process.pid) for server in servers)
                figures[f"{kind}: memory of a server (PSS) MB"] = memory
                figures[f"{kind}: connections to PostgreSQL"] = _connections(primary)
    return figures


@contextlib.contextmanager
def _servers(
    upstream: int, primary: PostgresServer, standby: PostgresServer, count: int
) -> Iterator[list[Server]]:
    if count:
        database = database_in(primary.new_database())
        url = f"postgresql://trusted@/{database}?host={primary.folder},{standby.folder}"
        with servers_on(url, upstream, count) as servers:
            yield servers
    else:
        with opentrail(upstream) as server:
            yield [server]


@contextlib.contextmanager
def servers_on(
    url: str,
    upstream: int,
    count: int,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Iterator[list[Server]]:
    """Runs the servers of a cluster on a database; the first one gives positions."""
    environment = {
        "OPENTRAIL_JOURNAL": url,
        "OPENTRAIL_CONTROL_STORE": url,
        "OPENTRAIL_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
        **(environment or {}),
    }
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(opentrail(upstream, environment=environment, python=python))
            for _ in range(count)
        ]


def _added(upstream: int, servers: Sequence[Server]) -> Iterator[tuple[str, float]]:
    """Times calls to the upstream and to each server in turn, one client alone."""
    direct = Connection(upstream)
    connections = [Connection(server.port) for server in servers]
    without: list[float] = []
    times: list[float] = []
    for number in range(CALLS):
        request = create_user(f"user-{number}")
        without.append(direct.timed(request))
        times += [connection.timed(request) for connection in connections]
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield f"added {name} ms", percentile(times, share) - percentile(without, share)


def _visible(servers: Sequence[Server]) -> Iterator[tuple[str, float]]:
    """Calls at a steady rate; a prober calls one server and looks up on another."""
    seen, looks = under_load([server.port for server in servers], RATE)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield f"visible {name} ms at {RATE} calls/s", percentile(seen, share)
        yield f"look-up {name} ms at {RATE} calls/s", percentile(looks, share)


def into_journal() -> Figures:
    """Measures how many records a second processes append to a journal, one in each append."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["files: records/s"] = _appended(folder, 1)
    with primary_and_standby(fsync=True) as (primary, standby):
        for count in (1, 3):
            database = database_in(primary.new_database())
            url = f"postgresql://trusted@/{database}?host={primary.folder},{standby.folder}"
            before = _bytes_of(primary, database)
            figures[f"{count} on PostgreSQL: records/s"] = _appended(url, count)
            written = zip(_bytes_of(primary, database), before, strict=True)
            data, log = (after - earlier for after, earlier in written)
            (records,) = primary.execute(database, "SELECT sum(count) FROM opentrail.batch")[0]
            figures[f"{count} on PostgreSQL: bytes a record"] = data / float(records)
            figures[f"{count} on PostgreSQL: WAL bytes a record"] = log / float(records)
    return figures


def _connections(server: PostgresServer) -> int:
    clients = "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"
    return int(server.execute("postgres", clients)[0][0])


def _bytes_of(server: PostgresServer, database: str) -> tuple[int, int]:
    """Returns the size of a database, and how much its server has written to the WAL so far."""
    sizes = "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'"
    size, log = server.execute(database, sizes)[0]
    return int(size), int(log)


def _appended(place: str, processes: int) -> float:
    """Returns how many records a second were appended to a folder or a database."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        return sum(pool.map(_append, [place] * processes, chunksize=1)) / APPENDING_SECONDS


def _append(place: str) -> int:
    """Appends for some seconds; returns how many records have a position."""
    return asyncio.run(_append_for(place))


async def _append_for(place: str) -> int:
    is_shared = place.startswith("postgresql:")
    journal = PostgresJournal(place) if is_shared else SqliteJournal(Path(place))
    one = a_new_entry(recorded_at=datetime.now(UTC))
    made = Multiplier(3_600, seed=os.getpid()).records(0, RECORDS, RECORDS)
    records = itertools.cycle([replace(one, record=record) for record in made])
    end = time.monotonic() + APPENDING_SECONDS
    counts = await asyncio.gather(*(_append_until(journal, records, end) for _ in range(WRITERS)))
    await journal.close()
    return sum(counts)


async def _append_until(journal: Any, records: Iterator[NewEntry], end: float) -> int:
    count = 0
    while time.monotonic() < end:
        await journal.append([replace(next(records), event_id=new_event_id())])
        count += 1
    return count


BENCHMARKS = {
    "Several servers on PostgreSQL": cluster,
    "Records into a journal on PostgreSQL": into_journal,
}
