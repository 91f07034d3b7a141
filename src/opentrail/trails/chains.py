"""Digest chains as the control store has them, and the log files that no digest lists yet."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from opentrail.core.digest_file import DeliveredLog, PreviousDigest
from opentrail.core.logfile import DeliveryPlace
from opentrail.core.trail import Trail
from opentrail.ports.control import ControlStore, Put, Remove
from opentrail.trails.documents import StoredDocument
from opentrail.trails.outbox import file_key

#: Kinds of documents: the chain of a trail's place; a log file that its next digest lists.
_CHAIN = "chain"
_LOG = "log"


class PendingDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A signed digest that is to be written: the same bytes after any failure."""

    bucket: str
    key: str
    end: datetime
    content: bytes
    signature: str
    kms_key: str = ""
    #: `started_at` of the span whose last digest it is; None if the chain goes on.
    ends: str | None


class DigestChain(StoredDocument, frozen=True, kw_only=True):
    """The digests of a trail's place, each of which refers to the previous one."""

    #: End of the last digest, in whole seconds: the next one begins there.
    end: datetime
    previous: PreviousDigest | None
    pending: PendingDigest | None
    #: `started_at` of the span whose last digest has ended the chain; None while it goes on.
    ended: str | None
    #: First digests of this chain and of those before it; None if the first of them is of an
    #: earlier version, which did not store it.
    starts: tuple[PreviousDigest, ...] | None = None
    #: Last digests of the chains before it.
    ends: tuple[PreviousDigest, ...] = ()
    #: Since when digests cannot be written; None if they can.
    failing_since: datetime | None = None

    @classmethod
    def begin(
        cls,
        end: datetime,
        starts: tuple[PreviousDigest, ...] | None = (),
        ends: tuple[PreviousDigest, ...] = (),
    ) -> DigestChain:
        """Returns a chain without digests, the first of which begins at `end`."""
        return cls(end=end, previous=None, pending=None, ended=None, starts=starts, ends=ends)

    @property
    def all_ends(self) -> tuple[PreviousDigest, ...]:
        """The last digests of the chains until now: also its own, if it ends here."""
        return (*self.ends, self.previous) if self.previous else self.ends


class UndigestedLog(DeliveredLog, frozen=True):
    """A log file that the next digest of its place lists."""

    #: When it was delivered; None if an earlier version has delivered it.
    delivered: datetime | None = None


class StoredChains:
    """The chains and the undigested log files of trails."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    async def get(self, trail: Trail, place: DeliveryPlace) -> DigestChain | None:
        """Returns the chain of a place; None if it has none yet."""
        stored = await self._control.get(_CHAIN, _key(trail, place))
        return DigestChain.of(stored.document) if stored else None

    async def all(self, trail: Trail) -> list[tuple[DeliveryPlace, DigestChain]]:
        """Returns the chains of a trail, with their places."""
        start = f"{trail.uid}/"
        return [
            (
                DeliveryPlace.of_key(stored.key.removeprefix(start), trail.account),
                DigestChain.of(stored.document),
            )
            for stored in await self._control.scan(_CHAIN, start)
        ]

    async def logs(self, trail: Trail, place: DeliveryPlace) -> dict[str, UndigestedLog]:
        """Returns the log files that the next digest of a place lists, by their stored keys."""
        stored = await self._control.scan(_LOG, f"{_key(trail, place)}/")
        return {log.key: msgspec.convert(log.document, UndigestedLog) for log in stored}

    async def forget(self, trail: Trail) -> None:
        """Removes chains and undigested log files, because their bucket was deleted."""
        await self._control.apply(
            [
                Remove(kind, stored.key)
                for kind in (_CHAIN, _LOG)
                for stored in await self._control.scan(kind, f"{trail.uid}/")
            ]
        )


def about_chain(trail: Trail, place: DeliveryPlace) -> dict[str, str]:
    """Returns the fields of a log entry that name a chain."""
    return {"trail": trail.arn, "account": place.account, "region": place.region}


def put_chain(trail: Trail, place: DeliveryPlace, chain: DigestChain) -> Put:
    """Returns the change that stores a chain."""
    return Put(_CHAIN, _key(trail, place), chain.document())


def put_log(trail: Trail, place: DeliveryPlace, number: int, log: UndigestedLog) -> Put:
    """Returns the change by which the next digest lists a log file, the trail's `number`-th."""
    return Put(_LOG, file_key(_key(trail, place), number), msgspec.to_builtins(log))


def remove_logs(keys: Iterable[str]) -> list[Remove]:
    """Returns the changes by which no later digest lists log files with these stored keys."""
    return [Remove(_LOG, key) for key in keys]


def _key(trail: Trail, place: DeliveryPlace) -> str:
    return f"{trail.uid}/{place.key}"
