"""Records from other processes, on their way into the journal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.capture.record.assemble import UNVERIFIED
from opentrail.capture.record.ingest import MAX_RECORDS, Ingest
from opentrail.core.errors import CloudTrailError, RecordRefused
from opentrail.core.event import Record
from opentrail.core.identity import Identity, iam_user, unknown
from tests.factories import ACCOUNT, KEY, a_record
from tests.fakes import MemoryJournal, SettableClock, asynchronous


class World:
    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.learned: list[Record] = []
        self.ingest = Ingest(self.journal, self.resolve, self.learned.append, SettableClock())

    @staticmethod
    def resolve(key: str) -> Identity:
        if key == KEY:
            return Identity(KEY, ACCOUNT, iam_user(ACCOUNT, "John", "AIDAX", None))
        return unknown(ACCOUNT, key)

    async def take(self, *records: Any) -> int:
        return await self.ingest.take(b"\n".join(json.dumps(r).encode() for r in records))


@asynchronous
async def test_records_are_appended_with_their_accounts_and_regions() -> None:
    world = World()
    first = a_record(eventID="a", awsRegion="eu-west-1", eventCategory="Data")
    assert await world.take(first, a_record(eventID="b")) == 2
    one, two = await world.journal.read(0, 10)
    assert (one.event_id, one.region, one.category, one.origin) == (
        "a",
        "eu-west-1",
        "Data",
        "hook",
    )
    assert json.loads(one.record) == first
    assert two.event_id == "b"
    assert [r["eventID"] for r in world.learned] == ["a", "b"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("awsRegion", "x"),
        ("awsRegion", "../.."),
        ("recipientAccountId", "../x"),
        ("recipientAccountId", "1"),
    ],
)
@asynchronous
async def test_record_with_invalid_region_or_account_is_refused(member: str, value: str) -> None:
    world = World()
    with pytest.raises(CloudTrailError, match=f"line 1: {member}"):
        await world.take(a_record(**{member: value}))
    assert await world.journal.read(0, 10) == []


@asynchronous
async def test_the_caller_behind_a_key_is_filled_in() -> None:
    world = World()
    identity = {"type": "Unknown", "accountId": "1", "accessKeyId": KEY}
    await world.take(a_record(userIdentity=identity))
    (entry,) = await world.journal.read(0, 10)
    shown = json.loads(entry.record)["userIdentity"]
    assert (shown["type"], shown["userName"], shown["accessKeyId"]) == ("IAMUser", "John", KEY)


@asynchronous
async def test_the_senders_known_identity_is_kept() -> None:
    world = World()
    identity = {"type": "IAMUser", "userName": "Jane", "accessKeyId": KEY}
    await world.take(a_record(userIdentity=identity))
    (entry,) = await world.journal.read(0, 10)
    assert json.loads(entry.record)["userIdentity"] == identity


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"{", "line 2 is not JSON"),
        (b"[]", "line 2 is not a JSON object"),
        (b"{}", "line 2: eventSource"),
        (json.dumps({**a_record(), "eventName": 5}).encode(), "line 2: eventName"),
        (json.dumps({**a_record(), "eventTime": "noon"}).encode(), "line 2: eventTime"),
        (
            json.dumps({**a_record(), "eventTime": "0001-01-01T00:00:00+14:00"}).encode(),
            "line 2: eventTime",
        ),
        (json.dumps({**a_record(), "eventID": ""}).encode(), "line 2: eventID"),
        (json.dumps({**a_record(), "awsRegion": "../.."}).encode(), "line 2: awsRegion"),
    ],
)
def test_one_bad_line_refuses_all_and_is_named(line: bytes, named: str) -> None:
    @asynchronous
    async def story() -> None:
        world = World()
        with pytest.raises(CloudTrailError, match=named):
            await world.ingest.take(json.dumps(a_record()).encode() + b"\n" + line)
        assert world.journal.head == 0

    story()


@asynchronous
async def test_empty_body_appends_nothing_a_large_one_fails() -> None:
    world = World()
    assert await world.ingest.take(b"\n\n") == 0
    with pytest.raises(CloudTrailError, match="at most"):
        await world.ingest.take(b"{}\n" * (MAX_RECORDS + 1))


@asynchronous
async def test_a_repeated_record_is_appended_once() -> None:
    world = World()
    assert await world.take(a_record(eventID="a"), a_record(eventID="a")) == 2
    assert await world.take(a_record(eventID="a"), a_record(eventID="b")) == 2
    assert [e.event_id for e in await world.journal.read(0, 10)] == ["a", "b"]
    assert [r["eventID"] for r in world.learned] == ["a", "b"]


@asynchronous
async def test_an_earlier_servers_record_is_not_appended_again() -> None:
    world = World()
    await world.take(a_record(eventID="a"))
    later = Ingest(world.journal, world.resolve, world.learned.append, SettableClock())
    line = json.dumps(a_record(eventID="a")).encode()
    assert await later.take(line, again=True) == 1
    assert world.journal.head == 1


@asynchronous
async def test_a_record_that_failed_is_appended_on_retry() -> None:
    world = World()
    world.journal.failure = "the disk is full"
    with pytest.raises(RecordRefused):
        await world.take(a_record(eventID="a"))
    world.journal.failure = None
    assert await world.take(a_record(eventID="a")) == 1
    assert world.journal.head == 1


@asynchronous
async def test_senders_unknown_caller_is_corrected_in_its_note() -> None:
    world = World()
    identity = {"type": "Unknown", "accountId": "1", "accessKeyId": KEY}
    noted = {"opentrail": {"identity": UNVERIFIED}}
    await world.take(
        a_record(eventID="a", userIdentity=identity, additionalEventData=noted),
        a_record(
            eventID="b",
            userIdentity={**identity, "accessKeyId": "NOBODYS"},
            additionalEventData=noted,
        ),
    )
    known, nobody = await world.journal.read(0, 10)
    assert "additionalEventData" not in json.loads(known.record)
    assert json.loads(nobody.record)["additionalEventData"] == noted
