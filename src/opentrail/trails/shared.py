"""Deliveries of several servers with the same trails: one of them works at a time."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec

from opentrail.core.errors import LeaseLost, ObjectStoreError
from opentrail.core.event import Json
from opentrail.core.logs import attempt
from opentrail.core.trail import Trail
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoredDocument
from opentrail.ports.journal import Hold
from opentrail.trails.delivery_rounds import Delivered, TrailDeliveries
from opentrail.trails.registry import TrailRegistry

#: Kind of documents with servers' requests to the working server to deliver a trail now.
_REQUEST = "delivery-request"
#: Seconds between two checks for trails that other servers have changed, and for requests.
_REQUEST_POLL_SECONDS: Final = 0.5
#: Seconds between two checks for an answer.
_ANSWER_POLL_SECONDS: Final = 0.1
#: Maximum seconds to wait for an answer.
_MAX_WAIT_SECONDS = 120.0
#: Time after which a request expires, because the server that made it has stopped.
_EXPIRY = timedelta(minutes=10)
_UNANSWERED = "a server of the cluster could not be answered"


class _Request(StoredDocument, frozen=True, kw_only=True):
    """A request to deliver a trail now, and its answer once there is one."""

    uid: str
    asked: datetime
    #: Keys of the files that were written.
    logs: list[str] = msgspec.field(default_factory=list)
    digests: list[str] = msgspec.field(default_factory=list)
    #: Code and message of the object store's error.
    error: tuple[str, str] | None = None
    is_answered: bool = False


class SharedDeliveries:
    """The deliveries of a server that may not be the working server.

    Args:
        local: this server's deliveries, which work while this server does.
        registry: the trails, which every server may change.
        control: the control store, which every server may change.
        worker_control: the same, which only the working server may change.
        clock: the time.
    """

    def __init__(
        self,
        local: TrailDeliveries,
        registry: TrailRegistry,
        control: ControlStore,
        worker_control: ControlStore,
        clock: Clock,
    ) -> None:
        self._local = local
        self._registry = registry
        self._control = control
        self._worker_control = worker_control
        self._clock = clock
        #: Polls for requests of other servers while this one works; None while it does not.
        self._polling: asyncio.Task[None] | None = None
        #: Answers that are being prepared, by the keys of their requests.
        self._answering: dict[str, asyncio.Task[bool]] = {}
        #: Deliveries for callers of this server.
        self._flushing: set[asyncio.Task[Delivered]] = set()
        #: Versions of the trails at the last look.
        self._versions: dict[str, int] = {}

    # On any server.

    def ensure(self, uid: str) -> None:
        """Starts delivery of a trail; the working server discovers a new trail automatically."""
        if self._polling is not None:
            self._local.ensure(uid)

    def wake(self, uid: str) -> None:
        """Delivers a trail now instead of after the interval; the working server does, soon."""
        if self._polling is not None:
            self._local.wake(uid)

    async def close_span(self, uid: str, event_id: str, position: int) -> None:
        """Sets the position of a call that closed a span, and delivers the rest."""
        await self._registry.amend(uid, lambda trail: trail.with_closed_span(event_id, position))
        self.wake(uid)

    async def known_digests(self, trail: Trail) -> list[Json]:
        """Returns for each account and Region the first, last and newest digests of its chains."""
        return await self._local.known_digests(trail)

    async def holds(self) -> list[Hold]:
        """Returns the entries that each trail may still need."""
        return await self._local.holds()

    def catch_up(self) -> None:
        """Delivers trails now if this server works."""
        if self._polling is not None:
            self._local.catch_up()

    async def flush(self, trail: Trail) -> Delivered:
        """Delivers and signs now, or has the working server do so.

        Raises:
            ObjectStoreError: the bucket failed, or no server answered in time.
        """
        if self._polling is not None:
            work = asyncio.create_task(self._local.flush(trail))
            self._flushing.add(work)
            work.add_done_callback(self._flushing.discard)
            try:
                return await work
            except LeaseLost:
                pass  # another server works now
            except asyncio.CancelledError:
                if self._polling is not None or not work.cancelled():
                    raise  # the caller has disconnected
        key = secrets.token_hex(16)
        request = _Request(uid=trail.uid, asked=self._clock.now())
        await self._control.apply([Put(_REQUEST, key, request.document(), expected=0)])
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                answer = await self._answer_to(key)
        except TimeoutError:
            reason = "no server of the cluster has delivered the trail in time; try again"
            raise ObjectStoreError("SlowDown", reason) from None
        finally:
            await self._control.apply([Remove(_REQUEST, key)])
        if answer.error is not None:
            raise ObjectStoreError(*answer.error)
        return Delivered(answer.logs, answer.digests)

    async def _answer_to(self, key: str) -> _Request:
        while True:
            stored = await self._control.get(_REQUEST, key)
            if stored is None:
                raise ObjectStoreError("SlowDown", "the request has expired; try again")
            request = _Request.of(stored.document)
            if request.is_answered:
                return request
            await asyncio.sleep(_ANSWER_POLL_SECONDS)

    # On the working server.

    async def start(self) -> None:
        """Begins to work: this server alone may deliver until `stop`."""
        await self._local.start()
        self._polling = asyncio.create_task(self._keep_polling())

    async def stop(self) -> None:
        """Ends the work; unfinished rounds continue on the next server that works."""
        tasks: list[asyncio.Task[Any]] = [*self._answering.values(), *self._flushing]
        if self._polling is not None:
            tasks.append(self._polling)
        self._polling = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._answering, self._versions = {}, {}
        await self._local.stop()

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(_REQUEST_POLL_SECONDS)
            for poll in (self._poll_trails, self._poll_requests):
                await attempt(poll(), _UNANSWERED)

    async def _poll_trails(self) -> None:
        """Delivers trails that other servers have added or changed."""
        trails = await self._registry.all_and_retired()
        versions = {stored.trail.uid: stored.version for stored in trails}
        for uid, version in versions.items():
            if self._versions.get(uid) != version:
                self._local.wake(uid)
        self._versions = versions

    async def _poll_requests(self) -> None:
        for stored in await self._control.scan(_REQUEST):
            request = _Request.of(stored.document)
            if self._clock.now() - request.asked > _EXPIRY:
                await self._worker_control.apply([Remove(_REQUEST, stored.key)])
            elif not request.is_answered and stored.key not in self._answering:
                task = asyncio.create_task(attempt(self._answer(stored, request), _UNANSWERED))
                self._answering[stored.key] = task
                task.add_done_callback(partial(self._forget_answer, stored.key))

    def _forget_answer(self, key: str, _task: asyncio.Task[bool]) -> None:
        self._answering.pop(key, None)

    async def _answer(self, stored: Stored, request: _Request) -> None:
        """Delivers a trail for another server."""
        document = {**stored.document, "is_answered": True}
        try:
            delivered = await self._local.ensure(request.uid).deliver(flush=True)
        except ObjectStoreError as error:
            document["error"] = [error.code, error.message]
        else:
            document |= {"logs": delivered.logs, "digests": delivered.digests}
        put = Put(_REQUEST, stored.key, document, expected=stored.version)
        await self._worker_control.apply([put])
