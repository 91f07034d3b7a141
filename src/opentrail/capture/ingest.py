"""Records that other processes made (hooks, middleware), checked before they enter the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from opentrail.capture.record.assemble import UNVERIFIED
from opentrail.capture.record.limits import to_bytes
from opentrail.core.errors import CloudTrailError, RecordRefused
from opentrail.core.event import (
    MANAGEMENT,
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
#: So many records are known to have been taken; of older ones the journal is asked.
_REMEMBERED = 20_000
_Checked = tuple[NewEntry, Record]
_NEEDED = ("eventSource", "eventName", "eventTime", "eventID")


class Ingest:
    """Takes records in; who is behind their keys is filled in here."""

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
        #: Event ids, the latest last; while a record is not durable yet, what waits for it.
        self._taken: dict[str, asyncio.Future[None] | None] = {}

    async def take(self, body: bytes, again: bool = False) -> int:
        """Appends NDJSON records, all or none; returns how many.

        A record whose event id was taken before is not taken twice.

        Args:
            body: the records.
            again: whether they may have been sent before, to a server that ran before this one.

        Raises:
            CloudTrailError: a line is no record; the text names line and member.
            RecordRefused: the journal cannot take them now.
        """
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > MAX_RECORDS:
            raise _refused(f"at most {MAX_RECORDS} records fit in a request, not {len(lines)}")
        taken = [self._checked(number, line) for number, line in enumerate(lines, 1)]
        known = {e.event_id for e, _ in taken if again and await self._is_kept(e.event_id)}
        # Whoever sent a record twice hears of it when it is durable, or is not.
        awaited = {w for e, _ in taken if (w := self._taken.get(e.event_id)) is not None}
        new, durable = [], asyncio.get_running_loop().create_future()
        for entry, record in taken:
            if entry.event_id not in known and entry.event_id not in self._taken:
                self._taken[entry.event_id] = durable
                new.append((entry, record))
        if new:
            await self._append(new, durable)
        await asyncio.gather(*awaited)
        return len(taken)

    async def _is_kept(self, event_id: str) -> bool:
        return event_id not in self._taken and await self._journal.find(event_id) is not None

    async def _append(self, new: Sequence[_Checked], durable: asyncio.Future[None]) -> None:
        try:
            await self._journal.append([entry for entry, _ in new])
        except BaseException as error:
            for entry, _ in new:
                del self._taken[entry.event_id]
            durable.set_exception(RecordRefused(f"the record could not be stored: {error}"))
            durable.exception()  # nobody may be waiting
            raise
        durable.set_result(None)
        for entry, record in new:
            self._taken[entry.event_id] = None
            self._learn(record)
        if len(self._taken) > 2 * _REMEMBERED:
            self._taken = dict(list(self._taken.items())[-_REMEMBERED:])

    def _checked(self, number: int, line: bytes) -> tuple[NewEntry, Record]:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _refused(f"line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise _refused(f"line {number} is not a JSON object")
        for member in _NEEDED:
            if not isinstance(record.get(member), str) or not record[member]:
                raise _refused(f"line {number}: {member} must be a text")
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

    def _completed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Fills in what every record has, and who is behind the key if the sender did not know."""
        identity = record.get("userIdentity")
        if isinstance(identity, Mapping) and identity.get("type") == "Unknown":
            key = identity.get("accessKeyId")
            if isinstance(key, str) and key:
                known = self._resolve(key)
                record["userIdentity"] = known.as_record()
                record["recipientAccountId"] = known.account
                if known.user_identity.get("type") != "Unknown":
                    _drop_note(record)
        for member, default in (
            ("recipientAccountId", DEFAULT_ACCOUNT),
            ("awsRegion", GLOBAL_REGION),
            ("eventCategory", MANAGEMENT),
        ):
            if not isinstance(record.get(member), str) or not record[member]:
                record[member] = default
        return record


def _drop_note(record: dict[str, Any]) -> None:
    """Removes the sender's note that it does not know who called."""
    extra = as_object(record.get("additionalEventData"))
    own = as_object(extra.get("opentrail"))
    if own.get("identity") != UNVERIFIED:
        return
    kept = {name: note for name, note in own.items() if name != "identity"}
    shown = {name: item for name, item in extra.items() if name != "opentrail"}
    record["additionalEventData"] = {**shown, **({"opentrail": kept} if kept else {})}
    if not record["additionalEventData"]:
        del record["additionalEventData"]


def _refused(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidParameterException", message)
