"""Proves one event: finds its log file in a bucket, and the signed digest that lists the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
import orjson

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.ports.verifier import Verifier
from opentrail.validation.bucket_objects import (
    DIGESTS,
    ChainId,
    FoundDigest,
    LogPlace,
    digest_name,
    log_minute,
    log_name,
    minute_after,
    minute_of,
    split_key,
)
from opentrail.validation.buckets import BucketReader, BucketRoot
from opentrail.validation.chains import (
    Chain,
    DigestChecks,
    DigestFile,
    LinkChecks,
    load_digest,
    report_files,
)
from opentrail.validation.checkpoints import CheckpointChecks, Known, KnownDigest, known_from
from opentrail.validation.content import MAX_LOG_BYTES, BadContent, records_in, unpack
from opentrail.validation.digests import Digest
from opentrail.validation.public_keys import PublicKeys
from opentrail.validation.report import FindingKind, Report, Status

#: Maximum log files that are read for an event.
MAX_LOGS = 100
#: Maximum digests that are read for a log file.
_MAX_DIGESTS = 10
#: Maximum time from an event to its log file (cloudtrail-format §5.2).
_LATEST = timedelta(days=30)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
#: Usual time from an event to its log file.
_USUAL = timedelta(hours=1)
_OTHER_RECORD = "The log file was changed: it has another record with this event ID."


class ProofState(StrEnum):
    """The result of a search for an event in a trail's bucket."""

    PROVEN = "proven"
    #: The log file or its digest does not exist yet.
    PENDING = "pending"
    BROKEN = "broken"
    #: No digest lists the log file, because validation is off.
    UNSIGNED = "unsigned"
    #: The bucket cannot be read, or too many files would have to be.
    UNKNOWN = "unknown"


#: States of a log file that no digest lists, from the weakest claim to the strongest.
_LENIENT = (ProofState.PENDING, ProofState.UNKNOWN, ProofState.UNSIGNED, ProofState.BROKEN)


class EventQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and a trail that may have delivered it."""

    event_id: str
    event_time: datetime
    #: The record's text as event history has it.
    record: str
    account: str
    region: str
    #: Folder of its log files, such as `CloudTrail`.
    folder: str
    trail: str
    home_region: str
    bucket: str
    prefix: str
    #: Id of the organization of an organization trail.
    organization: str = ""
    validation: bool
    #: Whether the trail selects the event; None if its settings at that time are unknown.
    is_selected: bool | None
    #: Whether the server has delivered all events up to this one.
    is_delivered: bool
    #: Whether another trail writes log files to the same folder.
    is_shared: bool = False
    #: The server's knowledge of the chain, from `DigestChains.known`; None if nothing.
    known: dict[str, Any] | None = None

    @property
    def folder_prefix(self) -> str:
        """The part of keys before `AWSLogs/`."""
        return f"{self.prefix}/" if self.prefix else ""


class EventProof(msgspec.Struct, frozen=True, rename="camel"):
    """The answer for one trail."""

    state: ProofState
    message: str
    bucket: str
    key: str | None = None
    digest_key: str | None = None
    #: Key of the faulty file, if the proof is broken.
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class _FoundLog:
    """The log file that has an event."""

    key: str
    minute: datetime
    sha256: str
    record: Any


@dataclass(slots=True)
class _LogSearch:
    """Reads the log files from an event's minute on."""

    reader: BucketReader
    question: EventQuestion
    now: datetime
    #: Keys that were listed; hashes of files that were read; reasons for files that could not be.
    listed: set[str] = field(default_factory=set)
    hashes: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    #: Whether there are more files than may be read.
    is_limited: bool = False

    def run(self) -> Iterator[_FoundLog]:
        """Yields the log files that have the event; each trail of the folder has its own.

        Raises:
            ObjectStoreError: the bucket cannot be read.
        """
        for key, minute in self._keys():
            if len(self.listed) == MAX_LOGS:
                self.is_limited = True
                return
            self.listed.add(key)
            content = self._content(key)
            if content is None:
                continue
            record = _record_in(content, self.question.event_id)
            if record is not None:
                yield _FoundLog(key, minute, self.hashes[key], record)

    def _keys(self) -> Iterator[tuple[str, datetime]]:
        """Yields keys and delivery minutes of log files, oldest first."""
        question = self.question
        place = LogPlace(
            question.organization,
            question.account,
            question.folder,
            question.folder,
            question.region,
        )
        folder = f"{question.folder_prefix}{place.folder_tail}"
        begin = minute_of(question.event_time)
        for day in _days(begin, min(self.now, begin + _LATEST)):
            for entry in self.reader.keys(question.bucket, f"{folder}{day}/"):
                name = log_name(split_key(entry.key)[1])
                minute = log_minute(name.short) if name else None
                if minute is not None and minute >= begin:
                    yield entry.key, minute

    def _content(self, key: str) -> bytes | None:
        """Returns the content of a log file; None if it is damaged or was deleted since."""
        try:
            with closing(self.reader.open(self.question.bucket, key)) as stream:
                content = unpack(stream, MAX_LOG_BYTES)
        except ObjectMissing:
            self.damaged[key] = "is missing"
            return None
        except BadContent as error:
            self.damaged[key] = f"is damaged ({error})"
            return None
        self.hashes[key] = hashlib.sha256(content).hexdigest()
        return content


class EventProver:
    """Answers questions about events in buckets.

    Args:
        reader: reads the buckets.
        verifier: verifies the digests' signatures.
        keys: the trusted public keys.
        now: the current time.
    """

    def __init__(
        self, reader: BucketReader, verifier: Verifier, keys: PublicKeys, now: datetime
    ) -> None:
        self._reader = reader
        self._verifier = verifier
        self._keys = keys
        self._now = now

    def prove(self, question: EventQuestion) -> EventProof | None:
        """Returns the proof; None if nothing shows that the trail delivered the event."""
        try:
            return self._search(question, _LogSearch(self._reader, question, self._now))
        except ObjectStoreError as error:
            is_gone = isinstance(error, ObjectMissing)
            if question.is_selected is None and not (is_gone and question.known):
                return None
            state = ProofState.BROKEN if is_gone else ProofState.UNKNOWN
            return EventProof(state, f"The bucket cannot be read: {error}", question.bucket)

    def _search(self, question: EventQuestion, search: _LogSearch) -> EventProof | None:
        unlisted: list[EventProof] = []
        for log in search.run():
            proof, is_listed = self._by_digest(question, log)
            if is_listed:
                return proof
            unlisted.append(proof)
            if not question.is_shared:
                break
        if not unlisted:
            return self._not_found(question, search)
        if not question.is_shared:
            return unlisted[0]
        # Perhaps none of these belongs to this trail.
        altered = self._altered(question, search)
        if altered is not None or question.is_selected is None:
            return altered
        return min(unlisted, key=lambda candidate: _LENIENT.index(candidate.state))

    # The event is in a log file

    def _by_digest(self, question: EventQuestion, log: _FoundLog) -> tuple[EventProof, bool]:
        """Returns the digests' proof of a log file, and whether a digest lists it."""
        place = (question.bucket, log.key)
        files = []
        for file in self._digests(question, log.minute):
            files.append(file)
            sha256 = _hash_in(file.digest, *place) if file.digest else None
            if sha256 is not None:
                return self._proof_of_listed(question, log, file, sha256), True
        state, reason, digest_key = self._unlisted(question, log.minute, files)
        if log.record != orjson.loads(question.record):
            state, reason, digest_key = ProofState.BROKEN, _OTHER_RECORD, None
        fault = (digest_key or log.key) if state is ProofState.BROKEN else None
        return EventProof(state, reason, *place, digest_key, fault), False

    def _proof_of_listed(
        self, question: EventQuestion, log: _FoundLog, file: DigestFile, sha256: str
    ) -> EventProof:
        place = (question.bucket, log.key, file.place[1])
        if file.reason is not None:
            reason = f"The digest file that lists the log file is not valid: {file.reason}."
            return EventProof(ProofState.BROKEN, reason, *place, fault=file.place[1])
        if log.record != orjson.loads(question.record):
            return EventProof(ProofState.BROKEN, _OTHER_RECORD, *place, fault=log.key)
        if log.sha256 != sha256:
            reason = "The log file was changed: its hash value is not the one in the digest file."
            return EventProof(ProofState.BROKEN, reason, *place, fault=log.key)
        reason = (
            "The log file is unchanged since delivery: the signed digest file has its hash value."
        )
        return EventProof(ProofState.PROVEN, reason, *place)

    def _unlisted(
        self, question: EventQuestion, minute: datetime, files: list[DigestFile]
    ) -> tuple[ProofState, str, str | None]:
        """Returns why no digest lists a log file that was delivered in a minute."""
        for file in files:
            if file.digest is None:
                state = ProofState.UNKNOWN if file.unread else ProofState.BROKEN
                reason = f"The digest file {file.unread or file.reason}."
                return state, reason, file.place[1]
        end = minute_after(minute)
        fault = self._chain_fault(question, minute, end, files)
        if fault is not None:
            reason, digest_key = fault
            return ProofState.BROKEN, f"The digest file {reason}.", digest_key
        digests = [file.digest for file in files if file.digest is not None]
        if digests and digests[0].start >= end:
            reason = "Log file validation was off when the log file was delivered."
            return ProofState.UNSIGNED, reason, None
        if any(digest.start >= end for digest in digests):
            return ProofState.BROKEN, "No digest file lists the log file.", None
        if question.validation:
            return ProofState.PENDING, "The digest file for the log file is still to come.", None
        return ProofState.UNSIGNED, "Log file validation is off for this trail.", None

    # The event is in no log file

    def _not_found(self, question: EventQuestion, search: _LogSearch) -> EventProof | None:
        altered = self._altered(question, search)
        if altered is not None:
            return altered
        if search.damaged and not question.is_shared:
            return _may_have_had(question, *next(iter(search.damaged.items())))
        begin = minute_of(question.event_time)
        files = list(self._digests(question, begin))
        fault = self._chain_fault(question, begin, begin + _USUAL, files)
        if fault is not None:
            text = (
                f"A digest file of that time {fault[0]}, and may have listed the event's log file."
            )
            return EventProof(
                ProofState.BROKEN, text, question.bucket, digest_key=fault[1], fault=fault[1]
            )
        if question.is_selected is None:
            return None
        if search.is_limited:
            text = f"The event is in none of the first {MAX_LOGS} log files that came after it."
            return EventProof(ProofState.UNKNOWN, text, question.bucket)
        if question.is_delivered:
            text = "No log file in the bucket has the event, although it was delivered."
            return EventProof(ProofState.BROKEN, text, question.bucket)
        return EventProof(ProofState.PENDING, "The log file is still to come.", question.bucket)

    def _altered(self, question: EventQuestion, search: _LogSearch) -> EventProof | None:
        """Returns the first log file after the event that differs from the trail's digest."""
        begin = minute_of(question.event_time)
        last = max(search.listed, default="")
        for file in self._digests(question, begin):
            for log in file.digest.logs() if file.digest and file.reason is None else ():
                name = log_name(split_key(log.key)[1])
                is_near = name is not None and name.place.folder == question.folder
                minute = log_minute(name.short) if name and is_near else None
                if log.bucket != question.bucket or minute is None or minute < begin:
                    continue
                if search.is_limited and log.key > last:
                    continue
                if log.key not in search.listed:
                    return _may_have_had(question, log.key, "is missing")
                if search.hashes.get(log.key) != log.sha256:
                    reason = search.damaged.get(log.key, "was changed")
                    return _may_have_had(question, log.key, reason)
        return None

    # Digests

    def _chain_fault(
        self, question: EventQuestion, begin: datetime, end: datetime, files: Sequence[DigestFile]
    ) -> tuple[str, str] | None:
        """Returns the flaw of the digests of a period, and the key of the digest.

        The checks are the same as in `validate` (`LinkChecks`, `CheckpointChecks`). Missing digests
        count, as do invalid ones.

        Args:
            question: names the chain, and has the server's knowledge of it.
            begin: the start of the period.
            end: its end.
            files: the first digests that end after `begin`.
        """
        number = next(
            (n for n, file in enumerate(files, 1) if file.digest and file.digest.start >= end),
            None,
        )
        inside = list(files[:number])
        # A digest that ends with the first second may list files of that second.
        begin -= _SECOND
        is_open = number is None and len(files) < _MAX_DIGESTS
        until = None if is_open or not inside else inside[-1].end + _SECOND
        report = Report()
        chain = Chain(_chain_of(question), inside)
        report_files(inside, report)
        LinkChecks(
            report,
            begin,
            self._is_there,
            lambda place: (
                place[0] == question.bucket and split_key(place[1])[0] == question.folder_prefix
            ),
        ).check(chain)
        CheckpointChecks(report, _known_of(question), begin, until).check(chain)
        for finding in report.findings:
            if finding.status is Status.BAD and finding.kind is FindingKind.DIGEST:
                return finding.reason, finding.name.removeprefix(f"s3://{question.bucket}/")
        return None

    def _is_there(self, place: tuple[str, str]) -> bool:
        try:
            self._reader.open(*place).close()
        except ObjectMissing:
            return False
        return True

    def _digests(self, question: EventQuestion, after: datetime) -> Iterator[DigestFile]:
        """Yields the digests of the chain that end at a time or after it, oldest first."""
        chain = _chain_of(question)
        place = LogPlace(question.organization, question.account, DIGESTS, DIGESTS, question.region)
        root = BucketRoot(self._reader, question.bucket, question.folder_prefix)
        folder = f"{question.folder_prefix}{place.folder_tail}"
        checks = DigestChecks(self._verifier, self._keys, ())
        count = 0
        for day in _days(after, min(self._now, after + _LATEST) + _DAY):
            for entry in self._reader.keys(question.bucket, f"{folder}{day}/"):
                tail = split_key(entry.key)[1]
                name = digest_name(tail)
                if name is None or name.chain != chain or name.stamp < after:
                    continue
                file = load_digest(FoundDigest(root, tail, name))
                self._keys.load(question.region, file.end, file.end)
                checks.check([file])
                yield file
                count += 1
                if count == _MAX_DIGESTS:
                    return


def _chain_of(question: EventQuestion) -> ChainId:
    return ChainId(
        question.account,
        question.region,
        question.trail,
        question.home_region,
        question.organization,
    )


def _known_of(question: EventQuestion) -> list[Known]:
    """Returns the server's knowledge of the digests in the event's bucket."""
    if question.known is None:
        return []
    checkpoint = known_from(question.known, "the server", is_current=True)

    def is_here(mark: KnownDigest) -> bool:
        return mark.bucket == question.bucket and split_key(mark.key)[0] == question.folder_prefix

    if not is_here(checkpoint.newest):
        return []
    starts, ends = (tuple(filter(is_here, marks)) for marks in (checkpoint.starts, checkpoint.ends))
    return [replace(checkpoint, starts=starts, ends=ends)]


def _may_have_had(question: EventQuestion, key: str, reason: str) -> EventProof:
    text = f"A log file of that time {reason}, and may have had the event."
    return EventProof(ProofState.BROKEN, text, question.bucket, key, fault=key)


def _record_in(content: bytes, event_id: str) -> Any:
    """Returns the record of an event in a log file; None if it is not there."""
    if event_id.encode() not in content:
        return None
    own = (record for record in records_in(content) if record.get("eventID") == event_id)
    return next(own, None)


def _hash_in(digest: Digest, bucket: str, key: str) -> str | None:
    """Returns the hash of a log file in a digest; None if the digest does not list it."""
    logs = (log for log in digest.logs() if (log.bucket, log.key) == (bucket, key))
    return next((log.sha256 for log in logs), None)


def _days(first: datetime, last: datetime) -> Iterator[str]:
    """Yields the days of a period in the form of keys."""
    day = first.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= last:
        yield f"{day:%Y/%m/%d}"
        day += _DAY
