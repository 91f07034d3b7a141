"""The validation: verify the digests, compare the log files, explain the rest.

Threads fetch log files and compare their hashes with those in the digests.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import BinaryIO

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.ports.verifier import Verifier
from opentrail.validation.bucket_objects import (
    DIGESTS,
    ROOT,
    ChainId,
    FoundDigest,
    Inventory,
    Opened,
)
from opentrail.validation.buckets import Buckets, Export
from opentrail.validation.chains import (
    Chain,
    DigestChecks,
    DigestFile,
    LinkChecks,
    Place,
    Signatures,
    load_digest,
    report_files,
)
from opentrail.validation.checkpoints import CheckpointChecks, Known, advance_checkpoint
from opentrail.validation.content import BadContent, Hashed, hash_unpacked
from opentrail.validation.coverage import Evidence, UnlistedLogs, longest_wait, report_gaps
from opentrail.validation.digests import ListedLog
from opentrail.validation.public_keys import PublicKeys
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
    """Checks log files and collects the invalid ones."""

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


@dataclass(slots=True)
class Task:
    """The scope of a validation, with its keys and checkpoints."""

    verifier: Verifier
    keys: PublicKeys
    signatures: Signatures = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    known: Sequence[Known] = ()
    #: The current time; None if all sources are copies, whose age is unknown.
    now: datetime | None = None
    export: Export | None = None


class Validation:
    """One run over an inventory."""

    def __init__(
        self,
        inventory: Inventory,
        buckets: Buckets,
        task: Task,
        report: Report,
        advance: Callable[[int, int], object] = lambda _size, _files: None,
    ) -> None:
        self._inventory = inventory
        self._buckets = buckets
        self._task = task
        self._report = report
        self._advance = advance
        self._read: dict[FoundDigest, DigestFile] = {}
        self.chains: dict[ChainId, Chain] = {}

    def run(self) -> list[Known]:
        """Validates; returns the new checkpoints.

        Raises:
            ObjectStoreError: a bucket or folder cannot be listed.
            OpentrailError: the public keys cannot be fetched.
        """
        self._verify()
        marks = CheckpointChecks(self._report, self._task.known, self._task.since, self._task.until)
        for chain_id in marks.chains:
            if self._inventory.wanted.includes(chain_id):
                self.chains.setdefault(chain_id, Chain(chain_id, []))
        selected = [c for c in self.chains.values() if self._inventory.wanted.includes(c.id)]
        for chain in selected:
            report_files(chain.files, self._report)
            self._links(self._report).check(chain)
            marks.check(chain)
        others = [chain for chain in self.chains.values() if chain not in selected]
        for chain in others:
            self._links(Report()).check(chain)
        evidence = Evidence(self._inventory, self.chains)
        for chain in self.chains.values():
            self._explain(chain, evidence)
        self._report_misnamed()
        self._compare_logs(selected)
        for chain in selected:
            report_gaps(chain, self._report, evidence.has_events(chain.id))
            self._report_silence(chain)
        self._report_others(others)
        if not any(chain.files for chain in selected) and not self._report.findings:
            self._report.unknown(FindingKind.CHAIN, "digest files", self._nothing())
        return self._known(selected)

    def _nothing(self) -> str:
        if self._task.since is None and self._task.until is None:
            return "there are none to validate"
        return "there are none in this period, and no source shows that there were"

    @staticmethod
    def _explain(chain: Chain, evidence: Evidence) -> None:
        """Looks for the events that began or ended a chain."""
        for gap in chain.gaps:
            if gap.ended_with is not None:
                gap.ending = evidence.ending(chain.id, gap.ended_with)
        for file in chain.good:
            begins = file.digest is not None and file.digest.previous is None
            if begins and file.digest and not evidence.is_start(chain.id, file):
                chain.begins_late.append(file.digest)
        if chain.good:
            chain.ending = evidence.ending(chain.id, chain.good[-1])

    def _report_misnamed(self) -> None:
        for file in self._inventory.misnamed:
            kind = FindingKind.DIGEST if file.folder == DIGESTS else FindingKind.LOG
            reason = "does not have the name of a log file or digest file of its folder"
            self._report.bad(kind, file.root.address(file.tail), reason)

    def _report_silence(self, chain: Chain) -> None:
        """Reports a chain whose digests ended without a known reason."""
        good = [file.digest for file in chain.good if file.digest is not None]
        now = self._task.now
        if not good or now is None or self._task.until is not None or chain.ending is not None:
            return
        is_current = any(k.is_current and k.chain == chain.id for k in self._task.known)
        if is_current or chain.id.backfill or now < good[-1].end + longest_wait(good):
            return
        reason = "no digest file came since, and no event shows that logging stopped"
        self._report.unknown(FindingKind.GAP, chain.id.describe(), reason, good[-1].end, now)

    def _report_others(self, others: Sequence[Chain]) -> None:
        """Reports log files that may belong to trails that are not validated."""
        for chain in others:
            for gap in (gap for gap in chain.gaps if gap.logs):
                reason = f"{gap.logs} log files may be of this trail, which was not asked for"
                when = (gap.start, gap.end)
                self._report.unknown(FindingKind.GAP, chain.id.describe(), reason, *when)

    def _known(self, chains: Sequence[Chain]) -> list[Known]:
        """Returns the checkpoints for the next run."""
        earlier = {k.chain: k for k in self._task.known if not k.is_current}
        for chain in chains:
            checkpoint = advance_checkpoint(chain, earlier.get(chain.id), self._task.since)
            if checkpoint is not None:
                earlier[chain.id] = checkpoint
        return list(earlier.values())

    # Digests

    def _verify(self) -> None:
        """Reads and verifies digests until none names a bucket that is not listed yet."""
        while True:
            self._load()
            claims = [
                (file.found.root, file.found.tail, file.digest.bucket, file.digest.key)
                for file in self._read.values()
                if file.digest is not None
            ]
            self._inventory.identify_copies(claims)
            self._build_chains()
            if not self._list_named_buckets():
                return

    def _load(self) -> None:
        unread = [digest for digest in self._in_range() if digest not in self._read]
        with ThreadPoolExecutor(THREADS) as pool:
            for file in pool.map(load_digest, unread):
                self._read[file.found] = file
                self._advance(len(file.digest.packed) if file.digest else 0, 1)

    def _in_range(self) -> list[FoundDigest]:
        """Returns the digests in range, and the next two of each chain.

        The first of these may begin in range; the second has its signature.
        """
        chains: dict[ChainId, list[FoundDigest]] = defaultdict(list)
        for digest in self._inventory.digests:
            if self._task.since is None or digest.name.stamp > self._task.since:
                chains[digest.name.chain].append(digest)
        selected = []
        for digests in chains.values():
            digests.sort(key=lambda digest: (digest.name.stamp, digest.tail))
            last = len(digests)
            if self._task.until is not None:
                inside = sum(digest.name.stamp < self._task.until for digest in digests)
                last = inside + 2
            selected += digests[:last]
        return selected

    def _build_chains(self) -> None:
        """Groups digests by chain and checks each of them; of two copies the first is used."""
        by_chain: dict[ChainId, dict[Place, DigestFile]] = defaultdict(dict)
        for file in self._read.values():
            file.proof, file.is_unsigned = None, False
            by_chain[file.found.name.chain].setdefault(file.place, file)
        signatures = list(self._task.signatures.items())
        signatures += [
            (k.newest.place, k.newest.signature) for k in self._task.known if k.newest.signature
        ]
        checks = DigestChecks(self._task.verifier, self._task.keys, signatures)
        self.chains = {}
        for chain, files_by_place in sorted(by_chain.items()):
            files = sorted(files_by_place.values(), key=lambda file: (file.end, file.place))
            self._task.keys.load(chain.region, files[0].end, files[-1].end)
            checks.check(files)
            inside = [file for file in files if not self._begins_after_range(file, files)]
            following = files[len(inside)] if len(inside) < len(files) else None
            self.chains[chain] = Chain(chain, inside, following=following)

    def _begins_after_range(self, file: DigestFile, files: Sequence[DigestFile]) -> bool:
        """Returns whether a digest was read only for the signature of the previous one."""
        until = self._task.until
        if until is None or file.end < until:
            return False
        first = next(other for other in files if other.end >= until)
        return file is not first or (file.digest is not None and file.digest.start >= until)

    def _list_named_buckets(self) -> bool:
        """Lists further buckets that proven digests name; returns whether there were any."""
        if not self._buckets.is_used:
            return False
        places_named: set[tuple[str, str, str]] = set()
        for chain in self.chains.values():
            owner = f"{chain.id.organization}/{chain.id.account}".lstrip("/")
            for digest in (file.digest for file in chain.good if file.is_proven):
                if digest is None:
                    continue
                places = set(digest.log_places)
                if digest.previous is not None:
                    places.add((digest.previous.bucket, digest.previous.key.partition(ROOT)[0]))
                places_named |= {
                    (bucket, prefix, f"{prefix}{ROOT}{owner}/") for bucket, prefix in places
                }
        unlisted = {
            (bucket, part)
            for bucket, prefix, part in places_named
            if not self._inventory.locations(bucket, part)
            and not self._buckets.has_listed(bucket, part)
        }
        for bucket, part in sorted(unlisted):
            self._inventory.roots.append(self._buckets.root(bucket, part.partition(ROOT)[0]))
            self._inventory.add(self._buckets.under(bucket, part), lambda _count: None)
        return bool(unlisted)

    def _links(self, report: Report) -> LinkChecks:
        there = {
            (digest.root.bucket or "", f"{digest.root.prefix or ''}{digest.tail}")
            for digest in self._inventory.digests
        }
        return LinkChecks(
            report,
            self._task.since,
            lambda place: place in there,
            lambda place: bool(self._inventory.locations(*place)),
        )

    # Log files

    def _compare_logs(self, selected: Sequence[Chain]) -> None:
        for chain in self.chains.values():
            self._mark_listed(chain.good)
        export = self._task.export
        checks = LogChecks(
            self._inventory, self._report, self._advance, export.open_copy if export else None
        )
        checks.check(self._listed_logs(selected))
        unlisted = self._unlisted()
        if unlisted.extra and self._task.until is not None:
            self._mark_listed_later()
            unlisted = self._unlisted()
        checks.report_bad(dict(unlisted.hashes()) if checks.is_any_missing else {})
        unlisted.report_groups()
        unlisted.report_extra()
        if export is not None:
            export.finish((file for chain in selected for file in chain.files), self._task.keys)

    def _listed_logs(self, selected: Sequence[Chain]) -> Iterator[tuple[ListedLog, ChainCount]]:
        """Yields the listed log files, each with the count of its chain."""
        for chain in selected:
            count = self._report.count(chain.id)
            for file in chain.files:
                if self._task.export is not None:
                    self._task.export.write_digest(file)
                if file.is_accepted and file.digest is not None:
                    for log in file.digest.logs():
                        yield log, count

    def _unlisted(self) -> UnlistedLogs:
        unlisted = UnlistedLogs(
            self._inventory,
            list(self.chains.values()),
            self._report,
            self._task.since,
            self._task.until,
            self._task.now,
        )
        unlisted.classify()
        return unlisted

    def _mark_listed_later(self) -> None:
        """Removes log files that digests after the range list, because they arrived late."""
        later = replace(self._task, until=None, known=(), export=None)
        beyond = Validation(self._inventory, self._buckets, later, Report())
        beyond._read = self._read
        beyond._verify()
        for chain in beyond.chains.values():
            self._mark_listed(chain.good)

    def _mark_listed(self, files: Iterable[DigestFile]) -> None:
        for file in files:
            if file.digest is not None:
                for log in file.digest.logs():
                    self._inventory.mark_listed(log.bucket, log.key)
