"""Compares the newest files in a trail's bucket with the state store.

A state restored from a backup is older than the bucket. The server then continues the chain of
digests in the bucket, if its own keys signed it; otherwise it begins a new chain after it. It does
not deliver the events of earlier log files again. It notes events that the journal has lost, so
that event history gets them from the log files.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta

import msgspec
import orjson
from msgspec import structs

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.core.event import Entry, format_time, is_account, parse_time
from opentrail.core.logfile import (
    CLOUDTRAIL,
    DIGEST,
    LOG_KINDS,
    DeliveredLog,
    DeliveryPlace,
    LogFileLocation,
    delivery_minute,
    log_bytes,
    log_key,
    log_name_start,
    sha256_hex,
)
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoreWrite
from opentrail.ports.journal import Journal
from opentrail.ports.objects import ObjectStore
from opentrail.trails.delivery import MAX_NAMES, name_of, with_name
from opentrail.trails.digest_chains import (
    BucketDigest,
    BucketDigests,
    DigestChain,
    PendingDigest,
    StoredChains,
    UndigestedLog,
    about_chain,
    continuation,
    logs_in,
    put_chain,
    put_log,
    remove_logs,
)
from opentrail.trails.plans import DELIVERY, DeliveryState, EntrySelector, LogFilePlan
from opentrail.trails.writing import read_log

log = logging.getLogger(__name__)

#: Kind of documents with log files whose events the journal has lost.
REGAINED = "regained"
#: Kind of documents with digests of other installations, one for each trail.
STRANGERS = "strange-digests"
#: The server reads digests of the last days: a running installation has written some.
_STRANGERS_WITHIN = timedelta(days=2)
_SECOND = timedelta(seconds=1)
#: Maximum lead of the clock of an earlier server.
_EARLY = timedelta(minutes=5)
#: Error codes of a bucket whose objects may be read, but not listed.
_MAY_NOT_LIST = frozenset({"AccessDenied", "403", "NotImplemented", "501"})


class RegainedFile(msgspec.Struct, frozen=True):
    """A log file with events that the journal has lost."""

    bucket: str
    key: str
    sha256: str


class RegainedNote(msgspec.Struct, frozen=True, kw_only=True):
    """Events that log files have and the journal has lost, as the control store notes them."""

    trail: str
    #: The number of events, and the `eventTime`s of the first and last; None if no file has
    #: them now.
    events: int
    first: str | None
    last: str | None
    files: list[RegainedFile]
    noticed: str


@dataclass(slots=True)
class _Comparison:
    """One comparison of the bucket of a span with the state, and its results."""

    trail: Trail
    #: The state to store; a copy, because a failed comparison changes nothing.
    state: DeliveryState
    span: Span
    changes: list[StoreWrite] = field(default_factory=list)
    #: Log files listed in our digests, and log files not listed yet, by key.
    logs: dict[str, DeliveredLog] = field(default_factory=dict)
    #: Keys of log files that the state knows.
    known_keys: set[str] = field(default_factory=set)
    #: Whether a file was found that the state does not know.
    is_behind: bool = False

    def location(self, place: DeliveryPlace) -> LogFileLocation:
        """Returns where the files of a place are in the bucket."""
        return place.location(self.span.bucket, self.span.prefix)

    def list_next(self, place: DeliveryPlace, log_file: DeliveredLog, now: datetime) -> None:
        """Makes the next digest list a log file."""
        self.state.files += 1
        undigested = UndigestedLog(**structs.asdict(log_file), delivered=now)
        self.changes.append(put_log(self.trail, place, self.state.files, undigested))


class BucketComparison:
    """Updates the state of trails from their buckets."""

    def __init__(
        self,
        control: ControlStore,
        objects: ObjectStore,
        digests: BucketDigests,
        journal: Journal,
        selector: EntrySelector,
        clock: Clock,
    ) -> None:
        self._control = control
        self._chains = StoredChains(control)
        self._objects = objects
        self._digests = digests
        self._journal = journal
        self._selector = selector
        self._clock = clock

    async def compare(self, trail: Trail, state: DeliveryState, span: Span) -> bool:
        """Compares the bucket of a span with the state; returns whether the state was behind.

        Args:
            trail: the trail.
            state: its delivery state; it is changed once that is stored.
            span: the span whose bucket and prefix are read.

        Raises:
            ObjectStoreError: the bucket cannot be read; nothing was changed.
        """
        try:
            return await self._compare(trail, state, span)
        except ObjectStoreError as error:
            if error.code not in _MAY_NOT_LIST:
                raise
            about = {"trail": trail.arn, "bucket": span.bucket, "error": str(error)}
            log.warning("bucket not compared, since listing it is denied", extra=about)
            return False

    async def find_strangers(self, trail: Trail, span: Span) -> str | None:
        """Looks for digests of this trail that no key of this server has signed, and notes them.

        Returns:
            The key of the newest; None if there is none. Another installation that writes into the
            same bucket under the same name gives the trail a second chain of digests.

        Raises:
            ObjectStoreError: the bucket cannot be read.
        """
        location = span.place(trail.account, trail.home_region).location(span.bucket, span.prefix)
        since = self._clock.now() - _STRANGERS_WITHIN
        try:
            digests = await self._digests.since(trail, location, since)
        except ObjectStoreError as error:
            if error.code not in _MAY_NOT_LIST:
                raise
            return None
        # Those before the last own one may be of a lost key.
        last = max((digest.end for digest in digests if digest.is_ours), default=None)
        strange = [d for d in digests if not d.is_ours and (last is None or d.end > last)]
        if not strange:
            await self._control.apply([Remove(STRANGERS, trail.uid)])
            return None
        key = strange[-1].reference.key
        about = {"trail": trail.arn, "bucket": span.bucket, "key": key, "digests": len(strange)}
        log.error("another installation writes digests of a trail into its bucket", extra=about)
        note = {"key": key, "bucket": span.bucket, "started": trail.started_at}
        await self._control.apply([Put(STRANGERS, trail.uid, note)])
        return key

    async def _compare(self, trail: Trail, state: DeliveryState, span: Span) -> bool:
        head = self._journal.head
        comparison = _Comparison(trail, copy.deepcopy(state), span)
        since = _last_change(state, span)
        plans = await self._control.scan("plan", f"{trail.uid}/")
        comparison.known_keys |= {plan.document["key"] for plan in plans}
        for place in await self._places(comparison):
            undigested = await self._chains.logs(trail, place)
            comparison.known_keys |= {log_file.key for log_file in undigested.values()}
            await self._compare_digests(comparison, place, undigested)
            await self._find_logs(comparison, place, since)
        if not comparison.is_behind:
            return False
        about = {"trail": trail.arn, "bucket": span.bucket}
        log.warning("the bucket has files that the state does not know", extra=about)
        # Files that are planned, and listed by a digest, were written by the earlier server.
        kept_plans = []
        for plan in plans:
            if plan.document["key"] in comparison.logs:
                comparison.changes.append(Remove("plan", plan.key))
            else:
                kept_plans.append(plan)
        new = [
            log_file
            for key, log_file in sorted(comparison.logs.items())
            if key not in comparison.known_keys
        ]
        lost = await self._skip_delivered(comparison, head, new, kept_plans)
        if lost:
            comparison.changes.append(await self._record_lost(trail, new, lost))
        compared = comparison.state
        compared.compared = stored_time(self._clock.now())
        comparison.changes.append(Put(DELIVERY, trail.uid, compared.document()))
        await self._control.apply(comparison.changes)
        for member in fields(compared):
            setattr(state, member.name, getattr(compared, member.name))
        return True

    async def _places(self, comparison: _Comparison) -> list[DeliveryPlace]:
        """Returns the places of a span, also places that only the bucket has."""
        trail, span = comparison.trail, comparison.span
        places = set(comparison.state.places(trail, span))
        if span.every_region:
            kind = DIGEST if span.validation else CLOUDTRAIL
            accounts = [trail.account]
            if span.organization:
                root = comparison.location(span.place(trail.account, trail.home_region)).root
                folders = await self._objects.folders(span.bucket, root)
                accounts = [name for name in folders if is_account(name)]
            for account in accounts:
                of_account = span.place(account, trail.home_region)
                folder = comparison.location(of_account).folder(kind)
                for region in await self._objects.folders(span.bucket, folder):
                    places.add(span.place(account, region))
        return sorted(places)

    # Digests

    async def _compare_digests(
        self, comparison: _Comparison, place: DeliveryPlace, undigested: Mapping[str, UndigestedLog]
    ) -> None:
        """Moves a chain to the newest digest, or past digests that do not continue it."""
        trail, span = comparison.trail, comparison.span
        stored = await self._chains.get(trail, place)
        if stored is None and not span.validation:
            return
        began = parse_time(trail.created_at or span.started_at).replace(microsecond=0)
        chain = stored or DigestChain.begin(began)
        begin = chain.end
        if chain.pending:
            comparison.known_keys |= {log_file.key for log_file in _logs_of(chain.pending)}
        newer = await self._newer(comparison, place, begin)
        path = await continuation(newer, chain.previous, begin, self._digests.read)
        if path and stored is None and not await self._has_own_log(comparison, place, path):
            # An earlier trail of this name wrote them.
            newer, path = [digest for digest in newer if digest.start > begin + _EARLY], None
        await self._move(comparison, place, chain, newer, path, undigested)

    async def _move(
        self,
        comparison: _Comparison,
        place: DeliveryPlace,
        chain: DigestChain,
        newer: list[BucketDigest],
        path: Sequence[BucketDigest] | None,
        undigested: Mapping[str, UndigestedLog],
    ) -> None:
        """Moves a chain along `path`, and past `newer` digests that do not continue it."""
        pending = chain.pending
        if path and pending and path[-1].reference.signature == pending.signature:
            return  # written by this chain; the state store does not know it yet
        if path:
            chain = self._adopt(comparison.trail, place, chain, path)
            # Later ones are not signed with a key of this server.
            newer = [digest for digest in newer if digest.end > path[-1].end and not digest.is_ours]
        if newer:
            chain = self._restart(comparison, place, chain, newer)
        elif pending and not path and await self._is_occupied(pending):
            # It is not a digest of this chain: the next second gives another name.
            chain = structs.replace(chain, pending=None)
        elif not path:
            return
        comparison.is_behind = True
        for digest in path or ():
            comparison.logs.update((log_file.key, log_file) for log_file in digest.logs)
        comparison.changes += remove_logs(
            key for key, log_file in undigested.items() if log_file.key in comparison.logs
        )
        if pending:
            waiting = {log_file.key for log_file in undigested.values()}
            for log_file in _logs_of(pending):
                if log_file.key not in waiting and log_file.key not in comparison.logs:
                    comparison.list_next(place, log_file, self._clock.now())
        comparison.changes.append(put_chain(comparison.trail, place, chain))

    async def _has_own_log(
        self, comparison: _Comparison, place: DeliveryPlace, path: Sequence[BucketDigest]
    ) -> bool:
        """Returns whether the first log file that digests list is this trail's own."""
        first = next((log_file for digest in path for log_file in digest.logs), None)
        if first is None:
            return False
        kinds = sorted(set(LOG_KINDS.values()))
        kind = next((k for k in kinds if f"/{k}/" in first.key), CLOUDTRAIL)
        return await self._find_own(comparison, place, kind, first.key) is not None

    async def _newer(
        self, comparison: _Comparison, place: DeliveryPlace, begin: datetime
    ) -> list[BucketDigest]:
        """Returns the digests that end after a time, oldest first."""
        minute = begin.replace(second=0, microsecond=0)
        # Digests of the chain's last minute list log files of that minute.
        location = comparison.location(place)
        digests = await self._digests.since(comparison.trail, location, minute - _SECOND)
        for digest in digests:
            if digest.is_ours and digest.end <= begin:
                comparison.known_keys |= {log_file.key for log_file in digest.logs}
        # A file of another process must not hold up the chain by a time in the future.
        soon = self._clock.now() + _EARLY
        return [d for d in digests if d.end > begin and (d.is_ours or d.end < soon)]

    @staticmethod
    def _adopt(
        trail: Trail, place: DeliveryPlace, chain: DigestChain, path: Sequence[BucketDigest]
    ) -> DigestChain:
        """Returns a chain that continues after the last of the digests that continue it."""
        window = {"from": format_time(chain.end), "to": format_time(path[-1].end)}
        about = {**about_chain(trail, place), "digests": len(path), **window}
        log.warning("digests in the bucket are newer than the state; continued", extra=about)
        starts, ends, previous = chain.starts, chain.ends, chain.previous
        for digest in path:
            if digest.previous is None:
                ends += (previous,) if previous else ()
                starts = None if starts is None else (*starts, digest.reference)
            previous = digest.reference
        return structs.replace(
            chain,
            end=path[-1].end,
            previous=previous,
            pending=None,
            starts=starts,
            ends=ends,
            failing_since=None,
        )

    def _restart(
        self,
        comparison: _Comparison,
        place: DeliveryPlace,
        chain: DigestChain,
        newer: Sequence[BucketDigest],
    ) -> DigestChain:
        """Returns a new chain after digests that do not continue the known chain."""
        now = self._clock.now()
        strangers = sorted({digest.reference.key for digest in newer if not digest.is_ours})
        reason = (
            f"{len(strangers)} newer digest files in the bucket are not signed with a key of this "
            f"server, the first is {strangers[0]}"
            if strangers
            else f"the digest file {newer[-1].reference.key} does not follow the last one known"
        )
        end = min(max(newer[-1].end, chain.end), now).replace(microsecond=0)
        comparison.state.new_chain, comparison.state.new_chain_reason = stored_time(now), reason
        about = {**about_chain(comparison.trail, place), "reason": reason}
        log.error("a new chain of digests begins", extra=about)
        return structs.replace(
            chain,
            end=max(chain.end, end),
            previous=None,
            pending=None,
            ends=chain.all_ends,
            failing_since=None,
        )

    async def _is_occupied(self, pending: PendingDigest) -> bool:
        """Returns whether another object has the key of a digest about to be written."""
        try:
            content = await read_log(self._objects, pending.bucket, pending.key)
        except ObjectMissing:
            return False
        except ValueError:
            return True
        return content != pending.content

    # Log files

    async def _find_logs(
        self, comparison: _Comparison, place: DeliveryPlace, since: datetime
    ) -> None:
        """Finds log files of this trail that no digest lists and that the state does not know."""
        state, location = comparison.state, comparison.location(place)
        logs, known_keys = comparison.logs, comparison.known_keys
        for kind in sorted(set(LOG_KINDS.values())):
            start = log_name_start(location, since, kind)
            folder = f"{location.folder(kind)}{place.region}/"
            for key in await self._objects.keys(location.bucket, folder, start):
                if key in known_keys or key in logs or delivery_minute(key) is None:
                    continue
                own = await self._find_own(comparison, place, kind, key)
                if own is None:
                    continue
                log_file, event_id = own
                position = await self._journal.find(event_id)
                if position is not None and position <= state.position:
                    continue  # it was delivered
                comparison.is_behind = True
                logs[key] = log_file
                state.regions = tuple(sorted({*state.regions, place.key}))
                if comparison.span.validation:
                    comparison.list_next(place, log_file, self._clock.now())

    async def _find_own(
        self, comparison: _Comparison, place: DeliveryPlace, kind: str, key: str
    ) -> tuple[DeliveredLog, str] | None:
        """Returns a log file of this trail, and the id of its first event; None for others.

        The name of a log file follows from its content and the trail's id (`name_of`).
        """
        location, minute = comparison.location(place), delivery_minute(key)
        content = await self._content(location.bucket, key)
        if content is None or minute is None:
            return None
        uid, sha256 = comparison.trail.uid, sha256_hex(content)
        names = (name_of(uid, place, kind, sha256, count) for count in range(MAX_NAMES + 1))
        if key not in {log_key(location, minute, name, kind) for name in names}:
            return None
        records = await asyncio.to_thread(_records_in, content)
        if not records:
            return None
        times = [time for _, time in records]
        log_file = DeliveredLog(location.bucket, key, sha256, min(times), max(times))
        return log_file, records[0][0]

    async def _content(self, bucket: str, key: str) -> bytes | None:
        """Returns the content of a log file; None if it is missing or damaged."""
        try:
            return await read_log(self._objects, bucket, key)
        except ObjectMissing as error:
            if error.code == "NoSuchBucket":
                raise
        except ValueError as error:
            about = {"bucket": bucket, "key": key, "error": str(error)}
            log.error("a log file is damaged", extra=about)
        return None

    # Events

    async def _skip_delivered(
        self,
        comparison: _Comparison,
        head: int,
        new: Iterable[DeliveredLog],
        plans: Iterable[Stored],
    ) -> set[str]:
        """Moves the position past new log files' events; returns ids missing from the journal."""
        delivered: set[str] = set()
        async for _, records in self._read(new):
            delivered.update(event_id for event_id, _ in records)
        if not delivered:
            return set()
        trail, state = comparison.trail, comparison.state
        position, ranges, in_journal = state.position, list[list[int]](), set[str]()
        is_first, is_run = True, False
        async for entry, is_selected in self._selector.all(trail, comparison.span, position, head):
            if entry.event_id in delivered:
                in_journal.add(entry.event_id)
                if is_first:
                    position = entry.position
                elif is_run:
                    ranges[-1][1] = entry.position
                else:
                    ranges.append([entry.position, entry.position])
                    is_run = True
            elif is_selected:
                is_first = is_run = False
        state.position, state.skipped = position, ranges
        for plan in plans:
            in_journal |= await self._shorten_plan(comparison, plan, delivered)
        return delivered - in_journal

    async def _shorten_plan(
        self, comparison: _Comparison, stored: Stored, delivered: set[str]
    ) -> set[str]:
        """Leaves delivered events out of a file not yet written; returns their ids."""
        plan, trail = LogFilePlan(**stored.document), comparison.trail
        entries = self._selector.entries_of(plan, trail.account, trail.home_region, plan.after)
        delivered_entries, remaining = list[Entry](), list[Entry]()
        async for entry in entries:
            (delivered_entries if entry.event_id in delivered else remaining).append(entry)
        if not delivered_entries:
            return set()
        change: StoreWrite = Remove("plan", stored.key)
        if remaining:
            content = log_bytes(entry.record for entry in remaining)
            times = [time for _, time in await asyncio.to_thread(_records_in, content)]
            shorter = replace(
                plan,
                skipped=[*plan.skipped, *([e.position, e.position] for e in delivered_entries)],
                sha256=sha256_hex(content),
                oldest=min(times),
                newest=max(times),
            )
            change = Put("plan", stored.key, asdict(with_name(shorter, trail)))
        comparison.changes.append(change)
        return {entry.event_id for entry in delivered_entries}

    async def _read(
        self, logs: Iterable[DeliveredLog]
    ) -> AsyncIterator[tuple[DeliveredLog, list[tuple[str, str]]]]:
        """Yields log files with ids and times of their events; except changed and lost ones."""
        for log_file in logs:
            content = await self._content(log_file.bucket, log_file.key)
            if content is None or sha256_hex(content) != log_file.sha256:
                about = {"bucket": log_file.bucket, "key": log_file.key}
                log.error("a log file differs from its digest", extra=about)
                continue
            yield log_file, await asyncio.to_thread(_records_in, content)

    async def _record_lost(self, trail: Trail, logs: Iterable[DeliveredLog], ids: set[str]) -> Put:
        """Logs events that the journal has lost; returns the change that notes their files."""
        files: list[RegainedFile] = []
        times: list[str] = []
        async for file, records in self._read(logs):
            lost = [time for event_id, time in records if event_id in ids]
            if lost:
                files.append(RegainedFile(file.bucket, file.key, file.sha256))
                times += lost
        now = stored_time(self._clock.now())
        note = RegainedNote(
            trail=trail.arn,
            events=len(ids),
            first=min(times, default=None),
            last=max(times, default=None),
            files=files,
            noticed=now,
        )
        document = msgspec.to_builtins(note)
        about = {**document, "files": [file.key for file in files]}
        log.error("the journal has lost events that the bucket has", extra=about)
        return Put(REGAINED, f"{trail.uid}/{now}", document)


def _logs_of(pending: PendingDigest) -> list[DeliveredLog]:
    """Returns the log files that a pending digest lists."""
    return logs_in(json.loads(pending.content))


def _last_change(state: DeliveryState, span: Span) -> datetime:
    """Returns a time up to which the state knows all log files."""
    times = [
        state.latest_attempt,
        state.latest_delivery,
        state.latest_digest,
        state.compared,
        span.started_at,
    ]
    return max(parse_time(time) for time in times if time)


def _records_in(content: bytes) -> list[tuple[str, str]]:
    """Returns id and time of each event of a log file."""
    try:
        records = orjson.loads(content)["Records"]
        return [(str(record["eventID"]), str(record["eventTime"])) for record in records]
    except (ValueError, KeyError, TypeError):
        return []
