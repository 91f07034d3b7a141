"""Digest files: a signed chain for each trail, account and Region (cloudtrail-format §5.3)."""

from __future__ import annotations

import base64
import logging
import math
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from opentrail.core.errors import ObjectStoreError, ObjectTaken, SigningKeyUnavailable
from opentrail.core.event import format_time, parse_time
from opentrail.core.faults import reach
from opentrail.core.logfile import (
    SIGNATURE_ALGORITHM,
    DeliveredLog,
    DeliveryPlace,
    PreviousDigest,
    digest_bytes,
    digest_key,
    encryption_context,
    sha256_hex,
    string_to_sign,
)
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove, StoreWrite
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.ports.signer import Signer
from opentrail.trails.bucket_digests import BucketDigests
from opentrail.trails.delivery import is_over
from opentrail.trails.plans import DeliveryState
from opentrail.trails.writing import ExactWriter, compress

log = logging.getLogger(__name__)

_SECOND = timedelta(seconds=1)
#: Maximum overdue digests of one chain in one round: a day of hours; and if all must be signed at
#: once, of which the last one covers the rest.
_MAX_AT_ONCE, _MAX_FORCED = 24, 1_000
_LISTED = tuple(field.name for field in fields(DeliveredLog))


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
    ) -> None:
        self._control = control
        self._objects = objects
        self._writer = ExactWriter(objects)
        self._in_bucket = in_bucket
        self._signer = signer
        self._clock = clock
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
        written: list[str] = []
        failure: ObjectStoreError | None = None
        for place in state.places(trail, span):
            try:
                written += await self._run_chain(trail, state, span, place, force, last)
            except ObjectStoreError as error:
                failure = failure or error
                await self._note_failure(trail, span, place)
        if failure is not None:
            raise failure
        return written

    async def _run_chain(
        self,
        trail: Trail,
        state: DeliveryState,
        span: Span,
        place: DeliveryPlace,
        force: bool,
        last: bool,
    ) -> list[str]:
        written = []
        chain = await self._chain(trail, place, span)
        if chain["pending"] is not None:
            try:
                written.append(await self._write(trail, state, place, chain))
            except ObjectStoreError:
                if chain["pending"]["bucket"] == span.bucket or not self._is_over(chain):
                    raise
                # The trail has another bucket now, in which a new chain begins.
                await self._give_up_pending(trail, place, chain)
        forced = force or last
        for _ in range(_MAX_FORCED if forced else _MAX_AT_ONCE):
            if chain["ended"] is not None or not self._is_due(chain):
                break
            end = parse_time(chain["end"]) + self._interval
            await self._plan(trail, place, span, chain, end)
            written.append(await self._write(trail, state, place, chain))
        if chain["ended"] is None and forced:
            await self._plan(trail, place, span, chain, None, last)
            written.append(await self._write(trail, state, place, chain))
        return written

    def _is_over(self, chain: dict[str, Any]) -> bool:
        """Returns whether a chain has failed for the longest time."""
        return is_over(chain.get("failing_since"), self._clock.now())

    async def _give_up_pending(
        self, trail: Trail, place: DeliveryPlace, chain: dict[str, Any]
    ) -> None:
        self._log_given_up(trail, place, chain["pending"]["bucket"])
        chain.update(pending=None, ends=_ends_with(chain), previous=None, failing_since=None)
        await self._control.apply([Put("chain", f"{trail.uid}/{place.key}", chain)])

    def _log_given_up(self, trail: Trail, place: DeliveryPlace, bucket: str) -> None:
        about = {
            "trail": trail.arn,
            "account": place.account,
            "region": place.region,
            "bucket": bucket,
        }
        log.error("the last digest of a bucket is given up after 30 days", extra=about)
        self._metrics.given_up_files.inc()

    async def _note_failure(self, trail: Trail, span: Span, place: DeliveryPlace) -> None:
        chain = await self._chain(trail, place, span)
        if chain.get("failing_since") is None:
            chain["failing_since"] = stored_time(self._clock.now())
            await self._control.apply([Put("chain", f"{trail.uid}/{place.key}", chain)])

    async def give_up(self, trail: Trail, state: DeliveryState, span: Span, later: bool) -> bool:
        """Ends the chains of a closed span that have failed for the longest time.

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
            if chain["ended"] is not None:
                continue
            if not self._is_over(chain):
                return False
            chain.update(pending=None, ended=span.started_at, failing_since=None)
            changes.append(Put("chain", f"{trail.uid}/{place.key}", chain))
            listed = [] if later else await self._control.scan("log", f"{trail.uid}/{place.key}/")
            changes.extend(
                Remove("log", one.key) for one in listed if one.document["bucket"] == span.bucket
            )
            self._log_given_up(trail, place, span.bucket)
        await self._control.apply(changes)
        return True

    def _is_due(self, chain: dict[str, Any]) -> bool:
        return self._clock.now() >= parse_time(chain["end"]) + self._interval

    async def known(self, trail: Trail) -> list[dict[str, Any]]:
        """Returns for each place the first, last and newest digests of its chains.

        `starts` has all digests since `since`, when the trail was created; a chain that continues
        has no end.
        """
        found = []
        for stored in await self._control.scan("chain", f"{trail.uid}/"):
            chain = stored.document
            starts, ends = chain.get("starts"), chain.get("ends", [])
            newest = chain["previous"] or (ends[-1] if ends else None)
            if newest is None:
                continue
            # Chains of earlier versions do not have their starts.
            is_whole = starts is not None and trail.created_at
            place = DeliveryPlace.of_key(stored.key.removeprefix(f"{trail.uid}/"), trail.account)
            found.append(
                {
                    "organization": place.organization,
                    "account": place.account,
                    "region": place.region,
                    "trail": trail.name,
                    "homeRegion": trail.home_region,
                    "starts": starts or [],
                    "ends": ends,
                    "newest": newest,
                    "since": format_time(parse_time(trail.created_at))
                    if is_whole
                    else chain["end"],
                }
            )
        return found

    async def forget(self, trail: Trail) -> None:
        """Removes chains and undigested log files, because their bucket was deleted."""
        changes: list[StoreWrite] = []
        for kind in ("chain", "log"):
            stored = await self._control.scan(kind, f"{trail.uid}/")
            changes.extend(Remove(kind, s.key) for s in stored)
        await self._control.apply(changes)

    async def _chain(self, trail: Trail, place: DeliveryPlace, span: Span) -> dict[str, Any]:
        stored = await self._control.get("chain", f"{trail.uid}/{place.key}")
        started = format_time(parse_time(span.started_at))
        if stored is None:
            new: dict[str, Any] = {"previous": None, "pending": None, "ended": None}
            begun = await self._begin(trail, place, parse_time(started))
            return {**new, "end": format_time(begun), "starts": [], "ends": []}
        chain = stored.document
        if chain["ended"] is None or chain["ended"] == span.started_at:
            return chain
        # The end of the previous chain is stored, because digests must have different names.
        end = max(started, chain["end"])
        new = {"end": end, "previous": None, "pending": None, "ended": None}
        return {**new, "starts": chain.get("starts"), "ends": _ends_with(chain)}

    async def _begin(self, trail: Trail, place: DeliveryPlace, started: datetime) -> datetime:
        """Returns where a place's first chain begins: with the interval of its first file.

        The home place's begins with logging, for it has digests before it has files.
        """
        stored = await self._control.scan("log", f"{trail.uid}/{place.key}/")
        times = [s.document["delivered"] for s in stored if s.document.get("delivered")]
        is_home = (place.account, place.region) == (trail.account, trail.home_region)
        if is_home or not times:
            return started
        waited = max(parse_time(min(times)) - started, timedelta())
        # The first file may have been delivered at the end of an interval.
        intervals = max(0, math.ceil(waited / self._interval) - 1)
        return started + intervals * self._interval

    async def _plan(
        self,
        trail: Trail,
        place: DeliveryPlace,
        span: Span,
        chain: dict[str, Any],
        wanted: datetime | None,
        last: bool = False,
    ) -> None:
        """Makes and signs the next digest, and stores it before it is written to the bucket.

        It ends at `wanted` and lists the files delivered by then. Without `wanted` it ends now and
        lists all delivered files.
        """
        start = parse_time(chain["end"])
        end = wanted or self._clock.now()
        end = max(end.replace(microsecond=0), start + _SECOND)
        end = await self._unused(trail, place, span, chain, end)
        stored = await self._control.scan("log", f"{trail.uid}/{place.key}/")
        if wanted is not None:
            stored = [s for s in stored if _delivered_by(s.document, end)]
        logs = [_listed(s.document) for s in stored]
        chain["pending"] = await self._signed(trail, place, span, chain, (start, end), logs)
        chain["pending"]["ends"] = span.started_at if last else None
        changes: list[StoreWrite] = [Remove("log", s.key) for s in stored]
        await self._control.apply([*changes, Put("chain", f"{trail.uid}/{place.key}", chain)])
        reach("digest.planned")

    async def _unused(
        self,
        trail: Trail,
        place: DeliveryPlace,
        span: Span,
        chain: dict[str, Any],
        end: datetime,
    ) -> datetime:
        """Returns an end with an unused key: an earlier trail of this name may have used others.

        Raises:
            ObjectTaken: a digest that continues this chain has the key.
        """
        location = place.location(span.bucket, span.prefix)
        while True:
            key = digest_key(location, trail.name, trail.home_region, end)
            try:
                await self._objects.get(span.bucket, key)
            except ObjectStoreError as error:
                if chain["previous"] is None and error.code != "NoSuchKey":
                    raise
                return end  # a bucket that fails is met again, once the digest is planned
            there = await self._in_bucket.read(span.bucket, key)
            last = PreviousDigest(**chain["previous"]) if chain["previous"] else None
            if last and there and there.is_ours and there.previous == last:
                message = f"s3://{span.bucket}/{key} continues the chain, and is not known"
                raise ObjectTaken("ObjectMismatch", message)
            end += _SECOND

    async def _signed(
        self,
        trail: Trail,
        place: DeliveryPlace,
        span: Span,
        chain: dict[str, Any],
        window: tuple[datetime, datetime],
        logs: list[DeliveredLog],
    ) -> dict[str, Any]:
        previous = PreviousDigest(**chain["previous"]) if chain["previous"] else None
        location = place.location(span.bucket, span.prefix)
        start, end = (format_time(moment) for moment in window)
        key = digest_key(location, trail.name, trail.home_region, window[1])
        try:
            fingerprint = (await self._signer.current(window[1])).fingerprint
            content = digest_bytes(location, key, start, end, fingerprint, logs, previous)
            signature = await self._signer.sign(
                string_to_sign(end, location.bucket, key, content, previous), fingerprint
            )
        except SigningKeyUnavailable as error:
            log.error("digests cannot be signed", extra={"error": str(error)})
            message = "no key can sign digests; the log names the file"
            raise ObjectStoreError("SigningKeyUnavailable", message) from error
        return {
            "bucket": location.bucket,
            "key": key,
            "end": end,
            "content": base64.b64encode(content).decode(),
            "signature": signature.hex(),
            "kms_key": span.kms_key,
        }

    async def _write(
        self, trail: Trail, state: DeliveryState, place: DeliveryPlace, chain: dict[str, Any]
    ) -> str:
        pending = chain["pending"]
        content = base64.b64decode(pending["content"])
        metadata = {
            "signature": pending["signature"],
            "signature-algorithm": SIGNATURE_ALGORITHM,
        }
        new = NewObject(
            pending["bucket"],
            pending["key"],
            compress(content),
            metadata=metadata,
            kms_key=pending.get("kms_key", ""),
            encryption_context=encryption_context(trail.arn),
        )
        await self._writer.put(new)
        reach("digest.put")
        previous = PreviousDigest(
            pending["bucket"], pending["key"], sha256_hex(content), pending["signature"]
        )
        if chain["previous"] is None and chain.get("starts") is not None:
            # Never removed: validation needs the first digest of each chain.
            chain["starts"].append(asdict(previous))
        chain.update(
            end=pending["end"], previous=asdict(previous), pending=None, failing_since=None
        )
        chain["ended"] = pending["ends"]
        state.latest_digest = self._clock.now().isoformat(timespec="microseconds")
        state.latest_digest_error = None
        await self._control.apply(
            [
                Put("chain", f"{trail.uid}/{place.key}", chain),
                Put("delivery", trail.uid, state.document()),
            ]
        )
        self._metrics.delivered_files.labels("digest").inc()
        return str(pending["key"])


def _ends_with(chain: dict[str, Any]) -> list[Any]:
    """Returns the ends of the chains until now, the digest that was the last one of this among."""
    return [*chain.get("ends", ()), *([chain["previous"]] if chain["previous"] else [])]


def _delivered_by(document: dict[str, Any], end: datetime) -> bool:
    delivered = document.get("delivered")
    return delivered is None or parse_time(delivered) <= end


def _listed(document: dict[str, Any]) -> DeliveredLog:
    return DeliveredLog(**{name: document[name] for name in _LISTED})
