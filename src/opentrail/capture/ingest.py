"""Records that other processes made (hooks, middleware), checked before they enter the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from opentrail.capture.safe_json import to_bytes
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import MANAGEMENT, NewEntry, Record, is_region, parse_time
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity
from opentrail.core.resources import GLOBAL_REGION
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter

#: Records of one request.
MAX_RECORDS = 10_000
_NEEDED = ("eventSource", "eventName", "eventTime", "eventID")


class Ingest:
    """Takes records in; who is behind their keys is filled in here."""

    def __init__(
        self,
        journal: JournalWriter,
        resolve: Callable[[str], Identity],
        learn: Callable[[Record], Any],
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._resolve = resolve
        self._learn = learn
        self._clock = clock

    async def take(self, body: bytes) -> int:
        """Appends NDJSON records, all or none; returns how many.

        Raises:
            CloudTrailError: a line is no record; the text names line and member.
            RecordRefused: the journal cannot take them now.
        """
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > MAX_RECORDS:
            raise _refused(f"at most {MAX_RECORDS} records fit in a request, not {len(lines)}")
        taken = [self._checked(number, line) for number, line in enumerate(lines, 1)]
        if not taken:
            return 0
        await self._journal.append([entry for entry, _ in taken])
        for _, record in taken:
            self._learn(record)
        return len(taken)

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
        for member, default in (
            ("recipientAccountId", DEFAULT_ACCOUNT),
            ("awsRegion", GLOBAL_REGION),
            ("eventCategory", MANAGEMENT),
        ):
            if not isinstance(record.get(member), str) or not record[member]:
                record[member] = default
        return record


def _refused(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidParameterException", message)
