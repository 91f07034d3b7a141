"""Log files: fetched and hashed by many threads, compared with what digests list."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.validation.content import BadContent, Hashed, hash_unpacked
from opentrail.validation.digests import ListedLog
from opentrail.validation.inventory import Inventory, Opened
from opentrail.validation.report import ChainCount, FindingKind, Report

#: Fetches at a time; as many again wait for their turn, and no more are thought of.
THREADS = 16
_READ = 256 * 1024

#: Gives what takes an object's bytes as they are read, and whom to tell that they are whole.
Keep = Callable[[str, str], tuple[Callable[[bytes], object], Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a log file."""

    log: ListedLog
    told: str
    hashed: Hashed | None = None
    #: Why it is not good, or cannot be known to be; None if it is good.
    reason: str | None = None
    is_missing: bool = False
    is_unknown: bool = False


class LogChecks:
    """Checks log files and keeps what is not good, to tell what became of it."""

    def __init__(
        self,
        inventory: Inventory,
        report: Report,
        advance: Callable[[int, int], object],
        keep: Keep | None = None,
    ) -> None:
        self._inventory = inventory
        self._report = report
        self._advance = advance
        self._keep = keep
        self.bad: list[Checked] = []

    def check(self, listed: Iterable[tuple[ListedLog, ChainCount]]) -> None:
        """Checks all, and counts those that are good in what stands beside them."""
        waiting: deque[tuple[Future[Checked], ChainCount]] = deque()
        pool = ThreadPoolExecutor(THREADS)
        try:
            for log, count in listed:
                if len(waiting) >= 2 * THREADS:
                    self._settle(*waiting.popleft())
                waiting.append((pool.submit(self._check, log), count))
            while waiting:
                self._settle(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def tell(self, extra: dict[str, str]) -> None:
        """Names every log file that is not good, and what became of it.

        Args:
            extra: names of files that no digest lists, by the hash of what they hold.
        """
        listed = {checked.log.sha256: checked.told for checked in self.bad}
        for checked in self.bad:
            reason = checked.reason or ""
            if checked.is_missing and checked.log.sha256 in extra:
                reason = f"has been renamed to {extra[checked.log.sha256]}"
            elif checked.hashed is not None and checked.hashed.sha256 in listed:
                reason = f"holds the content of {listed[checked.hashed.sha256]}"
            say = self._report.unknown if checked.is_unknown else self._report.bad
            say(FindingKind.LOG, checked.told, reason)

    @property
    def is_any_missing(self) -> bool:
        """Whether a log file is not there."""
        return any(checked.is_missing for checked in self.bad)

    def _settle(self, future: Future[Checked], count: ChainCount) -> None:
        checked = future.result()
        count.logs += 1
        if checked.reason is None:
            count.good_logs += 1
        else:
            self.bad.append(checked)
        if checked.hashed is not None:
            self._report.bytes_unpacked += checked.hashed.unpacked
        self._advance(checked.hashed.packed if checked.hashed else 0, 1)

    def _check(self, log: ListedLog) -> Checked:
        address = f"s3://{log.bucket}/{log.key}"
        try:
            found = self._inventory.open(log.bucket, log.key)
            if found is None:
                reason = "is in a place that was not given"
                return Checked(log, address, reason=reason, is_unknown=True)
            root, tail, opened = found
            told = root.told(tail)
            hashed = self._hash(log, opened)
        except ObjectMissing:
            return Checked(log, address, reason="is missing", is_missing=True)
        except ObjectStoreError as error:
            return Checked(log, address, reason=f"cannot be read: {error}", is_unknown=True)
        except BadContent as error:
            return Checked(log, told, reason=str(error))
        if hashed.sha256 != log.sha256:
            return Checked(log, told, hashed, "hash value doesn't match")
        return Checked(log, told, hashed)

    def _hash(self, log: ListedLog, opened: Opened) -> Hashed:
        with closing(opened.stream) as stream:
            if self._keep is None:
                return hash_unpacked(stream)
            write, done = self._keep(log.bucket, log.key)
            try:
                return hash_unpacked(stream, keep=write)
            except BadContent:
                while piece := stream.read(_READ):
                    write(piece)
                raise
            finally:
                done()
