"""Event history at ten million events: import, look-ups, arrivals, memory."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from benchmarks.limits import bare_duckdb, chdb
from benchmarks.nginx import stub
from benchmarks.processes import MemoryWatch, resident_mb_of_all
from benchmarks.records import Multiplier
from benchmarks.servers import Server, create_user, opentrail, post
from benchmarks.wire import Connection, percentile
from opentrail.core.attributes import LOOKUP_KEYS

Figures = dict[str, float]
#: Fewer are for trying things out; the figures that are required are those of ten million.
EVENTS = int(os.environ.get("OPENTRAIL_BENCH_EVENTS", "10000000"))
DAYS, PORTION, FILE = 80, 500_000, 5_000
LOOKS, ABSENT = 200, 0.1
ARRIVING, ARRIVING_SECONDS, CALLERS, SEAL_RECORDS = 500, 75, 8, 4_500
FAST, FAST_SECONDS = 10_000, 60
STEADY, STEADY_SECONDS = 5_000, int(os.environ.get("OPENTRAIL_BENCH_STEADY", "600"))
COLUMNS = {
    "EventId": "record ->> 'eventID'",
    "EventName": "event_name",
    "ReadOnly": "CAST(read_only AS VARCHAR)",
    "Username": "username",
    "ResourceType": "unnest(resource_types)",
    "ResourceName": "name",
    "EventSource": "event_source",
    "AccessKeyId": "access_key_id",
}


def ten_million() -> Figures:
    """Imports the events, then looks things up while nothing and while something arrives."""
    figures: Figures = {"events": EVENTS}

    def note(more: Figures) -> None:
        """Tells at once what took long to find out."""
        figures.update(more)
        print(
            "".join(f"  … {name}: {value:,.1f}\n" for name, value in more.items()),
            end="",
            flush=True,
        )

    with stub() as upstream:
        flags = ("--history-seal-records", str(SEAL_RECORDS))
        with opentrail(upstream, *flags) as server, _watch(server) as memory:
            note(_import_all(server))
            note(_settled(server))
            values = drawn_values(server.data / "history")
            note(_look_ups("", server, values))
            note({"memory, import and look-ups MB": memory.most})
            with _arrivals(server, ARRIVING, ARRIVING_SECONDS):
                sealed = _sealed_files(server)
                note(_look_ups(f"{ARRIVING}/s arriving, ", server, values))
                note({"sealings meanwhile": _sealed_files(server) - sealed})
            note({"memory at most MB": memory.most})
            note(bare_duckdb(server.data / "history", values))
            if EVENTS >= 10_000_000 or "OPENTRAIL_BENCH_CHDB" in os.environ:
                note(chdb(server.data / "history", values))
    return figures


def arriving() -> Figures:
    """Offers records at two rates, and watches how late they are visible."""
    figures: Figures = {}
    with stub() as upstream:
        for rate, seconds in ((FAST, FAST_SECONDS), (STEADY, STEADY_SECONDS)):
            with opentrail(upstream) as server, _watch(server) as memory:
                name = f"{rate:,}/s for {seconds} s"
                figures |= offered(name, server, rate, seconds)
                figures[f"{name}: memory at most MB"] = memory.most
    return figures


def _watch(server: Server) -> MemoryWatch:
    """Watches the memory of all processes of a server."""
    return MemoryWatch(server.process.pid, resident_mb_of_all, 0.5)


# Import


def _import_all(server: Server) -> Figures:
    """Imports all events, a portion at a time, so that their files need little room."""
    taken: list[float] = []
    made = Multiplier(DAYS * 86_400)
    for first in range(0, EVENTS, PORTION):
        with tempfile.TemporaryDirectory() as folder:
            count = min(PORTION, EVENTS - first)
            for start in range(first, first + count, FILE):
                records = b",".join(made.records(start, min(FILE, EVENTS - start), EVENTS))
                file = Path(folder) / f"{start:012d}.json.gz"
                file.write_bytes(gzip.compress(b'{"Records":[' + records + b"]}", 1))
            started = time.perf_counter()
            told = _opentrail(server, "import", folder, "--json")
            taken.append((time.perf_counter() - started) / count)
            if json.loads(told)["imported"] != count:
                raise RuntimeError(f"not all was imported: {told}")
    rates = [1 / seconds for seconds in taken]
    return {
        "import records/s": len(taken) / sum(taken),
        "import records/s, first portion": rates[0],
        "import records/s, last portion": rates[-1],
    }


def _opentrail(server: Server, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "opentrail", *arguments, "--data-dir", str(server.data)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _settled(server: Server) -> Figures:
    """Waits until merging is over; returns what a record needs on the disk."""
    folder = server.data / "history"
    before: list[str] = []
    started = time.perf_counter()
    while (now := sorted(file.name for file in folder.iterdir())) != before or _merging(now):
        before = now
        time.sleep(20 if EVENTS > 1_000_000 else 5)
    size = sum(file.stat().st_size for file in folder.glob("import-*.duckdb"))
    return {
        "bytes a record": size / EVENTS,
        "sealed files": len(now),
        "s of merging after the import": time.perf_counter() - started,
    }


def _merging(names: list[str]) -> bool:
    return any(".tmp" in name for name in names)


def _sealed_files(server: Server) -> int:
    """Returns how many times something was sealed: the end of the last file tells, by its size."""
    ends = [int(file.name[21:41]) for file in (server.data / "history").glob("0*.duckdb")]
    return max(ends, default=0) // SEAL_RECORDS


# Look-ups


def drawn_values(
    folder: Path, pattern: str = "import-*.duckdb", looks: int = LOOKS
) -> dict[str, list[str]]:
    """Draws values of each attribute evenly from those that occur, and one in ten that do not."""
    chance = random.Random(1)
    files = sorted(folder.glob(pattern))
    drawn: dict[str, list[str]] = {}
    for key, column in COLUMNS.items():
        found: set[str] = set()
        for file in files:
            sample = "USING SAMPLE 300 ROWS" if key == "EventId" else ""
            table = "resources" if key == "ResourceName" else "events"
            with duckdb.connect(str(file), read_only=True) as database:
                rows = database.execute(
                    f"SELECT DISTINCT {column} FROM (SELECT * FROM {table} {sample})"
                ).fetchall()
            found |= {row[0] for row in rows if row[0]}
        ordered = sorted(found)
        drawn[key] = [
            "absent-value"
            if key != "ReadOnly" and chance.random() < ABSENT
            else chance.choice(ordered)
            for _ in range(looks)
        ]
    return drawn


def _look_ups(name: str, server: Server, values: dict[str, list[str]]) -> Figures:
    connection = Connection(server.port)
    figures: Figures = {}
    worst = 0.0
    for key in LOOKUP_KEYS:
        taken = [connection.timed(_lookup(key, value)) for value in values[key]]
        figures[f"{name}{key} p50 ms"] = percentile(taken, 0.5)
        figures[f"{name}{key} p99 ms"] = percentile(taken, 0.99)
        worst = max(worst, percentile(taken, 0.99))
    latest = [connection.timed(_lookup(None, "")) for _ in range(LOOKS)]
    figures[f"{name}latest p50 ms"] = percentile(latest, 0.5)
    figures[f"{name}latest p99 ms"] = percentile(latest, 0.99)
    figures[f"{name}page of 50, worst p99 ms"] = max(worst, percentile(latest, 0.99))
    return figures


def _lookup(key: str | None, value: str) -> bytes:
    attributes = [{"AttributeKey": key, "AttributeValue": value}] if key else []
    target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"
    body = json.dumps({"LookupAttributes": attributes, "MaxResults": 50})
    return post("cloudtrail", body, "application/x-amz-json-1.1", f"X-Amz-Target: {target}\r\n")


# Arrivals


@contextmanager
def _arrivals(server: Server, rate: int, seconds: int) -> Iterator[None]:
    """Calls arrive through the recorder at a rate, from processes of their own."""
    callers = [
        multiprocessing.Process(target=_call, args=(server.port, rate / CALLERS, seconds, number))
        for number in range(CALLERS)
    ]
    for caller in callers:
        caller.start()
    yield
    for caller in callers:
        caller.join()
    if any(caller.exitcode for caller in callers):
        raise RuntimeError("the calls could not be offered")


def _call(port: int, rate: float, seconds: int, caller: int) -> None:
    connection = Connection(port)
    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        behind = time.perf_counter() - start - number / rate
        if behind < 0:
            time.sleep(-behind)
        if behind > 5:
            raise SystemExit(1)
        connection.call(create_user(f"arriving-{caller}-{number}"))


def offered(name: str, server: Server, rate: int, seconds: int) -> Figures:
    """Posts records in batches; each is durable when it is answered, and then is to be visible."""
    sender = multiprocessing.Process(
        target=_post, args=(server.console, server.data, rate, seconds)
    )
    sender.start()
    late: list[float] = []
    waiting: list[tuple[float, int]] = []
    connection = Connection(int(server.console.rpartition(":")[2]))
    while sender.is_alive() or waiting:
        state = json.loads(connection.call(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
        now = time.perf_counter()
        journal, visible = state["journal"]["position"], state["history"]["position"]
        if not waiting or waiting[-1][1] < journal:
            waiting.append((now, journal))
        while waiting and waiting[0][1] <= visible:
            late.append((now - waiting.pop(0)[0]) * 1000)
        time.sleep(0.01)
    sender.join()
    if sender.exitcode:
        raise RuntimeError(f"{name}: the records could not be offered")
    position, _ = server.positions()
    return {
        f"{name}: records/s durable": position / seconds,
        f"{name}: durable to visible p50 ms": percentile(late, 0.5),
        f"{name}: durable to visible p99 ms": percentile(late, 0.99),
    }


def _post(console: str, data: Path, rate: int, seconds: int) -> None:
    """Sends rate / 10 records ten times a second; ends with an error if it falls behind."""
    token = json.loads((data / "server.json").read_text())["token"]
    made = Multiplier(3_600, seed=2)
    stock = [list(made.records(0, rate // 10, rate // 10)) for _ in range(20)]
    start = time.perf_counter()
    for number in range(seconds * 10):
        behind = time.perf_counter() - start - number / 10
        if behind < 0:
            time.sleep(-behind)
        if behind > 5:
            raise SystemExit(1)
        # Fresh ids at little cost: another number in the same place.
        tag = f"{number:08x}".encode()
        body = b"\n".join(
            re.sub(rb'("eventID":")[0-9a-f]{8}', rb"\g<1>" + tag, record, count=1)
            for record in stock[number % len(stock)]
        )
        request = urllib.request.Request(
            f"{console}/api/v1/records",
            data=body,
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


BENCHMARKS = {
    f"History: {EVENTS:,} events": ten_million,
    "History: records arriving": arriving,
}
