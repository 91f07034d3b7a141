"""Event history over real records agrees with a plain scan, wherever the records are.

A third of them is recorded (half of these sealed), the others are imported, into files of which
some are merged. Over the whole collection if it is beside the repository, else over its own sample.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb import DuckdbEvents
from opentrail.adapters.duckdb.seal import merge, seal
from opentrail.adapters.duckdb.staging import Settled, Staging
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.capture.importers import Taken, read_file
from opentrail.core.attributes import LOOKUP_KEYS, attributes_of
from opentrail.core.event import Entry
from opentrail.core.expression import parse
from opentrail.ports.event_store import EventQuery
from tests.factories import (
    ACCOUNT,
    REGION,
    SHARED_RECORDS,
    a_new_entry,
    an_entry,
    record_bytes,
)
from tests.fakes import attribute_values, naive_page

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEARCHES = 500


@dataclass
class World:
    """A store, what it holds as a plain list, and the loop that it lives in."""

    runner: asyncio.Runner
    store: DuckdbEvents
    entries: list[Entry]

    def found(self, query: EventQuery) -> list[int]:
        return [event.position for event in self.runner.run(self.store.lookup(query))]


def collection() -> list[dict[str, Any]]:
    """Returns the records that an import would take, each id once."""
    sample = Path(__file__).parents[1] / "data" / "real-records.ndjson"
    files = sorted(SHARED_RECORDS.rglob("*")) if SHARED_RECORDS.is_dir() else [sample]
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        for line in read_file(file.name, file.read_bytes()) if file.is_file() else ():
            if isinstance(line, Taken):
                # The journal's rows need these.
                whole = {"recipientAccountId": ACCOUNT, "awsRegion": REGION, **line.record}
                found.setdefault(line.record["eventID"], whole)
    return list(found.values())


async def filled(root: Path, records: Sequence[dict[str, Any]]) -> tuple[DuckdbEvents, list[Entry]]:
    history, folder = root / "history", root / "journal"
    history.mkdir()
    folder.mkdir()
    here = len(records) // 3
    journal = SqliteJournal(folder)
    for start in range(0, here, 500):
        await journal.append([a_new_entry(r) for r in records[start : min(start + 500, here)]])
    entries = await journal.read(0, len(records))
    sealed = here // 2
    parts = [(1, sealed // 2), (sealed // 2 + 1, sealed * 3 // 4), (sealed * 3 // 4 + 1, sealed)]
    made = [seal(folder, history, *part) for part in parts]
    merge(made[:2])
    staging = Staging(history, folder)
    paths = []
    quarter = (len(records) - here) // 4 + 1
    for start in range(here, len(records), quarter):
        part_of = records[start : start + quarter]
        staging.clear()
        rows = [(n, attributes_of(r), record_bytes(r)) for n, r in enumerate(part_of)]
        staging.add(0, rows)
        staging.settle(settled := Settled())
        assert not settled.doubled
        written = staging.write(NOW, [])
        assert written is not None
        paths.append(written[0])
        first = len(entries) - here
        numbered = sorted(enumerate(part_of), key=lambda p: (attributes_of(p[1]).event_time, p[0]))
        entries = entries + [
            an_entry(-(first + n), record, origin="import", recorded_at=NOW)
            for n, (_, record) in enumerate(numbered, 1)
        ]
    merge(paths[:3])
    staging.close()
    store = DuckdbEvents(history, folder)
    await store.open()
    await store.add(await journal.read(sealed, len(records)))
    await journal.close()
    return store, entries


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with asyncio.Runner() as runner:
        store, entries = runner.run(filled(tmp_path_factory.mktemp("agrees"), collection()))
        assert len({entry.position for entry in entries}) == len(entries)
        yield World(runner, store, entries)
        runner.run(store.close())


ALL = EventQuery(100_000, until_position=2**40)


def check_values(world: World, key: str, most: int) -> None:
    """Compares the look-ups of values, all or evenly drawn ones, and of some that do not occur."""
    if not SHARED_RECORDS.is_dir():
        print("only the repository's own sample: no ../shared beside it")
    expected: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for entry in world.entries:
        seconds = int(attributes_of(json.loads(entry.record)).event_time.timestamp())
        for value in set(attribute_values(entry, key)):
            if value is not None:
                expected[value].append((seconds, entry.position))
    assert expected
    for number, value in enumerate(sorted(expected)[:: len(expected) // most + 1]):
        found = world.found(replace(ALL, attribute=(key, value)))
        wanted = sorted(expected[value], reverse=True)
        assert found == [position for _, position in wanted], value
        if number % 20 == 0 and key != "ReadOnly":
            assert world.found(replace(ALL, attribute=(key, f"{value}\x00"))) == []


@pytest.mark.slow
@pytest.mark.parametrize("key", LOOKUP_KEYS)
def test_values_that_occur_find_what_a_plain_scan_finds(world: World, key: str) -> None:
    check_values(world, key, 150)


@pytest.mark.conformance
@pytest.mark.parametrize("key", LOOKUP_KEYS)
def test_every_value_that_occurs_finds_what_a_plain_scan_finds(world: World, key: str) -> None:
    check_values(world, key, 10**9)


# Generated searches: their values are drawn from records, so that most find something.

hits: list[bool] = []


def terms(record: Mapping[str, Any]) -> list[str]:
    """Returns search terms that a record fits."""
    identity = record.get("userIdentity") or {}
    address = str(record.get("sourceIPAddress"))
    found = [
        f"name={record['eventName']}",
        f"name={record['eventName'][:4]}*",
        f"source={record['eventSource']}",
        f"name:{record['eventName'][1:5]}",
        f'"{record["eventSource"]}"',
        f"id={record['eventID']}" if record["eventID"].replace("-", "").isalnum() else "is:read",
        "is:failure" if record.get("errorCode") else "is:success",
        f"time>={record['eventTime'][:10]}",
    ]
    if identity.get("userName") and str(identity["userName"]).isalnum():
        found.append(f"user={identity['userName']}")
        found.append(f"userIdentity.userName={identity['userName']}")
    if address.count(".") == 3 and address.replace(".", "").isdigit():
        found += [f"ip={address}", f"ip={address.rpartition('.')[0]}.0/24"]
    for resource in attributes_of(record).resources[:3]:
        if resource.name.replace("-", "").isalnum():
            found += [f"resource={resource.name}", f"resource={resource.name[:3]}*"]
        if resource.type:
            found.append(f"resourcetype={resource.type}")
    return found


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """Draws numbers: of records, of their terms, of the form, and the limit."""
    return (
        draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3)),
        draw(st.lists(st.integers(0, 10**6), min_size=3, max_size=3)),
        draw(st.integers(0, 4)),
        draw(st.sampled_from([1, 50, 100_000])),
    )


def written(world: World, numbers: Sequence[int], which: Sequence[int], form: int) -> str:
    records = [json.loads(world.entries[n % len(world.entries)].record) for n in numbers]
    if form in (0, 1):  # what one record fits
        of_one = terms(records[0])
        chosen = [of_one[n % len(of_one)] for n in which[: form + 1]]
        return " AND ".join(chosen)
    chosen = [of_it[n % len(of_it)] for n, of_it in zip(which, map(terms, records), strict=False)]
    if form == 2:
        return " OR ".join(chosen)
    if form == 3:
        return f"{chosen[0]} AND NOT ({' OR '.join(chosen[1:]) or 'name=Nothing'})"
    return " AND ".join(chosen)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(
    max_examples=SEARCHES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(search=searches())
def test_generated_searches_find_what_a_plain_scan_finds(
    world: World, search: tuple[list[int], list[int], int, int]
) -> None:
    numbers, which, form, limit = search
    text = written(world, numbers, which, form)
    query = replace(ALL, limit=limit, expression=parse(text, NOW))
    found = world.found(query)
    assert found == [event.position for event in naive_page(world.entries, query)], text
    hits.append(bool(found))


@pytest.mark.slow
def test_most_of_the_generated_searches_found_something() -> None:
    assert len(hits) >= SEARCHES
    assert sum(hits) >= 0.6 * len(hits)
    print(f"{len(hits)} searches, {sum(hits)} of them with results")
