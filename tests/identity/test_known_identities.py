"""The identity behind a key: from the directory, learned from a call, or unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry
from opentrail.core.identity import DEFAULT_ACCOUNT, Learned, key_for_account
from opentrail.identity.known_identities import (
    Identities,
    KnownIdentities,
    directory_identities,
)
from opentrail.ports.control import Put, Stored, StoreWrite
from tests.factories import (
    ABSENT,
    ACCOUNT,
    a_record,
    an_entry,
    an_identity,
    entries_of,
    event_id,
    some_records,
)
from tests.fakes import MemoryControl, MemoryJournal, asynchronous

NEW_KEY = "AKIAQEBALCOPENTRAIL1"
SESSION_KEY = "ASIAIOSFODNN7EXAMPLE"


def create_user(name: str = "Mary", account: str = ACCOUNT) -> dict[str, Any]:
    user = {
        "userName": name,
        "userId": f"AIDA{name.upper()}",
        "arn": f"arn:aws:iam::{account}:user/team/{name}",
    }
    return a_record(responseElements={"user": user}, recipientAccountId=account)


def create_key(name: str = "Mary", key: str = NEW_KEY, account: str = ACCOUNT) -> dict[str, Any]:
    return a_record(
        eventName="CreateAccessKey",
        eventID=event_id(2),
        requestParameters={"userName": name},
        responseElements={
            "accessKey": {"userName": name, "accessKeyId": key, "status": "Active"},
        },
        recipientAccountId=account,
    )


def assume_role(key: str = SESSION_KEY, session: str = "etl") -> dict[str, Any]:
    return a_record(
        eventSource="sts.amazonaws.com",
        eventName="AssumeRole",
        eventID=event_id(3),
        requestParameters={
            "roleArn": f"arn:aws:iam::{ACCOUNT}:role/DataRole",
            "roleSessionName": session,
            "sourceIdentity": "mary@example.com",
        },
        responseElements={
            "credentials": {"accessKeyId": key, "sessionToken": "SECRET-TOKEN"},
            "assumedRoleUser": {
                "assumedRoleId": f"AROAIDPPEZS35WEXAMPLE:{session}",
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/{session}",
            },
        },
    )


def arn(identities: Identities, key: str = NEW_KEY) -> Any:
    return identities.resolve(key).user_identity.get("arn")


async def replay(identities: Identities, journal: MemoryJournal, batch: int = 1_000) -> int:
    """Lets a follower process all missed entries; returns their number."""
    count = 0
    while entries := await journal.read(await identities.cursor(), batch):
        await identities.process(entries)
        count += len(entries)
    return count


# Learning


@asynchronous
async def test_a_new_key_is_known_immediately() -> None:
    identities = Identities(MemoryControl())
    identities.learn(create_user())
    identities.learn(create_key())
    known = identities.resolve(NEW_KEY)
    assert known.account == ACCOUNT
    assert known.learned_from == event_id(2)
    assert known.as_record() == {
        "type": "IAMUser",
        "principalId": "AIDAMARY",
        "arn": f"arn:aws:iam::{ACCOUNT}:user/team/Mary",
        "accountId": ACCOUNT,
        "accessKeyId": NEW_KEY,
        "userName": "Mary",
    }


@asynchronous
async def test_a_role_session_is_known_immediately() -> None:
    identities = Identities(MemoryControl())
    identities.learn(assume_role())
    known = identities.resolve(SESSION_KEY).as_record()
    assert known["type"] == "AssumedRole"
    assert known["principalId"] == "AROAIDPPEZS35WEXAMPLE:etl"
    assert known["arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl"
    assert known["accessKeyId"] == SESSION_KEY
    assert known["sessionContext"]["sessionIssuer"]["userName"] == "DataRole"
    assert known["sessionContext"]["sourceIdentity"] == "mary@example.com"


@asynchronous
async def test_key_belongs_to_a_user_without_recorded_creation() -> None:
    identities = Identities(MemoryControl())
    identities.learn(create_key("Bob"))
    known = identities.resolve(NEW_KEY).user_identity
    assert known["arn"] == f"arn:aws:iam::{ACCOUNT}:user/Bob"
    assert known["userName"] == "Bob"
    assert "principalId" not in known


@asynchronous
async def test_namesakes_in_two_accounts_are_two_users() -> None:
    identities = Identities(MemoryControl())
    identities.learn(create_user("Mary"))
    identities.learn(create_key("Mary", "AKIATHEIRS", account="210987654321"))
    assert arn(identities, "AKIATHEIRS") == "arn:aws:iam::210987654321:user/Mary"


@pytest.mark.parametrize(
    "record",
    [
        {**create_key(), "errorCode": "AccessDenied"},
        {**create_key(), "responseElements": None},
        {**create_key(), "responseElements": {"accessKey": "odd"}},
        {**create_key(), "eventSource": "iam.example.com"},
        {**create_key(), "eventName": "ListAccessKeys"},
        a_record(eventSource="s3.amazonaws.com", responseElements=ABSENT),
    ],
    ids=["refused", "no answer", "odd answer", "another service", "another call", "s3"],
)
@asynchronous
async def test_other_records_teach_nothing(record: Mapping[str, Any]) -> None:
    control = MemoryControl()
    identities = Identities(control)
    identities.learn(record)
    await identities.process([an_entry(1, record)])
    assert identities.resolve(NEW_KEY).user_identity["type"] == "Unknown"
    assert await control.scan("identity") == []


# Recognizing


@asynchronous
async def test_stored_identities_survive_a_lost_journal() -> None:
    control, journal = MemoryControl(), MemoryJournal()
    session = assume_role()
    session["requestParameters"]["tags"] = [{"key": "agent", "value": "codex"}]
    session["requestParameters"]["transitiveTagKeys"] = ["Agent"]
    journal.disk.extend(entries_of([create_user(), create_key(), session]))
    identities = Identities(control)
    await replay(identities, journal)
    expected = [identities.resolve(key).as_record() for key in (NEW_KEY, SESSION_KEY)]

    later = Identities(MemoryControl(control.disk))
    await later.load()
    assert [later.resolve(key).as_record() for key in (NEW_KEY, SESSION_KEY)] == expected
    assert later.resolve(NEW_KEY).learned_from == event_id(2)
    assert later.resolve(SESSION_KEY).agent_tag == "agent=codex"
    assert later.resolve(SESSION_KEY).transitive_tags == {"agent": "codex"}
    assert await later.cursor() == 3
    later.learn(create_key("Mary", "AKIASECOND"))
    assert arn(later, "AKIASECOND") == f"arn:aws:iam::{ACCOUNT}:user/team/Mary"


@asynchronous
async def test_unstored_identities_are_relearned_from_the_journal() -> None:
    control, journal = MemoryControl(), MemoryJournal()
    first = Identities(control)
    for position, record in enumerate((create_user(), create_key()), 1):
        journal.disk.append(an_entry(position, record))
        first.learn(record)
    # The process dies before the follower processes anything.
    later = Identities(MemoryControl(control.disk))
    await later.load()
    assert arn(later) is None
    await replay(later, journal)
    assert arn(later) == arn(first) == f"arn:aws:iam::{ACCOUNT}:user/team/Mary"


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
@asynchronous
async def test_a_crash_anywhere_loses_no_identity(taken: int) -> None:
    control, journal = MemoryControl(), MemoryJournal()
    bob = create_user("Bob")
    records = [create_user(), bob, create_key(), *some_records(1, eventName="GetUser")]
    journal.disk.extend(entries_of(records))
    dying = Identities(control)
    for entry in journal.disk[:taken]:
        await dying.process([entry])
    later = Identities(MemoryControl(control.disk))
    await later.load()
    await replay(later, journal, batch=2)
    assert arn(later) == f"arn:aws:iam::{ACCOUNT}:user/team/Mary"
    assert await later.cursor() == 4


@asynchronous
async def test_a_repeated_batch_changes_nothing() -> None:
    control = MemoryControl()
    identities = Identities(control)
    batch = entries_of([create_user(), create_key()])
    await identities.process(batch)
    stored = [s.document for s in await control.scan("identity")]
    await identities.process(batch)
    assert [s.document for s in await control.scan("identity")] == stored
    assert await identities.cursor() == 2


@asynchronous
async def test_a_batch_that_failed_is_stored_on_repetition() -> None:
    class Failing(MemoryControl):
        failing = True

        async def apply(self, changes: Sequence[StoreWrite]) -> None:
            if self.failing:
                raise StorageFailed("disk full")
            await super().apply(changes)

    control = Failing()
    identities = Identities(control)
    batch = entries_of([create_user(), create_key()])
    with pytest.raises(StorageFailed):
        await identities.process(batch)
    assert await identities.cursor() == 0
    control.failing = False
    await identities.process(batch)
    later = Identities(MemoryControl(control.disk))
    await later.load()
    assert arn(later) == f"arn:aws:iam::{ACCOUNT}:user/team/Mary"


@pytest.mark.slow
@asynchronous
async def test_long_uninformative_stretches_are_read_once() -> None:
    control, journal = MemoryControl(), MemoryJournal()
    quiet = a_record(eventSource="s3.amazonaws.com", responseElements=None)
    journal.disk.extend(an_entry(position, quiet) for position in range(1, 30_001))
    identities = Identities(control)
    assert await replay(identities, journal) == 30_000
    later = Identities(MemoryControl(control.disk))
    await later.load()
    assert await replay(later, journal) <= 10_000


@asynchronous
async def test_imported_records_teach_nothing_about_our_keys() -> None:
    identities = Identities(MemoryControl())
    await identities.process([an_entry(1, create_key(), origin="import")])
    assert identities.resolve(NEW_KEY).user_identity["type"] == "Unknown"


@asynchronous
async def test_no_secret_reaches_the_store() -> None:
    control = MemoryControl()
    record = create_key()
    record["responseElements"]["accessKey"]["secretAccessKey"] = "SECRET-KEY"
    await Identities(control).process(entries_of([create_user(), record, assume_role()]))
    kept = json.dumps([text for _, text in control.disk.values()])
    assert NEW_KEY not in ("", kept)
    assert "SECRET" not in kept


# The directory, and unknown keys


@asynchronous
async def test_the_directory_takes_precedence_over_learned_identities() -> None:
    control = MemoryControl()
    given = an_identity("Given", key=NEW_KEY)
    identities = Identities(control, [given])
    assert identities.resolve(NEW_KEY) == given
    await identities.process(entries_of([create_user(), create_key()]))
    identities.learn(create_key())
    assert identities.resolve(NEW_KEY) == given
    without = Identities(MemoryControl(control.disk))
    await without.load()
    assert arn(without) == f"arn:aws:iam::{ACCOUNT}:user/team/Mary"


def test_an_unknown_key_is_marked_as_unknown() -> None:
    known = Identities(MemoryControl()).resolve("AKIAIOSFODNN7EXAMPLE")
    assert known.learned_from is None
    assert known.as_record() == {
        "type": "Unknown",
        "accountId": known.account,
        "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
    }


def test_an_unknown_key_belongs_to_its_encoded_account() -> None:
    identities = Identities(MemoryControl())
    assert identities.resolve(key_for_account("210987654321")).account == "210987654321"
    for odd in ("test", "", "AKIA", "AKIA!!!!", "ä"):
        assert identities.resolve(odd).account == DEFAULT_ACCOUNT


def test_a_directory_names_users_and_roots() -> None:
    encoded = key_for_account("210987654321")
    users = directory_identities(
        {
            "key-1": {"user": "John"},
            encoded: {"user": "Jane", "principal_id": "AIDAJANE"},
            "key-3": {"user": "Eve", "account": "111122223333", "arn": "arn:aws:iam::1:user/p/Eve"},
            "key-4": {"root": True, "account": 444455556666},
        }
    )
    found = {identity.access_key_id: identity for identity in users}
    assert found["key-1"].as_record() == {
        "type": "IAMUser",
        "arn": f"arn:aws:iam::{DEFAULT_ACCOUNT}:user/John",
        "accountId": DEFAULT_ACCOUNT,
        "accessKeyId": "key-1",
        "userName": "John",
    }
    assert found[encoded].account == "210987654321"
    assert found[encoded].user_identity["principalId"] == "AIDAJANE"
    assert found["key-3"].user_identity["arn"] == "arn:aws:iam::1:user/p/Eve"
    assert found["key-3"].account == "111122223333"
    assert found["key-4"].as_record() == {
        "type": "Root",
        "principalId": "444455556666",
        "arn": "arn:aws:iam::444455556666:root",
        "accountId": "444455556666",
        "accessKeyId": "key-4",
    }
    assert directory_identities({}) == []


@asynchronous
async def test_a_follower_accepts_entries_only_forward() -> None:
    identities = Identities(MemoryControl())
    entries: list[Entry] = entries_of(some_records(5))
    await identities.process(entries)
    assert await identities.cursor() == 5


@asynchronous
async def test_a_deleted_key_is_known_with_its_deletion() -> None:
    deleted = a_record(
        eventName="DeleteAccessKey",
        eventID=event_id(9),
        requestParameters={"accessKeyId": NEW_KEY},
        responseElements=None,
    )
    control = MemoryControl()
    first = Identities(control)
    await first.load()
    await first.process(entries_of([create_user(), create_key(), deleted]))
    second = Identities(control)
    await second.load()
    linked = KnownIdentities()
    for part in second.parts(100):
        linked.absorb(part)
    for identities in (first, second, linked):
        known = identities.resolve(NEW_KEY)
        assert known.deleted_by == event_id(9)
        assert known.user_identity["userName"] == "Mary"
        assert known.learned_from == event_id(2)


def update_user(name: str, **asked: str) -> dict[str, Any]:
    return a_record(
        eventName="UpdateUser",
        eventID=event_id(4),
        requestParameters={"userName": name, **asked},
        responseElements=None,
    )


@asynchronous
async def test_a_renamed_user_keeps_their_keys() -> None:
    control, records = (
        MemoryControl(),
        [create_user(), create_key(), create_key("John", "AKIAJOHN")],
    )
    records.append(update_user("Mary", newUserName="Marie"))
    identities = Identities(control)
    for record in records:
        identities.learn(record)
    entries = entries_of(records)
    await identities.process(entries)
    again = Identities(control)
    await again.load()
    for known in (identities, again):
        user = known.resolve(NEW_KEY).user_identity
        assert (user["userName"], user["principalId"]) == ("Marie", "AIDAMARY")
        assert user["arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/Marie"
        assert known.resolve("AKIAJOHN").user_identity["userName"] == "John"
    again.learn(create_key("Marie", "AKIASECOND"))
    assert again.resolve("AKIASECOND").user_identity["principalId"] == "AIDAMARY"


@pytest.mark.parametrize(
    ("asked", "arn"),
    [
        ({"newPath": "/staff/"}, f"arn:aws:iam::{ACCOUNT}:user/staff/Mary"),
        ({"newPath": "/", "newUserName": "M"}, f"arn:aws:iam::{ACCOUNT}:user/M"),
        ({}, f"arn:aws:iam::{ACCOUNT}:user/team/Mary"),
    ],
)
def test_a_user_may_get_another_path(asked: dict[str, str], arn: str) -> None:
    known = KnownIdentities()
    for record in (create_user(), create_key(), update_user("Mary", **asked)):
        known.learn(record)
    assert known.resolve(NEW_KEY).user_identity["arn"] == arn


def test_a_refused_change_leaves_a_user_unchanged() -> None:
    known = KnownIdentities()
    refused = update_user("Mary", newUserName="Marie") | {"errorCode": "EntityAlreadyExists"}
    for record in (create_user(), create_key(), refused):
        known.learn(record)
    assert known.resolve(NEW_KEY).user_identity["userName"] == "Mary"


@asynchronous
async def test_a_deleted_users_namesake_is_another_user() -> None:
    control = MemoryControl()
    ours = Identities(control)
    deleted = create_user() | {
        "eventName": "DeleteUser",
        "requestParameters": {"userName": "Mary"},
        "responseElements": None,
        "eventID": event_id(50),
    }
    for record in (records := [create_user(), create_key(), deleted, create_key(key="AKIAX")]):
        ours.learn(record)
    await ours.process(entries_of(records))
    assert await control.scan("iam-user") == []
    assert [part.users for part in ours.parts(100) if part.users] == []
    assert ours.resolve(NEW_KEY).user_identity["principalId"] == "AIDAMARY"
    assert "principalId" not in ours.resolve("AKIAX").user_identity


@asynchronous
async def test_newest_users_are_in_memory_and_all_stored() -> None:
    control = MemoryControl()
    ours, theirs = Identities(control, most_users=10), KnownIdentities(most_users=10)
    records = []
    for number in range(25):
        record = create_user(f"user{number}")
        record["responseElements"]["user"] |= {"userId": f"AIDA{number}"}
        records.append(record | {"eventID": event_id(100 + number)})
    for record in records:
        theirs.absorb(ours.learn(record))
    await ours.process(entries_of(records))
    again = Identities(control, most_users=10)
    await again.load()
    for known in (ours, theirs, again):
        assert sum(len(part.users) for part in known.parts(100)) <= 10
    assert len(await control.scan("iam-user")) == 25
    made = [create_key("user0", "AKIAOLD") | {"eventID": event_id(200)}]
    for known in (ours, again):
        known.learn(made[0])
        await known.process(entries_of(made))
        assert known.resolve("AKIAOLD").user_identity["principalId"] == "AIDA0"


@asynchronous
async def test_of_deleted_keys_the_oldest_are_forgotten() -> None:
    control = MemoryControl()
    ours = Identities(control, most_sessions=10)
    keys = [f"AKIA{number:016d}" for number in range(25)]
    records = []
    for number, key in enumerate(keys):
        records.append(create_key(key=key) | {"eventID": event_id(100 + number)})
        gone = {
            "eventName": "DeleteAccessKey",
            "requestParameters": {"accessKeyId": key},
            "responseElements": None,
            "eventID": event_id(200 + number),
        }
        records.append(create_key(key=key) | gone)
    for record in records:
        ours.learn(record)
    await ours.process(entries_of(records))
    known = [key for key in keys if ours.resolve(key).user_identity["type"] == "IAMUser"]
    assert known == keys[-len(known) :]
    assert len(known) <= 10
    assert {stored.key for stored in await control.scan("identity")} == set(known)


@asynchronous
async def test_learned_identities_reach_other_processes_whole() -> None:
    ours = Identities(MemoryControl())
    learned = [ours.learn(record) for record in (create_user(), create_key(), assume_role())]
    theirs = KnownIdentities()
    for taught in learned:
        sent = msgspec.msgpack.encode(taught)
        assert msgspec.msgpack.decode(sent, type=Learned) == taught
        theirs.absorb(taught)
    for key in (NEW_KEY, SESSION_KEY):
        assert theirs.resolve(key) == ours.resolve(key)
    assert list(theirs.parts(100)) == list(ours.parts(100))


@asynchronous
async def test_of_temporary_keys_the_oldest_are_forgotten_everywhere() -> None:
    control, journal = MemoryControl(), MemoryJournal()
    ours, theirs = Identities(control, most_sessions=10), KnownIdentities(most_sessions=10)
    ours.learn(create_key())
    keys = [f"ASIA{number:016d}" for number in range(25)]
    for number, key in enumerate(keys):
        record = assume_role(key)
        record["eventTime"] = f"2026-01-01T00:00:{number:02d}Z"
        record["eventID"] = event_id(100 + number)
        theirs.absorb(ours.learn(record))
        journal.disk.append(an_entry(number + 1, record))
        await replay(ours, journal)
    again = Identities(control, most_sessions=10)
    await again.load()
    for known in (ours, theirs, again):
        types = [known.resolve(key).user_identity["type"] for key in keys]
        assert types == ["Unknown"] * 16 + ["AssumedRole"] * 9
    assert ours.resolve(NEW_KEY).user_identity["userName"] == "Mary"
    assert len(await control.scan("identity")) == 9


def session_records(count: int, expiration: str = "Jan 2, 2026, 1:00:00 AM") -> list[Any]:
    """Returns calls that create temporary keys, all at the same time."""
    records = []
    for number in range(count):
        record = assume_role(f"ASIA{number:016d}", f"session-{number}")
        record["responseElements"]["credentials"]["expiration"] = expiration
        created = {"eventTime": "2026-01-01T00:00:00Z", "eventID": event_id(100 + number)}
        records.append(record | created)
    return records


@pytest.mark.slow
@asynchronous
async def test_no_live_session_becomes_unknown() -> None:
    control, records = MemoryControl(), session_records(25_000)
    ours, theirs = Identities(control, most_sessions=25_000), KnownIdentities(most_sessions=25_000)
    for start in range(0, len(records), 1_000):
        for record in (batch := records[start : start + 1_000]):
            ours.learn(record)
        await ours.process(entries_of(batch))
    again = Identities(control, most_sessions=25_000)
    await again.load()
    for part in again.parts(7_000):
        theirs.absorb(part)
    for known in (ours, again, theirs):
        for number, record in enumerate(records):
            key = record["responseElements"]["credentials"]["accessKeyId"]
            identity = known.resolve(key)
            assert identity.user_identity["arn"].endswith(f"/session-{number}")
            assert identity.expires == "2026-01-02T01:00:00Z"
        assert known.problems == []


@asynchronous
async def test_forgotten_live_sessions_are_a_problem() -> None:
    control, records = MemoryControl(), session_records(11)
    ours = Identities(control, most_sessions=10)
    for record in records:
        ours.learn(record)
    assert ours.problems == [
        "2 temporary keys were forgotten before they expired: "
        "calls with them are recorded as Unknown"
    ]
    await ours.process(entries_of(records))
    assert len(await control.scan("identity")) == 9
    expired = Identities(control, most_sessions=10)
    for record in [*session_records(10, "Jan 1, 2026, 12:00:00 AM"), assume_role()]:
        expired.learn(record)
    assert expired.problems == []


@asynchronous
async def test_renamed_user_keeps_sessions() -> None:
    ours = Identities(MemoryControl())
    for record in (create_user(), create_key()):
        ours.learn(record)
    session = assume_role() | {
        "eventName": "GetSessionToken",
        "userIdentity": ours.resolve(NEW_KEY).as_record(),
    }
    del session["responseElements"]["assumedRoleUser"]
    ours.learn(session)
    rename = create_user() | {
        "eventName": "UpdateUser",
        "requestParameters": {"userName": "Mary", "newUserName": "Ann"},
        "responseElements": None,
    }
    ours.learn(rename)
    for key in (NEW_KEY, SESSION_KEY):
        assert ours.resolve(key).user_identity["userName"] == "Ann"


def test_directorys_user_has_the_id_in_a_record() -> None:
    known = KnownIdentities(directory_identities({NEW_KEY: {"user": "Mary", "account": ACCOUNT}}))
    assert "principalId" not in known.resolve(NEW_KEY).as_record()
    known.learn(create_user())
    caller = known.resolve(NEW_KEY).as_record()
    assert list(caller)[:2] == ["type", "principalId"]
    assert caller["principalId"] == "AIDAMARY"


class StoredMeanwhile(MemoryControl):
    """A control store into which another server stores an identity while this one reads it."""

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        found = await super().scan(kind, prefix)
        if kind == "identity":
            await self.apply([Put("place", "identities", {"position": 2})])
        return found


@asynchronous
async def test_start_reads_concurrent_entries_from_the_journal() -> None:
    control = StoredMeanwhile()
    identities = Identities(control, is_stored=False)
    await identities.load()
    assert await identities.cursor() == 0
    await identities.process(entries_of([create_user(), create_key()]))
    assert identities.resolve(NEW_KEY).user_identity["userName"] == "Mary"
    assert await identities.cursor() == 2
    assert await identities.stored_cursor() == 2
    assert {kind for kind, _ in control.disk} == {"place"}


@asynchronous
async def test_keys_without_an_account_get_the_upstreams() -> None:
    control = MemoryControl()
    identities = Identities(control)
    assert (identities.account, identities.known_account) == (DEFAULT_ACCOUNT, None)
    spread: list[Learned] = []

    async def share(learned: Learned) -> None:
        spread.append(learned)

    identities.share_with(share)
    await identities.know_account("000000000000")
    await identities.know_account("000000000000")
    assert [each.account for each in spread] == ["000000000000"]
    assert identities.resolve("test").account == "000000000000"
    other = KnownIdentities()
    for part in identities.parts(100):
        other.absorb(part)
    assert other.resolve("test").account == "000000000000"
    again = Identities(control)
    await again.load()
    assert again.known_account == "000000000000"


@asynchronous
async def test_only_the_first_learned_account_is_stored() -> None:
    control = MemoryControl()
    identities = Identities(control)
    for account in ("000000000000", "111122223333"):
        record = a_record(
            userIdentity={"type": "Unknown", "accountId": account, "accessKeyId": "test"},
            recipientAccountId=account,
            responseElements={
                "user": {"userName": "Mary", "arn": f"arn:aws:iam::{account}:user/Mary"}
            },
        )
        identities.learn(record)
        assert identities.known_account == "000000000000"
        await identities.process([an_entry(1, record)])
    again = Identities(control)
    await again.load()
    assert again.known_account == "000000000000"


@asynchronous
async def test_the_number_of_unlearned_identities_is_limited() -> None:
    identities = Identities(MemoryControl(), most_sessions=10)
    for number in range(50):
        await identities.take(Learned((an_identity(key=f"key-{number}"),)))
    assert sum(not identities.is_stranger(f"key-{number}") for number in range(50)) <= 10
    assert not identities.is_stranger("key-49")
