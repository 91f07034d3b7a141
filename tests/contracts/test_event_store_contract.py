"""The guarantees of every event store (ports/event_store.py), hot or mostly sealed."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb.seal import merge, seal
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import Resource
from opentrail.core.event import Entry
from opentrail.core.expression import Expression, parse
from opentrail.ports.event_store import (
    DATA_CATEGORIES,
    CallCounts,
    CallKey,
    CountedField,
    EventQuery,
    EventStore,
    FoundEvent,
    PeriodCounts,
    PrincipalActivity,
    Snapshot,
    ValueCounts,
)
from opentrail.ports.journal import Journal
from tests.adapters.duckdb.shared_folder import SharedFolder
from tests.factories import (
    ABSENT,
    ACCOUNT,
    KEY,
    MOMENT,
    REGION,
    a_data_record,
    a_new_entry,
    a_record,
    an_assumed_role,
    an_entry,
    an_iam_user,
    an_insight_record,
    event_id,
    record_bytes,
)
from tests.fakes import MemoryEvents, MemoryJournal, asynchronous, naive_page

KINDS = (
    "memory",
    "duckdb, hot",
    "duckdb, sealed",
    pytest.param("duckdb, merged", marks=pytest.mark.slow),
    pytest.param("duckdb, in S3", marks=pytest.mark.slow),
    pytest.param("another process", marks=pytest.mark.slow),
)
#: Expressions, and the web console's spelling of them.
WRITTEN = Path(__file__).parents[2] / "console" / "tests" / "written.json"
Records = Sequence[Mapping[str, Any]]


class Place:
    """A store over a journal in a folder."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self._history, self._journal_folder = folder / "history", folder / "journal"
        self._journal: Journal
        self._store: EventStore

    async def fill(self, records: Records) -> EventStore:
        """Opens the store with these records."""
        if self.kind == "memory":
            self._journal = MemoryJournal()
            self._store = MemoryEvents()
            await self.add(records)
            return self._store
        self._history.mkdir()
        self._journal_folder.mkdir()
        self._journal = SqliteJournal(self._journal_folder)
        sealed = 0 if self.kind == "duckdb, hot" else len(records) * 3 // 4
        await self._append(records[:sealed])
        parts = [
            path
            for part in ((1, sealed // 3), (sealed // 3 + 1, sealed))
            for path in seal(SqliteJournalSource(self._journal_folder), self._history, *part)
        ]
        if self.kind == "duckdb, merged" and parts:
            merge(parts)
        store: DuckdbEvents | IpcEventStore
        if self.kind == "duckdb, in S3":
            shared = SharedFolder(self._history.parent, max_bytes=1_000_000)
            store = DuckdbEvents(
                self._history, SqliteJournalSource(self._journal_folder), remote=shared.cache
            )
            self._store = store
            assert await store.open(shared=shared.take(parts)) == sealed
            await self.add(records[sealed:])
            return store
        if self.kind == "another process":
            store = IpcEventStore(self._history, SqliteJournalSource(self._journal_folder), 120_000)
        else:
            store = DuckdbEvents(self._history, SqliteJournalSource(self._journal_folder))
        self._store = store
        assert await store.open() == sealed
        await self.add(records[sealed:])
        return store

    async def add(self, records: Records) -> None:
        """Appends records to the journal and adds them to the store."""
        if records:
            await self._store.add(await self._append(records))

    async def entries(self) -> list[Entry]:
        """Returns all entries of the journal."""
        return await self._journal.read(0, 1_000_000)

    async def _append(self, records: Records) -> list[Entry]:
        if not records:
            return []
        head = await self._journal.append([a_new_entry(record) for record in records])
        return await self._journal.read(head - len(records), len(records))

    async def close(self) -> None:
        """Closes both."""
        await self._store.close()
        await self._journal.close()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


@asynccontextmanager
async def filled(place: Place, records: Records) -> AsyncIterator[EventStore]:
    store = await place.fill(records)
    try:
        yield store
    finally:
        await place.close()


def everything(limit: int = 10_000, **conditions: Any) -> EventQuery:
    return EventQuery(limit=limit, snapshot=Snapshot(1_000_000), **conditions)


def positions(found: Sequence[FoundEvent]) -> list[int]:
    return [event.position for event in found]


def at(second: int) -> str:
    return f"{MOMENT + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"


# Ten hand-made events; the number of each is its position.
HAND_MADE: list[dict[str, Any]] = [
    a_record(eventID="e-1", eventTime=at(10)),
    a_record(eventID="e-2", eventTime=at(20), eventName="DeleteUser"),
    a_record(eventID="e-3", eventTime=at(20), awsRegion="eu-west-1"),
    a_record(eventID="e-4", eventTime=at(5), recipientAccountId="210987654321"),
    a_data_record(eventID="e-5", eventTime=at(30)),
    a_record(
        eventID="e-6",
        eventTime=at(40),
        userIdentity=an_assumed_role(session="mary@example.com"),
        eventSource="ec2.amazonaws.com",
        eventName="DescribeInstances",
        requestParameters=None,
        responseElements=None,
        readOnly=True,
    ),
    a_record(
        eventID="e-7",
        eventTime=at(40),
        userIdentity={"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
        eventSource="kms.amazonaws.com",
        eventName="Decrypt",
        requestParameters=None,
        responseElements=None,
        readOnly=True,
        resources=[{"ARN": "arn:aws:kms:us-east-1:1:key/k"}],
    ),
    a_record(
        eventID="e-8",
        eventTime=at(1),
        userIdentity={"type": "Root", "principalId": ACCOUNT, "accountId": ACCOUNT},
        eventName="createuser",
        requestParameters={"userName": "mary"},
        responseElements=None,
    ),
    a_record(eventID="E-1", eventTime=at(2), userIdentity=an_iam_user("Zoë", key="AKIAOTHER")),
    a_record(
        eventID="e-10",
        eventTime=at(20),
        requestParameters={"userName": "Mary", "groupName": "Mary"},
        responseElements=None,
    ),
]


#: Attribute and value of a search → the numbers of its events.
BY_ATTRIBUTE: tuple[tuple[str, str, list[int]], ...] = (
    ("EventId", "e-1", [1]),
    ("EventId", "E-1", [9]),
    ("EventId", "e-", []),
    ("EventName", "CreateUser", [10, 3, 1, 9, 4]),
    ("EventName", "createuser", [8]),
    ("EventName", "Create%", []),
    ("EventSource", "ec2.amazonaws.com", [6]),
    ("EventSource", "kms.amazonaws.com", [7]),
    ("ReadOnly", "true", [7, 6]),
    ("ReadOnly", "false", [5, 10, 3, 2, 1, 4, 9, 8]),
    ("Username", "John", [10, 3, 2, 1, 4]),
    ("Username", "mary@example.com", [6]),
    ("Username", "root", [8]),
    ("Username", "Zoë", [9]),
    ("Username", "", []),
    ("AccessKeyId", "AKIAOTHER", [9]),
    ("AccessKeyId", "ASIAIOSFODNN7EXAMPLE", [6, 5]),
    ("ResourceType", "AWS::S3::Bucket", [5]),
    ("ResourceType", "AWS::IAM::Group", [10]),
    ("ResourceType", "", []),
    ("ResourceName", "Mary", [10, 3, 2, 1, 4, 9]),
    ("ResourceName", "mary", [8]),
    ("ResourceName", "arn:aws:kms:us-east-1:1:key/k", [7]),
    ("ResourceName", "my-bucket", [5]),
)


@pytest.mark.slow
@asynchronous
async def test_each_attribute_finds_exactly_its_events(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        for key, value, expected in BY_ATTRIBUTE:
            found = await store.lookup(everything(attribute=(key, value)))
            assert sorted(positions(found)) == sorted(expected), (key, value)
            newest = sorted(found, key=lambda e: (e.event_time, e.position), reverse=True)
            assert found == newest, (key, value)


@pytest.mark.slow
@asynchronous
async def test_events_are_sorted_newest_first(
    place: Place,
) -> None:
    async with filled(place, HAND_MADE) as store:
        assert positions(await store.lookup(everything())) == [7, 6, 5, 10, 3, 2, 1, 4, 9, 8]
        for limit in range(1, 12):
            page = await store.lookup(everything(limit))
            assert positions(page) == [7, 6, 5, 10, 3, 2, 1, 4, 9, 8][:limit]


@pytest.mark.slow
@asynchronous
async def test_account_region_and_category_narrow_a_search(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:

        async def found(**conditions: Any) -> list[int]:
            return positions(await store.lookup(everything(**conditions)))

        assert await found(account="210987654321") == [4]
        assert await found(account="000000000000") == []
        assert await found(region="eu-west-1") == [3]
        assert await found(categories=("Data",)) == [5]
        assert await found(categories=("Data", "Insight")) == [5]
        assert await found(categories=()) == []
        assert await found(categories=("Management", "Data")) == [7, 6, 5, 10, 3, 2, 1, 4, 9, 8]
        assert await found(
            account=ACCOUNT,
            region=REGION,
            categories=("Management",),
            attribute=("EventName", "CreateUser"),
        ) == [10, 1, 9]


@pytest.mark.slow
@asynchronous
async def test_time_range_includes_both_ends(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:

        async def found(start: float | None, end: float | None) -> list[int]:
            moments = [None if s is None else MOMENT + timedelta(seconds=s) for s in (start, end)]
            return positions(await store.lookup(everything(start=moments[0], end=moments[1])))

        assert await found(20, 20) == [10, 3, 2]
        assert await found(5, 20) == [10, 3, 2, 1, 4]
        assert await found(5.5, 19.5) == [1]
        assert await found(40, None) == [7, 6]
        assert await found(None, 1) == [8]
        assert await found(41, None) == []
        assert await found(30, 20) == []


@asynchronous
async def test_an_event_has_the_values_of_its_record(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        found = {event.position: event for event in await store.lookup(everything())}
        assert found[7] == FoundEvent(
            position=7,
            event_time=MOMENT + timedelta(seconds=40),
            event_id="e-7",
            event_name="Decrypt",
            event_source="kms.amazonaws.com",
            read_only=True,
            username=None,
            access_key_id=None,
            resources=(Resource(None, "arn:aws:kms:us-east-1:1:key/k"),),
            record=record_bytes(HAND_MADE[6]).decode(),
        )
        assert found[10].resources == (
            Resource("AWS::IAM::User", "Mary"),
            Resource("AWS::IAM::Group", "Mary"),
        )
        assert found[6].resources == ()
        assert found[5].username == "etl"


TEXTS = (
    "Zoë \U0001f600 \u202e",
    "quote ' \" backslash \\ percent % under _",
    "control \x01\x1f\x7f\n\r\t",
    "nul \0 inside",
    "\u2028\u2029\ufeff\ufffd\U0010ffff",
    "long " * 200_000,
    "",
)


@asynchronous
@pytest.mark.slow
async def test_exact_bytes_are_returned_and_odd_values_found(
    place: Place,
) -> None:
    records = [
        a_record(
            eventID=event_id(number),
            eventName=f"Event{number}",
            userIdentity={**an_iam_user(), "userName": text},
            requestParameters={"userName": text, "note": text},
            responseElements=None,
        )
        for number, text in enumerate(TEXTS * 4)
    ]
    async with filled(place, records) as store:
        found = await store.lookup(everything())
        kept = {event.position: event.record.encode() for event in found}
        assert kept == {n: record_bytes(record) for n, record in enumerate(records, 1)}
        for text in filter(None, TEXTS):
            for key in ("Username", "ResourceName"):
                assert len(await store.lookup(everything(attribute=(key, text)))) == 4, text[:50]
                assert await store.lookup(everything(attribute=(key, text[:-1]))) == [], text[:50]


@asynchronous
async def test_a_records_json_bytes_are_kept_unchanged(place: Place) -> None:
    raw = b'{ "eventTime":"2020-01-01T09:00:00Z" ,"eventName":"\\u0041\\/","eventSource":"x",'
    raw += b'"eventID":"i","n":1.0e2,"big":123456789012345678901234567890,"dup":1,"dup":2}\n'
    async with filled(place, []) as store:
        entry = replace(an_entry(1, a_record(eventID="i")), record=raw)
        await store.add([entry])
        (event,) = await store.lookup(everything())
        assert event.record.encode() == raw
        assert event.event_name == "A/"


@pytest.mark.slow
@asynchronous
async def test_adding_the_same_entries_again_changes_nothing(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        assert store.position == 10
        before = await store.lookup(everything())
        entries = await place.entries()
        for again in (entries, entries[:3], entries[-1:], []):
            await store.add(again)
        assert store.position == 10
        assert await store.lookup(everything()) == before


@pytest.mark.slow
@asynchronous
async def test_overlapping_batch_adds_only_new_entries(place: Place) -> None:
    async with filled(place, HAND_MADE[:8]) as store:
        old = await place.entries()
        new = [replace(old[0], position=9), replace(old[1], position=10)]
        await store.add([*old[5:], *new])
        assert store.position == 10
        assert sorted(positions(await store.lookup(everything()))) == list(range(1, 11))


@pytest.mark.slow
@asynchronous
async def test_pages_hold_each_event_once_despite_new_ones(place: Place) -> None:
    def some(first: int) -> Records:
        seconds = random.Random(first)
        return [
            a_record(eventID=event_id(n), eventTime=at(seconds.randrange(12)))
            for n in range(first, first + 40)
        ]

    async with filled(place, some(1)) as store:
        seen: list[FoundEvent] = []
        query = EventQuery(limit=7, snapshot=Snapshot(store.position))
        arrived = 41
        while page := await store.lookup(query):
            seen.extend(page)
            last = page[-1]
            query = replace(query, before=(last.event_time, last.position))
            await place.add(some(arrived))
            arrived += 40
        assert sorted(positions(seen)) == list(range(1, 41))
        assert seen == sorted(seen, key=lambda e: (e.event_time, e.position), reverse=True)
        assert len(await store.lookup(everything())) == arrived - 1


@pytest.mark.slow
@asynchronous
async def test_added_entries_are_visible_after_add(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:

        async def look(number: int) -> None:
            await place.add([a_record(eventID=event_id(number))])
            found = await store.lookup(everything(attribute=("EventId", event_id(number))))
            assert [event.event_id for event in found] == [event_id(number)]

        for number in range(20):
            await look(number)
        assert store.position == 30


@pytest.mark.slow
@asynchronous
async def test_many_may_look_concurrently(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        expected = await store.lookup(everything(attribute=("EventName", "CreateUser")))
        answers = await asyncio.gather(
            *(store.lookup(everything(attribute=("EventName", "CreateUser"))) for _ in range(30))
        )
        assert all(answer == expected for answer in answers)


# Counts and frequent values of a search

FIELDS = get_args(CountedField)


@pytest.mark.slow
@asynchronous
async def test_a_querys_events_are_counted_to_its_limit(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        for limit, expected in ((1, 1), (9, 9), (10, 10), (11, 10)):
            assert await store.count(everything(limit)) == expected
        by_record = parse("requestParameters.userName=Mary NOT id=e-10", MOMENT)
        for limit, expected in ((1, 1), (4, 4), (5, 4)):
            query = everything(limit, expression=by_record, account=ACCOUNT)
            assert await store.count(query) == expected
        assert await store.count(everything(attribute=("EventId", "e-1"))) == 1
        assert await store.count(everything(attribute=("EventId", "e-2"), region="x")) == 0
        assert await store.count(everything(attribute=("ResourceName", "Mary"))) == 6


@asynchronous
async def test_every_event_either_succeeded_or_failed(place: Place) -> None:
    codes = ["AccessDenied", ABSENT, None, "", 0, 404, ["x"], {"x": 1}, [], True]
    records = [a_record(eventID=f"o-{number}", errorCode=code) for number, code in enumerate(codes)]
    async with filled(place, records) as store:
        succeeded, failed = [
            set(positions(await store.lookup(everything(expression=parse(text, MOMENT)))))
            for text in ("is:success", "is:failure")
        ]
        assert succeeded | failed == set(range(1, len(codes) + 1))
        assert not succeeded & failed
        with_code = everything(expression=parse("error=*", MOMENT))
        assert failed == set(positions(await store.lookup(with_code)))


@pytest.mark.slow
@asynchronous
async def test_a_histogram_has_the_periods_with_events(place: Place) -> None:
    failed = {"errorCode": "AccessDenied", "responseElements": None}
    records = [
        a_record(eventID="h-1", eventTime=at(0)),
        a_record(eventID="h-2", eventTime=at(59), **failed),
        a_record(eventID="h-3", eventTime=at(300), **failed),
        a_record(eventID="h-4", eventTime=at(60)),
        a_record(eventID="h-5", eventTime=at(1), awsRegion="eu-west-1"),
        a_record(eventID="h-6", eventTime="1969-12-31T23:59:59Z", awsRegion="us-west-2"),
    ]
    async with filled(place, records) as store:

        async def found(seconds: int, **conditions: Any) -> list[tuple[float, int, int]]:
            query = everything(**{"start": MOMENT, **conditions})
            periods = await store.histogram(query, seconds)
            return [((p.start - MOMENT).total_seconds(), p.ok, p.failed) for p in periods]

        assert await found(60) == [(0, 2, 1), (60, 1, 0), (300, 0, 1)]
        assert await found(3600) == [(0, 3, 2)]
        assert await found(60, region="eu-west-1") == [(0, 1, 0)]
        assert await found(60, start=MOMENT + timedelta(seconds=59)) == [
            (0, 0, 1),
            (60, 1, 0),
            (300, 0, 1),
        ]
        assert await found(60, account="x") == []
        (oldest,) = await store.histogram(everything(region="us-west-2"), 3600)
        assert oldest == PeriodCounts(datetime(1969, 12, 31, 23, tzinfo=UTC), 1, 0)


@pytest.mark.slow
@asynchronous
async def test_each_fields_most_frequent_values_are_first(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        found = await store.top_values(everything(), FIELDS, 10)
        assert found == {
            "access_key_id": [(KEY, 5), ("ASIAIOSFODNN7EXAMPLE", 2), ("AKIAOTHER", 1)],
            "account": [(ACCOUNT, 9), ("210987654321", 1)],
            "agent": [],
            "category": [("Management", 9), ("Data", 1)],
            "error_code": [],
            "event_name": [
                ("CreateUser", 5),
                ("Decrypt", 1),
                ("DeleteUser", 1),
                ("DescribeInstances", 1),
                ("PutObject", 1),
                ("createuser", 1),
            ],
            "event_source": [
                ("iam.amazonaws.com", 7),
                ("ec2.amazonaws.com", 1),
                ("kms.amazonaws.com", 1),
                ("s3.amazonaws.com", 1),
            ],
            "principal_arn": [
                (f"arn:aws:iam::{ACCOUNT}:user/John", 5),
                (f"arn:aws:iam::{ACCOUNT}:user/Zoë", 1),
                (f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl", 1),
                (f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/mary@example.com", 1),
            ],
            "region": [(REGION, 9), ("eu-west-1", 1)],
            "resource_types": [
                ("AWS::IAM::User", 7),
                ("AWS::IAM::Group", 1),
                ("AWS::S3::Bucket", 1),
                ("AWS::S3::Object", 1),
            ],
            "source_ip": [("192.0.2.10", 10)],
            "username": [
                ("John", 5),
                ("Zoë", 1),
                ("etl", 1),
                ("mary@example.com", 1),
                ("root", 1),
            ],
        }
        assert list(found) == list(FIELDS)
        query = everything(region="eu-west-1")
        assert await store.top_values(query, ["event_name"], 10) == {
            "event_name": [("CreateUser", 1)]
        }
        names = await store.top_values(everything(), ["event_name"], 2, "cREATE")
        assert names == {"event_name": [("CreateUser", 5), ("createuser", 1)]}
        assert (await store.top_values(everything(), ["username"], 5, "zOË"))["username"] == [
            ("Zoë", 1)
        ]
        assert await store.top_values(everything(), ["event_name"], 5, "%") == {"event_name": []}
        assert await store.top_values(everything(), [], 5) == {}
        nothing = await store.top_values(replace(everything(), snapshot=Snapshot(0)), FIELDS, 5)
        assert nothing == {field: [] for field in FIELDS}


@pytest.mark.slow
@asynchronous
async def test_an_overview_counts_periods_and_values(place: Place) -> None:
    async with filled(place, HAND_MADE) as store:
        # Columns decide the first query, records the second.
        for query in (everything(), everything(expression=parse("mary OR John", MOMENT))):
            found = await store.overview(query, 60, FIELDS, 10)
            assert found.periods == await store.histogram(query, 60)
            assert found.values == await store.top_values(query, FIELDS, 10)
        assert (await store.overview(everything(), 60, [], 10)).values == {}


@pytest.mark.slow
@asynchronous
async def test_principals_are_listed_by_their_last_call(place: Place) -> None:
    def made(number: int, seconds: int, name: str, code: str | None = None) -> dict[str, Any]:
        return a_record(
            eventID=f"p-{number}",
            eventTime=at(seconds),
            userIdentity=an_iam_user(name),
            errorCode=code,
            responseElements=None,
        )

    records = [
        made(1, 0, "Ann"),
        made(2, 9, "Ann", "AccessDenied"),
        made(3, 5, "Bob", "AccessDenied"),
        made(4, 9, "Zoë"),
        a_record(eventID="p-5", userIdentity={"type": "Unknown"}, responseElements=None),
    ]

    def listed(name: str, events: int, failed: int, *seconds: int) -> PrincipalActivity:
        first, last = (MOMENT + timedelta(seconds=each) for each in seconds)
        return PrincipalActivity(f"arn:aws:iam::{ACCOUNT}:user/{name}", events, failed, first, last)

    ann, bob, zoe = listed("Ann", 2, 1, 0, 9), listed("Bob", 1, 1, 5, 5), listed("Zoë", 1, 0, 9, 9)
    async with filled(place, records) as store:
        assert await store.list_principals(everything(), 10) == [ann, zoe, bob]
        assert await store.list_principals(everything(), 1) == [ann]
        failed = everything(expression=parse("is:failure", MOMENT))
        assert await store.list_principals(failed, 10) == [listed("Ann", 1, 1, 9, 9), bob]
        named = everything(expression=parse("arn:OB", MOMENT))
        assert await store.list_principals(named, 10) == [bob]


@asynchronous
async def test_repeated_value_of_an_event_is_counted_once(place: Place) -> None:
    buckets = [{"type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{name}"} for name in "ab"]
    records = [
        a_record(eventID=f"t-{number}", resources=buckets[:number], requestParameters=None)
        for number in range(3)
    ]
    async with filled(place, records) as store:
        query = everything(attribute=("ResourceType", "AWS::S3::Bucket"))
        found = await store.top_values(query, ["resource_types"], 10, "aws::s3")
        assert found == {"resource_types": [("AWS::S3::Bucket", 2)]}


# Counts of keys

_STEPS: list[dict[str, Any]] = [
    a_record(eventID="c-1", eventTime=at(0)),
    a_record(eventID="c-2", eventTime=at(59), userAgent="other"),
    a_record(eventID="c-3", eventTime=at(60), errorCode="AccessDenied", responseElements=None),
    a_record(eventID="c-4", eventTime=at(61), readOnly=True, errorCode="AccessDenied"),
    a_record(eventID="c-5", eventTime=at(62), readOnly=True),
    a_record(eventID="c-6", eventTime=at(63), awsRegion="eu-west-1"),
    a_record(eventID="c-7", eventTime=at(64), recipientAccountId="210987654321"),
    a_data_record(eventID="c-8", eventTime=at(65)),
    a_data_record(eventID="c-9", eventTime=at(66), readOnly=True, errorCode="NoSuchKey"),
    {**an_insight_record(), "eventID": "c-10", "eventTime": at(60)},
    {**an_insight_record("End", eventName="PutObject"), "eventID": "c-11", "eventTime": at(60)},
    a_record(eventID="c-12", eventTime=at(120)),
]
_CREATES = CallKey(ACCOUNT, REGION, "Management", "iam.amazonaws.com", "CreateUser")
_PUTS = CallKey(ACCOUNT, REGION, "Data", "s3.amazonaws.com", "PutObject")
_FIRST_MINUTE = int(MOMENT.timestamp()) // 60


def between(start: float, end: float) -> tuple[datetime, datetime]:
    return MOMENT + timedelta(seconds=start), MOMENT + timedelta(seconds=end)


def by_kind(found: Sequence[CallCounts]) -> dict[tuple[Any, ...], dict[int, int]]:
    """Returns the counts by minute from `MOMENT`; fails on a repeated kind."""
    kinds = {
        (c.account, c.region, c.category, c.event_name, c.error_code, c.read_only): {
            minute - _FIRST_MINUTE: count for minute, count in zip(c.minutes, c.counts, strict=True)
        }
        for c in found
    }
    assert len(kinds) == len(found)
    assert all(list(minutes) == sorted(minutes) for minutes in kinds.values())
    return kinds


@pytest.mark.slow
@asynchronous
async def test_calls_are_counted_by_kind_and_minute(
    place: Place,
) -> None:
    async with filled(place, _STEPS) as store:
        home, user = (ACCOUNT, REGION, "Management"), "CreateUser"
        assert by_kind(await store.count_calls(*between(0, 120))) == {
            (*home, user, None, False): {0: 2},
            (*home, user, "AccessDenied", False): {1: 1},
            (*home, user, "AccessDenied", True): {1: 1},
            (*home, user, None, True): {1: 1},
            (ACCOUNT, "eu-west-1", "Management", user, None, False): {1: 1},
            ("210987654321", REGION, "Management", user, None, False): {1: 1},
            (ACCOUNT, REGION, "Data", "PutObject", None, False): {1: 1},
            (ACCOUNT, REGION, "Data", "PutObject", "NoSuchKey", True): {1: 1},
        }
        found = by_kind(await store.count_calls(*between(0, 121)))
        assert found[(*home, user, None, False)] == {0: 2, 2: 1}
        assert await store.count_calls(*between(121, 1_000)) == []
        assert await store.count_calls(*between(120, 120)) == []


@pytest.mark.slow
@asynchronous
async def test_counts_cover_a_snapshot_or_the_records_since(place: Place) -> None:
    async with filled(place, _STEPS) as store:
        whole = between(0, 200)
        seen = by_kind(await store.count_calls(*whole, Snapshot(2)))
        assert list(seen.values()) == [{0: 2}]
        for since, events in ((MOMENT, 4), (MOMENT + timedelta(seconds=1), 0)):
            counted = await store.count_key(_CREATES, *whole, 3600, recorded_since=since)
            assert sum(count for _, count in counted) == events
        assert await store.count_key(_CREATES, *whole, 3600, Snapshot(0)) == []
        nothing = await store.count_values(_CREATES, *whole, Snapshot(0))
        assert nothing == ValueCounts(0, [], [], [])


@pytest.mark.slow
@asynchronous
async def test_old_data_events_may_be_left_out(place: Place) -> None:
    async with filled(place, _STEPS) as store:
        query = EventQuery(100, store.snapshot)
        categories = [json.loads(e.record)["eventCategory"] for e in await store.lookup(query)]
        assert "Data" in categories
        older = [category for category in categories if category not in DATA_CATEGORIES]
        for since, kept in ((MOMENT, categories), (MOMENT + timedelta(seconds=1), older)):
            recent = replace(query, data_since=since)
            found = [json.loads(e.record)["eventCategory"] for e in await store.lookup(recent)]
            assert found == kept
            assert await store.count(recent) == len(found)


@pytest.mark.slow
@asynchronous
async def test_a_key_is_counted_by_period(place: Place) -> None:
    async with filled(place, _STEPS) as store:

        async def counted(key: CallKey, period: int, *ends: float) -> dict[float, int]:
            found = await store.count_key(key, *between(*(ends or (0, 200))), period)
            assert found == sorted(found)
            return {(moment - MOMENT).total_seconds(): count for moment, count in found}

        assert await counted(_CREATES, 60) == {0: 2, 60: 1, 120: 1}
        assert await counted(_CREATES, 300) == {0: 4}
        assert await counted(_CREATES, 60, 59, 120) == {0: 1, 60: 1}
        assert await counted(replace(_CREATES, error_code="AccessDenied"), 60) == {60: 2}
        assert await counted(replace(_CREATES, error_code="Other"), 60) == {}
        assert await counted(_PUTS, 60) == {60: 2}
        assert await counted(replace(_PUTS, error_code="NoSuchKey"), 60) == {60: 1}
        assert await counted(replace(_CREATES, category="Data"), 60) == {}
        assert await counted(replace(_CREATES, event_source="s3.amazonaws.com"), 60) == {}
        assert await counted(replace(_CREATES, region="eu-west-1"), 60) == {60: 1}


@pytest.mark.slow
@asynchronous
async def test_a_keys_most_frequent_values_are_first(place: Place) -> None:
    def a_call(number: int, **changes: Any) -> dict[str, Any]:
        return a_record(**{"eventID": f"v-{number}", "eventTime": at(number), **changes})

    service = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    records = [
        a_call(1, userIdentity=an_assumed_role("Deploy", "one"), userAgent="b"),
        a_call(2, userIdentity=an_assumed_role("Deploy", "two"), userAgent="b"),
        a_call(3, userIdentity=an_assumed_role("Deploy", "two"), userAgent="a"),
        a_call(4, userIdentity=service, userAgent="a", errorCode="AccessDenied"),
        a_call(5, userIdentity={"type": "AWSAccount", "principalId": "P"}, userAgent='"\n\0é'),
        a_call(6, userIdentity=ABSENT, userAgent=ABSENT),
        a_call(7, userIdentity="AWS", userAgent=None, errorCode="AccessDenied"),
        a_call(8, userIdentity=an_iam_user("John"), userAgent="c", readOnly=True),
        a_call(9, userIdentity=an_iam_user("Mary"), userAgent="c", eventName="DeleteUser"),
    ]
    role = f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy"
    async with filled(place, records) as store:
        assert await store.count_values(_CREATES, *between(0, 100)) == ValueCounts(
            events=7,
            user_identity_arn=[(role, 3), ("P", 1), ("ec2.amazonaws.com", 1)],
            user_agent=[("a", 2), ("b", 2), ('"\n\0é', 1)],
            error_code=[("null", 5), ("AccessDenied", 2)],
        )
        denied = replace(_CREATES, error_code="AccessDenied")
        assert await store.count_values(denied, *between(0, 100)) == ValueCounts(
            2, [("ec2.amazonaws.com", 1)], [("a", 1)], [("AccessDenied", 2)]
        )
        first = await store.count_values(_CREATES, *between(3, 6), limit=1)
        assert first == ValueCounts(3, [("P", 1)], [("a", 2)], [("null", 2)])


@pytest.mark.slow
@asynchronous
async def test_calls_are_counted_by_principal_program_and_minute(place: Place) -> None:
    def a_call(number: int, second: int, **changes: Any) -> dict[str, Any]:
        return a_record(**{"eventID": f"p-{number}", "eventTime": at(second), **changes})

    cli = {"userAgent": "aws-cli/2.15.30 md/awscrt#0.19.19"}
    service = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    records = [
        a_call(1, 1, userIdentity=an_assumed_role("Deploy", "one"), **cli),
        a_call(2, 59, userIdentity=an_assumed_role("Deploy", "two"), userAgent="[aws-cli/1.2]"),
        a_call(3, 60, userIdentity=an_assumed_role("Deploy", "two"), **cli, readOnly=True),
        a_call(4, 2, userIdentity=an_iam_user("John"), userAgent="APN/1.0 HashiCorp/1.0 x"),
        a_call(5, 3, userIdentity=an_iam_user("John"), userAgent="/", errorCode="AccessDenied"),
        a_call(6, 4, userIdentity=service, userAgent=ABSENT, awsRegion="eu-west-1"),
        a_call(7, 5, userIdentity="AWS", userAgent="a" * 70),
        a_call(11, 8, userIdentity=an_iam_user("John"), userAgent="b/1 app/agent-codex"),
        a_call(12, 9, userIdentity=an_iam_user("John"), userAgent="b/2 app/codex-cli"),
        a_data_record(eventID="p-8", eventTime=at(6), userAgent='é"\n\0/1'),
        {**an_insight_record(), "eventID": "p-9", "eventTime": at(7)},
        a_call(10, 120, **cli),
    ]
    role = f"arn:aws:sts::{ACCOUNT}:assumed-role"
    john = f"arn:aws:iam::{ACCOUNT}:user/John"
    creates, iam = ("iam.amazonaws.com", "CreateUser"), (ACCOUNT, REGION)
    puts = (ACCOUNT, REGION, "s3.amazonaws.com", "PutObject")
    async with filled(place, records) as store:
        found = await store.count_principals(*between(0, 120))
        counted = {
            (
                *(c.account, c.region, c.event_source, c.event_name),
                *(c.principal, c.user_agent_family, c.agent, c.error_code),
            ): {
                minute - _FIRST_MINUTE: count
                for minute, count in zip(c.minutes, c.counts, strict=True)
            }
            for c in found
        }
        assert len(counted) == len(found)
        assert counted == {
            (*iam, *creates, f"{role}/Deploy", "aws-cli", None, None): {0: 2, 1: 1},
            (*iam, *creates, john, "HashiCorp", None, None): {0: 1},
            (*iam, *creates, john, "b", "Codex", None): {0: 2},
            (*iam, *creates, john, None, None, "AccessDenied"): {0: 1},
            (ACCOUNT, "eu-west-1", *creates, None, None, None, None): {0: 1},
            (*iam, *creates, None, "a" * 64, None, None): {0: 1},
            (*puts, f"{role}/DataRole", 'é"\n\0', None, None): {0: 1},
        }
        assert len(await store.count_principals(*between(0, 121))) == 8
        assert await store.count_principals(*between(0, 120), Snapshot(0)) == []


# Any query, against a plain list


@dataclass
class Filled:
    """A store with a few hundred random events, and its loop."""

    runner: asyncio.Runner
    store: EventStore
    entries: list[Entry]


#: Some name agents; the Kelvin sign is a k in lower case.
USER_AGENTS = [
    *("a/1 b", "a/2", "[b/1]", "c", ABSENT),
    *("b/1 app/agent-claude-code", "Terraform/1.9.5", "[b/1 app/agent+payroll]"),
    "Terraform/1.9.5 \u212a",
]


def random_records(count: int) -> list[dict[str, Any]]:
    chance = random.Random(count)
    made = []
    for number in range(1, count + 1):
        data = chance.random() < 0.2
        identity = chance.choice(
            [
                an_iam_user("John"),
                an_iam_user("Mary", key="AKIAMARY"),
                an_iam_user("\u0130J\u212a"),
                an_assumed_role(),
                {"type": "AWSService", "invokedBy": "x"},
            ]
        )
        make = a_data_record if data else a_record
        login: dict[str, Any] = {}
        if chance.random() < 0.1:
            answer = {"ConsoleLogin": chance.choice(["Failure", "Success"])}
            login = {"eventSource": "signin.amazonaws.com", "responseElements": answer}
        elif chance.random() < 0.1:
            login = {"eventSource": "bedrock-agentcore.amazonaws.com"}
        made.append(
            make(
                eventID=event_id(number),
                eventTime=at(chance.randrange(25)),
                eventName=chance.choice(["CreateUser", "DeleteUser", "InvokeMcp"]),
                readOnly=chance.random() < 0.5,
                awsRegion=chance.choice([REGION, "eu-west-1"]),
                recipientAccountId=chance.choice([ACCOUNT, ACCOUNT, "210987654321"]),
                userIdentity=identity,
                userAgent=chance.choice(USER_AGENTS),
                additionalEventData=chance.choice(
                    [ABSENT, ABSENT, ABSENT, {"opentrail": {"agentTag": "agent=codex"}}]
                ),
                errorCode=chance.choice([ABSENT, ABSENT, "AccessDenied", "Other"]),
                requestParameters=chance.choice(
                    [None, {"userName": "Mary"}, {"userName": "Mary", "groupName": "g"}]
                ),
                **{"responseElements": None, **login},
            )
        )
    return made


@pytest.fixture(scope="module", params=KINDS)
def many(request: pytest.FixtureRequest) -> Iterator[Filled]:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        place = Place(request.param, Path(folder))
        store = runner.run(place.fill(random_records(300)))
        yield Filled(runner, store, runner.run(place.entries()))
        runner.run(place.close())


moments = st.integers(-2, 60).map(lambda half: MOMENT + timedelta(seconds=half / 2))
whole_moments = st.integers(-1, 26).map(lambda second: MOMENT + timedelta(seconds=second))
attributes = st.one_of(
    st.tuples(st.just("EventName"), st.sampled_from(["CreateUser", "GetUser", "getuser"])),
    st.tuples(st.just("EventSource"), st.sampled_from(["iam.amazonaws.com", "iam"])),
    st.tuples(st.just("EventId"), st.integers(1, 310).map(event_id)),
    st.tuples(st.just("ReadOnly"), st.sampled_from(["true", "false"])),
    st.tuples(st.just("Username"), st.sampled_from(["John", "Mary", "etl", "nobody"])),
    st.tuples(st.just("AccessKeyId"), st.sampled_from(["AKIAMARY", "none"])),
    st.tuples(st.just("ResourceType"), st.sampled_from(["AWS::IAM::User", "AWS::IAM::Group"])),
    st.tuples(st.just("ResourceName"), st.sampled_from(["Mary", "g", "arn:aws:s3:::my-bucket"])),
)
terms = st.sampled_from(
    [
        "name=CreateUser",
        "name=*User",
        "name=get*",
        "name:DELETE",
        "source=iam",
        "source=s*",
        "source!=iam",
        "user=John",
        "user!=Mary",
        "user=J?h*",
        "user:IJ",
        "user:jk",
        "user:ohn",
        "key=AKIAMARY",
        "ip=0.0.0.0/0",
        "ip=*.2.*",
        "is:success",
        "is:failure",
        "is:write",
        "error:DENIED",
        "readonly=tr*",
        "resource=g",
        "resource=*y",
        "resource:AR",
        "resource!=M*",
        "resourcetype=AWS::IAM::User",
        "resourcetype=*::U*",
        "resourcetype:iam",
        "resourcetype!=AWS::IAM::User",
        "requestParameters.userName=Mary",
        "requestParameters.userName=M*y",
        "requestParameters.groupName!=g",
        "requestParameters.groupName=*",
        "requestParameters.userName:mar",
        "mary",
        '"aws:iam"',
        "1",
        "time>=2020-01-01T09:00:05Z",
        "time<2020-01-01T09:00:12Z",
        "last 3591s",
        "region IN (eu-west-1, x)",
        "account=210987654321",
        "agent=Terraform",
        'agent="Bedrock AgentCore"',
        "agent=Codex",
        "agent=*l*",
        "agent!=Terraform",
        "agent:CODE",
    ]
)
written = st.recursive(
    terms,
    lambda inner: st.one_of(
        inner.map(lambda text: f"NOT ({text})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) AND ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) OR ({two[1]})"),
    ),
    max_leaves=5,
)
expressions = written.map(lambda text: parse(text, MOMENT + timedelta(hours=1)))
queries = st.builds(
    EventQuery,
    limit=st.sampled_from([1, 2, 7, 51, 1_000]),
    snapshot=st.builds(Snapshot, st.integers(0, 320)),
    account=st.none() | st.sampled_from([ACCOUNT, "210987654321", "000000000000"]),
    region=st.none() | st.sampled_from([REGION, "eu-west-1"]),
    categories=st.none() | st.sampled_from([("Management",), ("Data", "Insight"), ()]),
    attribute=st.none() | attributes,
    start=st.none() | moments,
    end=st.none() | moments,
    before=st.none() | st.tuples(whole_moments, st.integers(0, 320)),
    expression=st.none() | expressions,
)


@pytest.mark.hypothesis
@settings(max_examples=100, deadline=None)
@given(query=queries)
@pytest.mark.slow
def test_any_page_matches_a_plain_list(many: Filled, query: EventQuery) -> None:
    assert many.runner.run(many.store.lookup(query)) == naive_page(many.entries, query)


@pytest.mark.slow
def test_console_rewrites_searches_without_changing_results(many: Filled) -> None:
    """Every operator in every case, on every store; the console's tests have the same file."""

    def read(text: str) -> Expression:
        return parse(text, MOMENT + timedelta(hours=1))

    @cache
    def found(expression: Expression) -> list[FoundEvent]:
        query = everything(1_000, expression=expression)
        page = many.runner.run(many.store.lookup(query))
        assert page == naive_page(many.entries, query), expression
        return page

    cases = [(read(one), read(other)) for one, other in json.loads(WRITTEN.read_text())]
    for one, other in cases:
        assert found(one) == found(other)
    assert len(cases) >= 300
    assert sum(0 < len(found(one)) < 300 for one, _ in cases) > 200


@pytest.mark.hypothesis
@settings(max_examples=30, deadline=None)
@given(query=queries)
@pytest.mark.slow
def test_pages_of_any_search_have_each_event_once(many: Filled, query: EventQuery) -> None:
    async def pages() -> list[FoundEvent]:
        seen: list[FoundEvent] = []
        asked = replace(query, limit=max(query.limit, 5), before=None)
        while page := await many.store.lookup(asked):
            seen.extend(page)
            asked = replace(asked, before=(page[-1].event_time, page[-1].position))
        return seen

    whole = replace(query, limit=10_000, before=None)
    assert many.runner.run(pages()) == naive_page(many.entries, whole)


@pytest.mark.hypothesis
@settings(max_examples=50, deadline=None)
@given(
    query=queries,
    seconds=st.sampled_from([1, 7, 60]),
    limit=st.sampled_from([1, 3, 100]),
    prefix=st.sampled_from(["", "a", "CREATE", "arn:aws:iam::1", "\u0130"]),
)
@pytest.mark.slow
def test_counts_of_any_query_equal_a_plain_lists(
    many: Filled, query: EventQuery, seconds: int, limit: int, prefix: str
) -> None:
    async def compared() -> None:
        plain = MemoryEvents()
        await plain.add(many.entries)
        one, other = [
            (
                await store.count(query),
                await store.histogram(query, seconds),
                await store.top_values(query, FIELDS, limit, prefix),
                await store.overview(query, seconds, FIELDS, limit),
                await store.list_principals(query, limit),
            )
            for store in (many.store, plain)
        ]
        assert one == other

    many.runner.run(compared())


keys = st.builds(
    CallKey,
    account=st.sampled_from([ACCOUNT, "210987654321"]),
    region=st.sampled_from([REGION, "eu-west-1"]),
    category=st.sampled_from(["Management", "Data"]),
    event_source=st.sampled_from(["iam.amazonaws.com", "s3.amazonaws.com"]),
    event_name=st.sampled_from(["CreateUser", "GetUser"]),
    error_code=st.none() | st.just("AccessDenied"),
)


@pytest.mark.hypothesis
@settings(max_examples=50, deadline=None)
@given(
    key=keys,
    start=moments,
    end=moments,
    snapshot=st.builds(Snapshot, st.integers(0, 320)),
    period=st.sampled_from([1, 7, 60]),
)
@pytest.mark.slow
def test_any_counts_equal_those_from_a_plain_list(
    many: Filled, key: CallKey, start: datetime, end: datetime, snapshot: Snapshot, period: int
) -> None:
    async def compared() -> None:
        plain = MemoryEvents()
        await plain.add(many.entries)
        one, other = [
            (
                sorted(await store.count_calls(start, end, snapshot), key=repr),
                sorted(await store.count_principals(start, end, snapshot), key=repr),
                await store.count_key(key, start, end, period, snapshot),
                await store.count_values(key, start, end, snapshot, limit=2),
            )
            for store in (many.store, plain)
        ]
        assert one == other

    many.runner.run(compared())
