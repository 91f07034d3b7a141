"""Event history over real records agrees with a plain scan, wherever the records are.

A third of the records is recorded (half of these sealed), the others are imported; some of the
imported files are merged. Uses the whole collection if it is next to the repository, otherwise the
sample in it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb.seal import merge, seal
from opentrail.adapters.duckdb.staging import Duplicates, Staging
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import LOOKUP_KEYS, attributes_of
from opentrail.core.event import Entry
from opentrail.core.expression import parse
from opentrail.imports.documents import read_file
from opentrail.imports.json_records import AcceptedRecord
from opentrail.ports.event_store import PAGE_TEXT, EventQuery
from tests.collection import IS_WHOLE, WHOLE, collected_files, leaves
from tests.factories import (
    ACCOUNT,
    REGION,
    a_new_entry,
    an_entry,
)
from tests.fakes import naive_page

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEARCHES = 120


@dataclass
class World:
    """A store, its events as a plain list, and its loop."""

    runner: asyncio.Runner
    store: DuckdbEvents
    entries: list[Entry]

    def found(self, query: EventQuery) -> list[int]:
        """Returns the positions of all pages."""
        page = self.runner.run(self.store.lookup(query))
        positions = [event.position for event in page]
        if sum(len(event.record) for event in page) <= PAGE_TEXT:
            return positions
        last = page[-1]
        before = (last.event_time.replace(microsecond=0), last.position)
        return positions + self.found(replace(query, limit=query.limit - len(page), before=before))


def collection() -> list[tuple[dict[str, Any], bytes]]:
    """Returns the records that an import would accept, each id once, and their own bytes."""
    sample = Path(__file__).parents[1] / "data" / "real-records.ndjson"
    files = sorted(WHOLE.rglob("*")) if IS_WHOLE else [sample, *collected_files()]
    found: dict[str, tuple[dict[str, Any], bytes]] = {}
    for file in files:
        for line in read_file(file.name, file.read_bytes()) if file.is_file() else ():
            if isinstance(line, AcceptedRecord):
                # The journal's rows need these.
                whole = {"recipientAccountId": ACCOUNT, "awsRegion": REGION, **line.record}
                found.setdefault(line.record["eventID"], (whole, line.raw))
    return list(found.values())


async def filled(
    root: Path, records: Sequence[tuple[dict[str, Any], bytes]]
) -> tuple[DuckdbEvents, list[Entry]]:
    history, folder = root / "history", root / "journal"
    history.mkdir()
    folder.mkdir()
    here = len(records) // 3
    journal = SqliteJournal(folder)
    for start in range(0, here, 500):
        part = records[start : min(start + 500, here)]
        await journal.append([a_new_entry(record) for record, _ in part])
    entries = await journal.read(0, len(records))
    sealed = here // 2
    parts = [(1, sealed // 2), (sealed // 2 + 1, sealed * 3 // 4), (sealed * 3 // 4 + 1, sealed)]
    made = [seal(SqliteJournalSource(folder), history, *part)[0] for part in parts]
    merge(made[:2])
    staging = Staging(history, SqliteJournalSource(folder))
    paths = []
    quarter = (len(records) - here) // 4 + 1
    for start in range(here, len(records), quarter):
        part_of = records[start : start + quarter]
        staging.clear()
        rows = [(n, attributes_of(record), raw) for n, (record, raw) in enumerate(part_of)]
        staging.add(0, rows)
        staging.deduplicate(duplicates := Duplicates())
        assert not duplicates.same
        written = staging.write(NOW, [])
        assert written is not None
        paths.append(written[0])
        first = len(entries) - here
        numbered = sorted(
            enumerate(part_of), key=lambda p: (attributes_of(p[1][0]).event_time, p[0])
        )
        entries = entries + [
            replace(an_entry(-(first + n), record, origin="import", recorded_at=NOW), record=raw)
            for n, (_, (record, raw)) in enumerate(numbered, 1)
        ]
    merge(paths[:3])
    staging.close()
    store = DuckdbEvents(history, SqliteJournalSource(folder))
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


ALL = EventQuery(100_000)


def values_of(record: Mapping[str, Any], key: str) -> list[str | None]:
    """Returns the values by which LookupEvents finds a record (cloudtrail-format §6)."""
    identity = record.get("userIdentity")
    identity = identity if isinstance(identity, dict) else {}
    if key == "Username":
        return [username(identity)]
    resources = attributes_of(record).resources  # they have their own tests
    return {
        "EventId": [record["eventID"]],
        "EventName": [told(record, "eventName")],
        "ReadOnly": ["true" if record.get("readOnly") in (True, "true") else "false"],
        "ResourceType": [resource.type for resource in resources],
        "ResourceName": [resource.name for resource in resources],
        "EventSource": [told(record, "eventSource")],
        "AccessKeyId": [identity.get("accessKeyId") or None],
    }[key]


def username(identity: Mapping[str, Any]) -> str | None:
    if identity.get("type") == "Root":
        return "root"
    if identity.get("type") in ("AssumedRole", "FederatedUser"):
        _, _, session = str(identity.get("principalId", "")).partition(":")
        head, slash, last = str(identity.get("arn", "")).rpartition("/")
        return session or (last if head and slash else None) or None
    return identity.get("userName") or None


def check_values(world: World, key: str, most: int) -> None:
    """Compares lookups of values, all or evenly drawn ones, and of some missing values."""
    if not IS_WHOLE:
        print(f"only the repository's own records; the whole collection is not there: {WHOLE}")
    expected: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for entry in world.entries:
        record = json.loads(entry.record)
        seconds = int(attributes_of(record).event_time.timestamp())
        for value in set(values_of(record, key)):
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
def test_a_sample_of_values_matches_a_plain_scan(world: World, key: str) -> None:
    check_values(world, key, 150)


@pytest.mark.conformance
@pytest.mark.parametrize("key", LOOKUP_KEYS)
def test_every_value_matches_a_plain_scan(world: World, key: str) -> None:
    check_values(world, key, 10**9)


# Generated searches: their values are drawn from records, so that most find events. Functions of a
# record's JSON define the meaning of each term a second time.

Meaning = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Term:
    """A search term, and its meaning."""

    text: str
    means: Meaning


def told(record: Mapping[str, Any], member: str) -> str:
    """Returns name or source of an event; an Insight has the name and source of its calls."""
    about = record.get("insightDetails") if record.get("eventCategory") == "Insight" else None
    return str((about or {}).get(member) or record.get(member))


def searchable(record: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the values of a record as a search writes them, with their paths."""
    for path, value in leaves(record):
        if value is not None:
            yield path, json.dumps(value) if isinstance(value, bool) else str(value)


def failed(record: Mapping[str, Any]) -> bool:
    login = record.get("eventSource") == "signin.amazonaws.com"
    answer = record.get("responseElements")
    has_failed = login and isinstance(answer, dict) and "Failure" in answer.values()
    return bool(record.get("errorCode")) or has_failed


def about_the_event(record: Mapping[str, Any]) -> Iterator[Term]:
    """Yields terms on members of every record."""
    name, source, ident = told(record, "eventName"), told(record, "eventSource"), record["eventID"]
    day = record["eventTime"][:10]
    if name.isalnum():  # others stand in data that people wrote
        yield Term(f"name={name}", lambda r: told(r, "eventName") == name)
        yield Term(f"name={name[:4]}*", lambda r: told(r, "eventName").startswith(name[:4]))
        part = name[1:5].lower()
        yield Term(f"name:{part}", lambda r: part in told(r, "eventName").lower())
    yield Term(f"source={source}", lambda r: told(r, "eventSource") == source)
    if ident.replace("-", "").isalnum():
        yield Term(f"id={ident}", lambda r: r["eventID"] == ident)
    yield (
        Term("is:failure", failed)
        if failed(record)
        else Term("is:success", lambda r: not failed(r))
    )
    yield Term(f"time>={day}", lambda r: r["eventTime"][:10] >= day)


def about_the_caller(record: Mapping[str, Any]) -> Iterator[Term]:
    user = (record.get("userIdentity") or {}).get("userName")
    if user and str(user).isalnum():
        yield Term(
            f"userIdentity.userName={user}",
            lambda r: (("userIdentity", "userName"), str(user)) in searchable(r),
        )
    address = str(record.get("sourceIPAddress"))
    # Anonymized addresses may be invalid: 035.249.253.1.
    if re.fullmatch(r"([1-9]\d?\.|1\d\d\.){3}[1-9]\d?", address):
        yield Term(f"ip={address}", lambda r: r.get("sourceIPAddress") == address)
        net = address.rpartition(".")[0]
        yield Term(
            f"ip={net}.0/24",
            lambda r: bool(re.fullmatch(re.escape(net) + r"\.\d+", str(r.get("sourceIPAddress")))),
        )


def about_resources(record: Mapping[str, Any]) -> Iterator[Term]:
    """Yields terms on resources; the tests of the attributes define these."""

    def those(r: Mapping[str, Any]) -> list[tuple[str | None, str]]:
        return [(resource.type, resource.name) for resource in attributes_of(r).resources]

    for kind, name in those(record)[:3]:
        if name.replace("-", "").isalnum():
            yield Term(f"resource={name}", partial(_has, those, 1, name.__eq__))
            yield Term(f"resource={name[:3]}*", partial(_has, those, 1, partial(_begins, name[:3])))
        if kind:
            yield Term(f"resourcetype={kind}", partial(_has, those, 0, kind.__eq__))


def _begins(start: str, text: str) -> bool:
    return text.startswith(start)


def _has(
    those: Callable[[Mapping[str, Any]], list[Any]],
    part: int,
    fits: Callable[[Any], Any],
    record: Mapping[str, Any],
) -> bool:
    return any(fits(one[part]) is True for one in those(record))


def about_values(record: Mapping[str, Any]) -> Iterator[Term]:
    """Yields terms on values at paths, and on words anywhere."""
    known = [
        (path, text)
        for path, text in searchable(record)
        if path[0] in ("requestParameters", "responseElements", "additionalEventData", "userAgent")
        and all(step.isalnum() and step.isascii() for step in path)
        and not set(text) & set('*?\\"')
        and text.isprintable()
        and text.strip() == text != ""
        and len(text) < 60
    ]
    for number, (path, text) in enumerate(known[:: len(known) // 5 + 1]):
        if not (path[-1].lower().endswith(ADDRESSES) and "/" in text):
            yield Term(
                f'{".".join(path)}="{text}"',
                lambda r, found=(path, text): found in searchable(r),  # type: ignore[misc]
            )
        piece = text[number % 3 : number % 3 + 12].lower()
        if piece.strip() and text.isascii():
            yield Term(
                f'text:"{piece}"',
                lambda r, piece=piece: any(  # type: ignore[misc]
                    piece in other.lower() for _, other in searchable(r)
                ),
            )
        word = max(re.findall("[a-z0-9]{3,}", text) or [""], key=len)
        if word:
            yield Term(
                f'"{word}"',
                lambda r, word=word: any(  # type: ignore[misc]
                    has_word(word, other) for _, other in searchable(r)
                ),
            )


def has_word(word: str, text: str) -> bool:
    """Returns whether a string has a word, which a capital letter may begin."""
    starts = (at for at in range(len(text)) if text[at : at + len(word)].lower() == word)
    return any(is_edge(text, at) and is_edge(text, at + len(word)) for at in starts)


def is_edge(text: str, at: int) -> bool:
    """Returns whether a word may begin or end at a place."""
    before, after = text[:at][-1:], text[at : at + 1]
    if not (before.isalnum() and after.isalnum()):
        return True
    is_capital = after.isascii() and after.isupper()
    if is_capital and before.isascii() and (before.islower() or before.isdigit()):
        return True
    following = text[at + 1 : at + 2]
    is_before_word = following.isascii() and following.islower()
    return is_capital and before.isascii() and before.isupper() and is_before_word


ADDRESSES = ("ip", "ipaddress", "ipv6", "cidr", "cidrblock")


def terms(record: Mapping[str, Any]) -> list[Term]:
    """Returns search terms that match a record."""
    makers = (about_the_event, about_the_caller, about_resources, about_values)
    return [term for make in makers for term in make(record)]


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """Draws numbers: of records, of their terms, of the form, and the limit."""
    return (
        draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3)),
        draw(st.lists(st.integers(0, 10**6), min_size=3, max_size=3)),
        draw(st.integers(0, 4)),
        draw(st.sampled_from([1, 50, 100_000])),
    )


def written(world: World, numbers: Sequence[int], which: Sequence[int], form: int) -> Term:
    records = [json.loads(world.entries[n % len(world.entries)].record) for n in numbers]
    if form in (0, 1):  # what one record fits
        of_one = terms(records[0])
        return both([of_one[n % len(of_one)] for n in which[: form + 1]])
    chosen = [of_it[n % len(of_it)] for n, of_it in zip(which, map(terms, records), strict=False)]
    if form == 2:
        return one_of(chosen)
    if form == 3:
        other = one_of(chosen[1:]) if chosen[1:] else Term("name=Nothing", lambda r: False)
        text = f"{chosen[0].text} AND NOT ({other.text})"
        return Term(text, lambda r: chosen[0].means(r) and not other.means(r))
    return both(chosen)


def both(chosen: Sequence[Term]) -> Term:
    text = " AND ".join(term.text for term in chosen)
    return Term(text, lambda r: all(term.means(r) for term in chosen))


def one_of(chosen: Sequence[Term]) -> Term:
    text = " OR ".join(term.text for term in chosen)
    return Term(text, lambda r: any(term.means(r) for term in chosen))


@cache
def decoded(record: bytes) -> Any:
    return json.loads(record)


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.hypothesis
def test_generated_searches_match_a_plain_scan(world: World) -> None:
    hits: list[bool] = []

    @settings(
        max_examples=SEARCHES,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(search=searches())
    def agrees(search: tuple[list[int], list[int], int, int]) -> None:
        numbers, which, form, limit = search
        term = written(world, numbers, which, form)
        found = world.found(replace(ALL, limit=limit, expression=parse(term.text, NOW)))
        fitting = [entry for entry in world.entries if term.means(decoded(entry.record))]
        newest = [event.position for event in naive_page(fitting, replace(ALL, limit=limit))]
        assert found == newest, term.text
        hits.append(bool(found))

    agrees()
    assert len(hits) >= SEARCHES
    assert sum(hits) >= 0.6 * len(hits)
    print(f"{len(hits)} searches, {sum(hits)} of them with results")
