"""Digest files: a signed chain for each trail, account and Region (cloudtrail-format §5.3)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from opentrail.core.errors import ObjectStoreError, ObjectTaken, SigningKeyUnavailable
from opentrail.core.event import Json, format_time, parse_time
from opentrail.core.faults import crash_point
from opentrail.core.logfile import (
    SIGNATURE_ALGORITHM,
    DeliveryPlace,
    LogFileLocation,
    PreviousDigest,
    digest_bytes,
    digest_key,
    encryption_context,
    sha256_hex,
    string_to_sign,
)
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, StoreWrite
from opentrail.ports.metrics import Metrics
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.ports.signer import Signer
from opentrail.trails.delivery import RetryLimit
from opentrail.trails.digest_chains import (
    BucketDigests,
    DigestChain,
    PendingDigest,
    StoredChains,
    about_chain,
    put_chain,
    remove_logs,
)
from opentrail.trails.plans import DELIVERY, DeliveryState
from opentrail.trails.writing import ExactWriter, compress

log = logging.getLogger(__name__)

_SECOND = timedelta(seconds=1)
#: Maximum overdue digests of one chain in one round: a day of hours.
_MAX_OVERDUE = 24
#: The same if all must be signed now; the last one covers the rest.
_MAX_FORCED = 1_000


@dataclass(frozen=True, slots=True)
class _Target:
    """Where digests go: to a place of a trail, under a span. The trail's worker owns `state`."""

    trail: Trail
    state: DeliveryState
    span: Span
    place: DeliveryPlace

    @property
    def location(self) -> LogFileLocation:
        """Where they are in the span's bucket."""
        return self.place.location(self.span.bucket, self.span.prefix)

    def key(self, end: datetime) -> str:
        """Returns the key of the digest that ends at a time."""
        return digest_key(self.location, self.trail.name, self.trail.home_region, end)


class DigestChains:
    """Signs and writes the digests of one trail, one chain per place."""

    def __init__(
        self,
        control: ControlStore,
        objects: ObjectStore,
        signer: Signer,
        clock: Clock,
        metrics: Metrics,
        interval: timedelta,
        in_bucket: BucketDigests,
        retries: RetryLimit,
    ) -> None:
        self._control = control
        self._chains = StoredChains(control)
        self._objects = objects
        self._writer = ExactWriter(objects)
        self._in_bucket = in_bucket
        self._signer = signer
        self._clock = clock
        self._retries = retries
        self._metrics = metrics
        self._interval = interval

    async def run(
        self,
        trail: Trail,
        state: DeliveryState,
        span: Span,
        force: bool = False,
        last: bool = False,
    ) -> list[str]:
        """Writes the digests that are due, all of them with `force`; returns their keys.

        After an outage there is one for each interval that has passed; a long outage needs several
        rounds. With `last` it writes the final digest of each chain and ends the chain, once per
        span; a later span starts a new chain.
        """
        keys: list[str] = []
        failure: ObjectStoreError | None = None
        for place in state.places(trail, span):
            try:
                target = _Target(trail, state, span, place)
                keys += await self._run_chain(target, force, last)
            except ObjectStoreError as error:
                failure = failure or error
                chain = await self._chain(trail, place, span)
                if chain.failing_since is None:
                    chain = replace(chain, failing_since=self._clock.now())
                    await self._control.apply([put_chain(trail, place, chain)])
        if failure is not None:
            raise failure
        return keys

    async def _run_chain(self, target: _Target, force: bool, last: bool) -> list[str]:
        """Writes the pending digest, the digests that are due, and then the forced one."""
        trail, span, place = target.trail, target.span, target.place
        keys = []
        chain = await self._chain(trail, place, span)
        if (pending := chain.pending) is not None:
            try:
                chain, key = await self._write_next(target, chain, None)
                keys.append(key)
            except ObjectStoreError:
                if pending.bucket == span.bucket or not self._retries.is_over(chain.failing_since):
                    raise
                # The trail has another bucket now, so a new chain begins.
                self._log_given_up(trail, place, pending.bucket)
                chain = replace(
                    chain, pending=None, ends=chain.all_ends, previous=None, failing_since=None
                )
                await self._control.apply([put_chain(trail, place, chain)])
        forced = force or last
        for _ in range(_MAX_FORCED if forced else _MAX_OVERDUE):
            until = chain.end + self._interval
            if chain.ended is not None or self._clock.now() < until:
                break
            chain, key = await self._write_next(target, chain, until)
            keys.append(key)
        if chain.ended is None and forced:
            _, key = await self._write_next(target, chain, None, last)
            keys.append(key)
        return keys

    async def _write_next(
        self, target: _Target, chain: DigestChain, until: datetime | None, last: bool = False
    ) -> tuple[DigestChain, str]:
        """Writes a digest; returns its chain after it, and its key.

        It ends at `until` and lists the files delivered by then; without `until` it ends now and
        lists all delivered files. With `last` it ends the chain. A digest planned by an earlier
        attempt is written unchanged.
        """
        trail, state, span, place = target.trail, target.state, target.span, target.place
        pending = chain.pending
        if pending is None:
            # It begins where the previous one ended, and has a name that is not used yet.
            end = (until or self._clock.now()).replace(microsecond=0)
            end = max(end, chain.end + _SECOND)
            end = await self._unused_end(target, chain, end)
            location, key = target.location, target.key(end)

            # It lists the log files that no digest lists yet.
            logs = await self._chains.logs(trail, place)
            if until is not None:
                logs = {k: v for k, v in logs.items() if not v.delivered or v.delivered <= end}

            # The signature is over its bytes and over the signature of the previous one.
            start_text, end_text = format_time(chain.end), format_time(end)
            try:
                signer = (await self._signer.current(end)).fingerprint
                log_files = list(logs.values())
                content = digest_bytes(
                    location, key, start_text, end_text, signer, log_files, chain.previous
                )
                text = string_to_sign(end_text, location.bucket, key, content, chain.previous)
                signature = await self._signer.sign(text, signer)
            except SigningKeyUnavailable as error:
                log.error("digests cannot be signed", extra={"error": str(error)})
                message = "no key can sign digests; the log names the file"
                raise ObjectStoreError("SigningKeyUnavailable", message) from error

            # It is stored before it is written, so that no other digest ever has its name.
            pending = PendingDigest(
                bucket=location.bucket,
                key=key,
                end=end,
                content=content,
                signature=signature.hex(),
                kms_key=span.kms_key,
                ends=span.started_at if last else None,
            )
            chain = replace(chain, pending=pending)
            await self._control.apply([*remove_logs(logs), put_chain(trail, place, chain)])
            crash_point("digest.planned")

        # It is written once, and read back.
        await self._writer.put(
            NewObject(
                pending.bucket,
                pending.key,
                compress(pending.content),
                metadata={
                    "signature": pending.signature,
                    "signature-algorithm": SIGNATURE_ALGORITHM,
                },
                kms_key=pending.kms_key,
                encryption_context=encryption_context(trail.arn),
            )
        )
        crash_point("digest.put")

        # The next one refers to it. Starts are never removed: validation needs the first digest of
        # each chain.
        reference = PreviousDigest(
            pending.bucket, pending.key, sha256_hex(pending.content), pending.signature
        )
        starts = chain.starts
        if chain.previous is None and starts is not None:
            starts = (*starts, reference)
        chain = replace(
            chain,
            end=pending.end,
            previous=reference,
            pending=None,
            ended=pending.ends,
            starts=starts,
            failing_since=None,
        )
        state.latest_digest = stored_time(self._clock.now())
        state.latest_digest_error = None
        await self._control.apply(
            [put_chain(trail, place, chain), Put(DELIVERY, trail.uid, state.document())]
        )
        self._metrics.delivered_files.labels("digest").inc()
        return chain, pending.key

    async def _unused_end(self, target: _Target, chain: DigestChain, end: datetime) -> datetime:
        """Returns an end with an unused key: an earlier trail of this name may have used others.

        Raises:
            ObjectTaken: a digest that continues this chain has the key.
        """
        bucket = target.span.bucket
        while True:
            key = target.key(end)
            try:
                await self._objects.get(bucket, key)
            except ObjectStoreError as error:
                if chain.previous is None and error.code != "NoSuchKey":
                    raise
                return end  # writing the planned digest reports a bucket that fails
            there = await self._in_bucket.read(bucket, key)
            if chain.previous and there and there.is_ours and there.previous == chain.previous:
                message = f"s3://{bucket}/{key} continues the chain, and is not known"
                raise ObjectTaken("ObjectMismatch", message)
            end += _SECOND

    async def _chain(self, trail: Trail, place: DeliveryPlace, span: Span) -> DigestChain:
        """Returns the chain of a place under a span; a new one if the last one has ended."""
        chain = await self._chains.get(trail, place)
        start = parse_time(span.started_at).replace(microsecond=0)
        if chain is not None and chain.ended in (None, span.started_at):
            return chain
        if chain is not None:
            # It begins where the previous one has ended, because digests have different names.
            return DigestChain.begin(max(start, chain.end), chain.starts, chain.all_ends)
        logs = await self._chains.logs(trail, place)
        times = [file.delivered for file in logs.values() if file.delivered]
        is_home = (place.account, place.region) == (trail.account, trail.home_region)
        if is_home or not times:
            # At home it begins with logging, because there are digests before there are files.
            return DigestChain.begin(start)
        # Elsewhere it begins with the interval of the first file, which may have been delivered at
        # the end of an interval.
        waited = max(min(times) - start, timedelta())
        intervals = max(0, math.ceil(waited / self._interval) - 1)
        begin = start + intervals * self._interval
        return DigestChain.begin(begin.replace(microsecond=0))

    async def give_up(self, trail: Trail, state: DeliveryState, span: Span, later: bool) -> bool:
        """Ends the chains of a closed span that have failed for the maximum time.

        Args:
            trail: the trail.
            state: its places.
            span: the span; its last digests cannot be written.
            later: a later span has the same bucket, and its chain will list the remaining files.

        Returns:
            Whether all chains of the span have ended.
        """
        changes: list[StoreWrite] = []
        for place in state.places(trail, span):
            chain = await self._chain(trail, place, span)
            if chain.ended is not None:
                continue
            if not self._retries.is_over(chain.failing_since):
                return False
            chain = replace(chain, pending=None, ended=span.started_at, failing_since=None)
            changes.append(put_chain(trail, place, chain))
            logs = {} if later else await self._chains.logs(trail, place)
            changes += remove_logs(k for k, v in logs.items() if v.bucket == span.bucket)
            self._log_given_up(trail, place, span.bucket)
        await self._control.apply(changes)
        return True

    def _log_given_up(self, trail: Trail, place: DeliveryPlace, bucket: str) -> None:
        about = {**about_chain(trail, place), "bucket": bucket}
        log.error("gave up on the last digest of a bucket after 30 days", extra=about)
        self._metrics.given_up_files.inc()

    async def boundaries(self, trail: Trail) -> list[Json]:
        """Returns for each place the first, last and newest digests of its chains.

        `starts` has all digests since `since`, when the trail was created; a chain that continues
        has no end.
        """
        chains = []
        for place, chain in await self._chains.all(trail):
            if not chain.all_ends:
                continue
            # Chains of earlier versions do not have their starts.
            is_whole = chain.starts is not None and trail.created_at
            since = parse_time(trail.created_at) if is_whole else chain.end
            chains.append(
                {
                    "organization": place.organization,
                    "account": place.account,
                    "region": place.region,
                    "trail": trail.name,
                    "homeRegion": trail.home_region,
                    "starts": msgspec.to_builtins(list(chain.starts or ())),
                    "ends": msgspec.to_builtins(list(chain.ends)),
                    "newest": msgspec.to_builtins(chain.all_ends[-1]),
                    "since": format_time(since),
                }
            )
        return chains

    async def forget(self, trail: Trail) -> None:
        """Removes chains and undigested log files, because their bucket was deleted."""
        await self._chains.forget(trail)
