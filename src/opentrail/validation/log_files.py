"""Fetches log files in threads and compares their hashes with those in the digests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.validation.bucket_objects import Inventory, Opened
from opentrail.validation.content import BadContent, Hashed, hash_unpacked
from opentrail.validation.digests import ListedLog
from opentrail.validation.report import ChainCount, FindingKind, Report

#: Concurrent fetches; as many again are queued.
THREADS = 16
_READ_BYTES = 256 * 1024

#: Opens the copy of an object.
OpenCopy = Callable[[str, str], BinaryIO]


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """The result for a log file."""

    log: ListedLog
    address: str
    hashed: Hashed | None = None
    #: Why the file is invalid or cannot be checked; None if it is valid.
    reason: str | None = None
    is_missing: bool = False
    is_unknown: bool = False


class LogChecks:
    """Checks log files and collects those that are not valid."""

    def __init__(
        self,
        inventory: Inventory,
        report: Report,
        advance: Callable[[int, int], object],
        open_copy: OpenCopy | None = None,
    ) -> None:
        self._inventory = inventory
        self._report = report
        self._advance = advance
        self._open_copy = open_copy
        self.bad: list[CheckedLog] = []

    def check(self, logs: Iterable[tuple[ListedLog, ChainCount]]) -> None:
        """Checks log files and adds each result to its count."""
        waiting: deque[tuple[Future[CheckedLog], ChainCount]] = deque()
        pool = ThreadPoolExecutor(THREADS)
        try:
            for log, count in logs:
                if len(waiting) >= 2 * THREADS:
                    self._collect(*waiting.popleft())
                waiting.append((pool.submit(self._check, log), count))
            while waiting:
                self._collect(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def report_bad(self, extra: dict[str, str]) -> None:
        """Reports the log files that are not valid, and where their content is now.

        Args:
            extra: addresses of files that no digest lists, by the hash of their content.
        """
        address_of = {checked.log.sha256: checked.address for checked in self.bad}
        for checked in self.bad:
            reason = checked.reason or ""
            if checked.is_missing and checked.log.sha256 in extra:
                reason = f"has been renamed to {extra[checked.log.sha256]}"
            elif checked.hashed is not None and checked.hashed.sha256 in address_of:
                reason = f"holds the content of {address_of[checked.hashed.sha256]}"
            add = self._report.unknown if checked.is_unknown else self._report.bad
            add(FindingKind.LOG, checked.address, reason)

    @property
    def is_any_missing(self) -> bool:
        return any(checked.is_missing for checked in self.bad)

    def _collect(self, future: Future[CheckedLog], count: ChainCount) -> None:
        checked = future.result()
        count.logs += 1
        if checked.reason is None:
            count.good_logs += 1
        else:
            self.bad.append(checked)
        if checked.hashed is not None:
            self._report.bytes_unpacked += checked.hashed.unpacked
        self._advance(checked.hashed.packed if checked.hashed else 0, 1)

    def _check(self, log: ListedLog) -> CheckedLog:
        address = f"s3://{log.bucket}/{log.key}"
        try:
            location = self._inventory.open(log.bucket, log.key)
            if location is None:
                reason = "is in a place that was not given"
                return CheckedLog(log, address, reason=reason, is_unknown=True)
            root, tail, opened = location
            address = root.address(tail)
            hashed = self._hash(log, opened)
        except ObjectMissing:
            return CheckedLog(log, address, reason="is missing", is_missing=True)
        except ObjectStoreError as error:
            return CheckedLog(log, address, reason=f"cannot be read: {error}", is_unknown=True)
        except BadContent as error:
            return CheckedLog(log, address, reason=str(error))
        if hashed.sha256 != log.sha256:
            return CheckedLog(log, address, hashed, "hash value doesn't match")
        return CheckedLog(log, address, hashed)

    def _hash(self, log: ListedLog, opened: Opened) -> Hashed:
        with closing(opened.stream) as stream:
            if self._open_copy is None:
                return hash_unpacked(stream)
            with self._open_copy(log.bucket, log.key) as copy:
                try:
                    return hash_unpacked(stream, keep=copy.write)
                except BadContent:
                    while piece := stream.read(_READ_BYTES):
                        copy.write(piece)
                    raise
