"""Records of other processes (hooks, middleware), validated before they enter the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from opentrail.capture.record.assemble import UNVERIFIED
from opentrail.capture.record_limits import to_bytes
from opentrail.core.errors import CloudTrailError, RecordRefused
from opentrail.core.event import (
    MANAGEMENT,
    Json,
    NewEntry,
    Record,
    as_object,
    is_account,
    is_region,
    parse_time,
)
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity
from opentrail.core.trail import GLOBAL_REGION
from opentrail.ports.clock import Clock
from opentrail.ports.journal import Journal

#: Records of one request.
MAX_RECORDS = 10_000
#: Maximum event ids in memory; older ones are looked up in the journal.
_REMEMBERED = 20_000
_Checked = tuple[NewEntry, Record]
_NEEDED = ("eventSource", "eventName", "eventTime", "eventID")


class Ingest:
    """Appends records of other processes, and fills in the identities behind their keys."""

    def __init__(
        self,
        journal: Journal,
        resolve: Callable[[str], Identity],
        learn: Callable[[Record], Any],
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._resolve = resolve
        self._learn = learn
        self._clock = clock
        #: Recent event ids in order; with a future until the record is durable.
        self._seen: dict[str, asyncio.Future[None] | None] = {}

    async def take(self, body: bytes, again: bool = False) -> int:
        """Appends NDJSON records, all or none; returns their number.

        Skips records whose event id is already in the journal.

        Args:
            body: the records.
            again: whether they may have been sent to a previous server.

        Raises:
            CloudTrailError: a line is not a record; the message names line and member.
            RecordRefused: the journal cannot append them now.
        """
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > MAX_RECORDS:
            raise _refused(f"at most {MAX_RECORDS} records fit in a request, not {len(lines)}")
        checked = [self._checked(number, line) for number, line in enumerate(lines, 1)]
        stored_ids = {e.event_id for e, _ in checked if again and await self._is_stored(e.event_id)}
        # A record that another request is appending must also be durable.
        awaited = {w for e, _ in checked if (w := self._seen.get(e.event_id)) is not None}
        fresh, durable = [], asyncio.get_running_loop().create_future()
        for entry, record in checked:
            if entry.event_id not in stored_ids and entry.event_id not in self._seen:
                self._seen[entry.event_id] = durable
                fresh.append((entry, record))
        if fresh:
            await self._append(fresh, durable)
        await asyncio.gather(*awaited)
        return len(checked)

    async def _is_stored(self, event_id: str) -> bool:
        return event_id not in self._seen and await self._journal.find(event_id) is not None

    async def _append(self, fresh: Sequence[_Checked], durable: asyncio.Future[None]) -> None:
        try:
            await self._journal.append([entry for entry, _ in fresh])
        except BaseException as error:
            for entry, _ in fresh:
                del self._seen[entry.event_id]
            durable.set_exception(RecordRefused(f"the record could not be stored: {error}"))
            durable.exception()  # so that it does not count as unhandled
            raise
        durable.set_result(None)
        for entry, record in fresh:
            self._seen[entry.event_id] = None
            self._learn(record)
        if len(self._seen) > 2 * _REMEMBERED:
            self._seen = dict(list(self._seen.items())[-_REMEMBERED:])

    def _checked(self, number: int, line: bytes) -> tuple[NewEntry, Record]:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _refused(f"line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise _refused(f"line {number} is not a JSON object")
        for member in _NEEDED:
            if not isinstance(record.get(member), str) or not record[member]:
                raise _refused(f"line {number}: {member} must be a string")
        try:
            parse_time(record["eventTime"])
        except ValueError as error:
            raise _refused(f"line {number}: eventTime must be like 2020-01-01T09:00:00Z") from error
        raw = to_bytes(self._completed(record))
        if not is_region(record["awsRegion"]):
            raise _refused(f"line {number}: awsRegion must be like us-east-1")
        if not is_account(record["recipientAccountId"]):
            raise _refused(f"line {number}: recipientAccountId must be 12 digits")
        entry = NewEntry(
            "hook",
            self._clock.now(),
            record["recipientAccountId"],
            record["awsRegion"],
            record["eventCategory"],
            record["eventID"],
            raw,
        )
        return entry, record

    def _completed(self, record: Json) -> Json:
        """Fills in required members, and an identity unknown to the sender."""
        identity = record.get("userIdentity")
        if isinstance(identity, Mapping) and identity.get("type") == "Unknown":
            key = identity.get("accessKeyId")
            if isinstance(key, str) and key:
                caller = self._resolve(key)
                record["userIdentity"] = caller.as_record()
                record["recipientAccountId"] = caller.account
                if caller.user_identity.get("type") != "Unknown":
                    _drop_note(record)
        for member, default in (
            ("recipientAccountId", DEFAULT_ACCOUNT),
            ("awsRegion", GLOBAL_REGION),
            ("eventCategory", MANAGEMENT),
        ):
            if not isinstance(record.get(member), str) or not record[member]:
                record[member] = default
        return record


def _drop_note(record: Json) -> None:
    """Removes the sender's note about an unknown caller."""
    extra = as_object(record.get("additionalEventData"))
    notes = as_object(extra.get("opentrail"))
    if notes.get("identity") != UNVERIFIED:
        return
    other_notes = {name: note for name, note in notes.items() if name != "identity"}
    other_data = {name: item for name, item in extra.items() if name != "opentrail"}
    record["additionalEventData"] = {
        **other_data,
        **({"opentrail": other_notes} if other_notes else {}),
    }
    if not record["additionalEventData"]:
        del record["additionalEventData"]


def _refused(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidParameterException", message)
