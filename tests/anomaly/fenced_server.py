"""A server of a cluster without its ports: it orders batches and does the worker's tasks.

As a program it stops, or asks to be cut off, before a statement of a fenced transaction. Without
such a point it prints all possible ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres.database import PostgresLeases
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.cluster.postgresql import Cluster
from opentrail.ports.control import Put, Remove
from opentrail.settings import Settings
from tests.factories import some_new_entries

#: The statements of a transaction before a point, and the next one.
Point = list[str]
Mode = Literal["stop", "cut"]
_COMMIT = "COMMIT"
_LOCKS_LEASE = re.compile(r"(INSERT INTO|UPDATE) opentrail\.lease\b")


@asynccontextmanager
async def fenced_server(url: str, node: str, first: int) -> AsyncIterator[PostgresJournal]:
    """A server that has done everything once on entry; it releases its leases at the end.

    Args:
        url: the database.
        node: its name.
        first: the number of the first record that it appends.
    """
    control = SqlControl(url)
    settings = Settings(journal=url, control_store=url)
    cluster = Cluster(settings, control, node, SystemClock(), print)
    journal = PostgresJournal(url, node=node, trim_limit=cluster.sealed_everywhere)
    await cluster.heartbeat("https://localhost", journal.head)
    has_worked = asyncio.Event()

    async def work(_: AsyncExitStack) -> None:
        store = cluster.worker_control
        await store.apply([Put("delivery", "a", {"by": node}), Put("delivery", "b", {"by": node})])
        stored = await store.get("trail", "x")
        version = stored.version if stored else 0
        await store.apply([Put("trail", "x", {"by": node}, expected=version)])
        await store.apply([Put("trail", "x", {}, expected=version + 1), Remove("plan", "x")])
        await cluster.append(journal, some_new_entries(2, first))
        await journal.append(some_new_entries(1, first + 2))
        await journal.trim(journal.head)
        lease = store.lease
        assert lease is not None
        await PostgresLeases(cluster._database).renew(lease)
        has_worked.set()

    working = asyncio.create_task(cluster.run_worker(work))
    await has_worked.wait()
    try:
        yield journal
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await journal.close()
        await cluster.close()
        await control.close()


@dataclass
class Trace:
    """The statements of fenced transactions, with an optional point to act at."""

    act: Callable[[], None]
    point: Point | None
    seen: list[Point] = field(default_factory=list)
    #: File and line of the callers of `fence`.
    callers: set[tuple[str, int]] = field(default_factory=set)
    _statements: dict[int, list[str]] = field(default_factory=dict)

    def before(self, connection: object, statement: str) -> None:
        """Notes the next statement, and acts if it is the point."""
        # Partitions are named after days.
        statement = re.sub(r"\d+", "N", " ".join(statement.split()))
        earlier = self._statements.setdefault(id(connection), [])
        if any(_LOCKS_LEASE.match(one) for one in earlier):
            point = [*earlier, statement]
            if point not in self.seen:
                self.seen.append(point)
            if point == self.point:
                self.point = None
                self.act()
        earlier.append(statement)
        if statement == _COMMIT:
            earlier.clear()

    def start(self) -> None:
        """Follows all connections of psycopg, and the calls of `fence`."""
        for name in ("execute", "executemany"):
            self._follow(psycopg.Cursor, name, lambda cursor, query: (cursor.connection, query))
        self._follow(psycopg.Connection, "commit", lambda connection: (connection, _COMMIT))
        self._follow(psycopg.Connection, "rollback", lambda connection: (connection, _COMMIT))
        fence = PostgresLeases.fence

        def noted(leases: PostgresLeases, transaction: Any, lease: Any) -> None:
            caller = sys._getframe(1)
            self.callers.add((caller.f_code.co_filename, caller.f_lineno))
            fence(leases, transaction, lease)

        PostgresLeases.fence = noted  # type: ignore[method-assign, assignment]

    def _follow(self, kind: type, name: str, statement_of: Callable[..., tuple[Any, str]]) -> None:
        original = getattr(kind, name)

        def followed(target: Any, *arguments: Any, **named: Any) -> Any:
            self.before(*statement_of(target, *arguments[:1]))
            return original(target, *arguments, **named)

        setattr(kind, name, followed)


def _stop() -> None:
    os.write(1, b"at\n")
    os.kill(os.getpid(), signal.SIGSTOP)


def _cut_off() -> None:
    os.write(1, b"at\n")
    os.read(0, 1)


async def _serve_once(url: str) -> None:
    async with fenced_server(url, "first", 1):
        pass


def main(url: str, mode: Mode, point: Point | None) -> None:
    """Runs a server once; prints its points and the callers of `fence`."""
    trace = Trace(_stop if mode == "stop" else _cut_off, point)
    trace.start()
    asyncio.run(_serve_once(url))
    callers = [(str(Path(name).resolve()), line) for name, line in sorted(trace.callers)]
    print(json.dumps({"points": trace.seen, "callers": callers}))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
