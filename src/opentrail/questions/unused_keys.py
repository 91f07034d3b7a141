"""Access keys that were never used."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec
import orjson

from opentrail.core.event import Record, as_object, format_time
from opentrail.core.facts import AccountId, EventId, KeyId, Time
from opentrail.questions.question import Account, Asked, Limit, Question, Since

if TYPE_CHECKING:
    from opentrail.ports.event_store import FoundEvent

#: Maximum creations, and deletions, of keys to read; each creation needs a lookup.
_MAX_READ = 1_000


class UnusedKey(msgspec.Struct, frozen=True):
    """An access key, and the call that created it."""

    accessKeyId: KeyId
    created: Time
    eventId: EventId
    account: AccountId | None
    #: The owner of the key.
    userName: str | None
    #: ARN of the caller who created it.
    createdBy: str | None


class UnusedKeysAnswer(msgspec.Struct, frozen=True):
    """Created access keys that no call has used and no recorded call has deleted."""

    keys: list[UnusedKey]
    #: Whether `keys` is complete, not only the newest keys.
    complete: bool
    #: A description of each range missing from event history; a call there may have used a key.
    missing: list[str]


class UnusedKeys(Question, frozen=True, kw_only=True):
    """Returns created access keys that no recorded call has used, newest first."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "find access keys that no call has used"

    since: Since = "90d"
    account: Account | None = None
    limit: Limit = 100

    async def answer(self, asked: Asked) -> UnusedKeysAnswer:
        """Compares creations of keys with deletions, and counts the calls of each key."""
        from opentrail.history.event_history import Search
        from opentrail.history.written_searches import time_in

        start = time_in("since", self.since, asked.now)

        async def calls(event_name: str) -> list[FoundEvent]:
            search = Search(attribute=("EventName", event_name), account=self.account, start=start)
            return await asked.history.latest(search, _MAX_READ)

        created, deleted = await calls("CreateAccessKey"), await calls("DeleteAccessKey")
        gone = {_deleted_key(orjson.loads(event.record)) for event in deleted}
        found: list[UnusedKey] = []
        for event in created:
            key = _created_key(event)
            if key is None or key.accessKeyId in gone:
                continue
            used = Search(attribute=("AccessKeyId", key.accessKeyId), categories=None)
            if await asked.history.latest(used, 1):
                continue
            if len(found) == self.limit:
                return UnusedKeysAnswer(found, complete=False, missing=asked.missing)
            found.append(key)
        is_complete = len(created) < _MAX_READ and len(deleted) < _MAX_READ
        return UnusedKeysAnswer(found, is_complete, asked.missing)


def _created_key(event: FoundEvent) -> UnusedKey | None:
    """Returns the key that a call created; None for a failed call."""
    record: Record = orjson.loads(event.record)
    key = as_object(as_object(record.get("responseElements")).get("accessKey"))
    key_id = key.get("accessKeyId")
    if record.get("errorCode") is not None or not isinstance(key_id, str):
        return None
    account, arn = record.get("recipientAccountId"), record["userIdentity"].get("arn")
    time = format_time(event.event_time)
    return UnusedKey(key_id, time, event.event_id, account, key.get("userName"), arn)


def _deleted_key(record: Record) -> object:
    """Returns the id of the key that a call deleted; None for a failed call."""
    parameters = as_object(record.get("requestParameters"))
    return None if record.get("errorCode") else parameters.get("accessKeyId")
