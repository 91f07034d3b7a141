"""What servers on PostgreSQL cost beside one that has its journal in files."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence

from benchmarks.main_job import under_load
from benchmarks.nginx import stub
from benchmarks.servers import Server, create_user, opentrail
from benchmarks.wire import Connection, percentile
from tests.postgres import PostgresServer, database_in, primary_and_standby

Figures = dict[str, float]
CALLS = 1_000
#: Calls a second to all servers: three of them and two of PostgreSQL share two cores here.
RATE = 200
#: Name in the figures → number of servers on PostgreSQL; 0 is one with files.
KINDS = {"files": 0, "one on PostgreSQL": 1, "three on PostgreSQL": 3}


def cluster() -> Figures:
    """Measures calls in turn, then calls at a steady rate and when they are found, of each kind.

    PostgreSQL has a synchronous standby. Everything is on the CPUs of one machine.
    """
    figures: Figures = {}
    with primary_and_standby(fsync=True) as (primary, standby), stub() as upstream:
        for kind, count in KINDS.items():
            with _servers(upstream, primary, standby, count) as servers:
                figures |= {f"{kind}: {name}": value for name, value in _added(upstream, servers)}
                figures |= {f"{kind}: {name}": value for name, value in _visible(servers)}
    return figures


@contextlib.contextmanager
def _servers(
    upstream: int, primary: PostgresServer, standby: PostgresServer, count: int
) -> Iterator[list[Server]]:
    environment = {}
    if count:
        database = database_in(primary.new_database())
        url = f"postgresql://trusted@/{database}?host={primary.folder},{standby.folder}"
        environment = {
            "OPENTRAIL_JOURNAL": url,
            "OPENTRAIL_CONTROL_STORE": url,
            "OPENTRAIL_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
        }
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(opentrail(upstream, environment=environment))
            for _ in range(max(1, count))
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


BENCHMARKS = {"Several servers on PostgreSQL": cluster}
