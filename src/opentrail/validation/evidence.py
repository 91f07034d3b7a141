"""Finds events that begin or end a chain of digests, in proven log files only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from opentrail.core.errors import ObjectStoreError
from opentrail.validation.chains import Chain, DigestFile, Ending
from opentrail.validation.content import MAX_LOG_BYTES, BadContent, records_in, unpack
from opentrail.validation.digests import ListedLog
from opentrail.validation.inventory import Inventory
from opentrail.validation.names import ChainId, read_time

_SOURCE = "cloudtrail.amazonaws.com"
_START = "StartLogging"
_NAMES = (_START, "StopLogging", "DeleteTrail", "UpdateTrail")
#: Maximum delay between a call and the delivery of its event.
_LATE = timedelta(minutes=30)


class Evidence:
    """Finds calls that started or stopped logging or validation.

    They are events of the trail's home Region, so the log files of that Region's chain have them.
    """

    def __init__(self, inventory: Inventory, chains: Mapping[ChainId, Chain]) -> None:
        self._inventory = inventory
        self._chains = chains
        self._known: dict[str, list[Mapping[str, Any]]] = {}

    def has_events(self, chain: ChainId) -> bool:
        """Returns whether the chain of the trail's home Region is available."""
        return any(True for _ in self._home(chain))

    def ending(self, chain: ChainId, file: DigestFile) -> Ending | None:
        """Returns the event that ended a chain whose last digest is `file`."""
        events = self._events(chain, file)
        return next((event for event in events if event.name != _START), None)

    def is_start(self, chain: ChainId, file: DigestFile) -> bool:
        """Returns whether logging, not only validation, started with a digest."""
        return any(event.name == _START for event in self._events(chain, file))

    def _events(self, chain: ChainId, file: DigestFile) -> Iterator[Ending]:
        if file.digest is None:
            return
        begin, end = file.digest.start - _LATE, file.digest.end
        for home in self._home(chain):
            is_own = home.id == chain
            for other in [file] if is_own else home.good:
                if other.digest is None or not other.is_proven:
                    continue
                # When logging ends, the last digests of all Regions end at about the same time.
                if other.digest.end <= begin or other.digest.start >= end:
                    continue
                for event in self._in(other, chain):
                    if is_own or begin <= event.time <= end:
                        yield event

    def _home(self, chain: ChainId) -> Iterator[Chain]:
        for other in self._chains.values():
            its = other.id
            if (its.trail, its.home_region) != (chain.trail, chain.home_region) or its.backfill:
                continue
            # The calls on an organization's trail are made in its management account.
            is_owner = its.account == chain.account or its.organization == chain.organization != ""
            if its.region == its.home_region and is_owner and other.good:
                yield other

    def _in(self, file: DigestFile, chain: ChainId) -> list[Ending]:
        if file.address not in self._known:
            logs = file.digest.logs() if file.digest else iter(())
            self._known[file.address] = [record for log in logs for record in self._read(log)]
        return [event for record in self._known[file.address] if (event := _event(record, chain))]

    def _read(self, log: ListedLog) -> list[Mapping[str, Any]]:
        """Returns CloudTrail's own events in a log file; [] if the file was altered."""
        try:
            location = self._inventory.open(log.bucket, log.key)
            if location is None:
                return []
            try:
                content = unpack(location[2].stream, MAX_LOG_BYTES)
            finally:
                location[2].stream.close()
        except (ObjectStoreError, BadContent):
            return []
        if hashlib.sha256(content).hexdigest() != log.sha256:
            return []
        if not any(name.encode() in content for name in _NAMES):
            return []
        return [record for record in records_in(content) if _is_own(record)]


def starts_logging(content: bytes, chain: ChainId) -> bool:
    """Returns whether a log file has the event that started logging of a chain's trail."""
    if _START.encode() not in content:
        return False
    events = (_event(record, chain) for record in records_in(content) if _is_own(record))
    return any(event is not None and event.name == _START for event in events)


def _is_own(record: Mapping[str, Any]) -> bool:
    return (
        record.get("eventSource") == _SOURCE
        and record.get("eventName") in _NAMES
        and not record.get("errorCode")
        and isinstance(record.get("requestParameters"), dict)
    )


def _event(record: Mapping[str, Any], chain: ChainId) -> Ending | None:
    """Returns the record as an event if it begins or ends a chain of this trail."""
    name, parameters = record["eventName"], record["requestParameters"]
    trail = str(parameters.get("name", ""))
    if trail != chain.trail and not trail.endswith(
        f":{chain.home_region}:{_arn_end(chain, trail)}"
    ):
        return None
    if name == "UpdateTrail" and not _ends(parameters, chain):
        return None
    try:
        return Ending(str(name), read_time(record.get("eventTime")))
    except ValueError:
        return None


def _arn_end(chain: ChainId, arn: str) -> str:
    account = arn.split(":")[4] if arn.count(":") >= 5 else ""
    return f"{account}:trail/{chain.trail}"


def _ends(parameters: Mapping[str, Any], chain: ChainId) -> bool:
    """Returns whether an UpdateTrail stopped the digests of a chain."""
    if parameters.get("enableLogFileValidation") is False:
        return True
    return parameters.get("isMultiRegionTrail") is False and chain.region != chain.home_region
