"""Event history: who did what in the last 90 days, visible at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from opentrail.core.errors import CloudTrailError, StoreRestarted
from opentrail.core.event import Entry
from opentrail.core.expression import Expression
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import EventQuery, EventStore, FoundEvent, Snapshot

PAGE = 50
#: Maximum seconds that a look-up waits for records that are durable but not yet visible.
_LONGEST_WAIT = 0.5
#: Maximum seconds that a look-up waits for the hot layer to be rebuilt; then it reads what exists.
_LONGEST_REBUILD = 30.0


@dataclass(frozen=True, slots=True)
class Search:
    """The conditions of a search; None means any. Times are inclusive."""

    account: str | None = None
    region: str | None = None
    categories: tuple[str, ...] | None = None
    attribute: tuple[str, str] | None = None
    expression: Expression | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and the token of the next page if there is one."""

    events: list[FoundEvent]
    next_token: str | None


class History:
    """Follows the journal into the event store, and pages through it."""

    name = "history"

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        metrics: Metrics,
        token_key: bytes,
        retention: timedelta = timedelta(days=90),
        head: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._token_key = token_key
        self._retention = retention
        self._head = head
        #: Set while a look-up waits for the newest records.
        self.hurry = asyncio.Event()
        self._advanced = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._catch_up_to = 0

    def catch_up_to(self, position: int) -> None:
        """Makes look-ups wait until this position is visible (the hot layer's rebuilding)."""
        self._catch_up_to = position
        if self._store.position >= position:
            self._caught_up.set()
        else:
            self._caught_up.clear()
            self.hurry.set()

    async def cursor(self) -> int:
        """Returns the last position in the store."""
        return self._store.position

    async def process(self, entries: Sequence[Entry]) -> None:
        """Makes the entries visible."""
        await self._store.add(entries)
        self._advanced.set()
        self._advanced = asyncio.Event()
        if self._caught_up.is_set():
            made = [entry.recorded_at for entry in entries]
            self._metrics.visible.observe(made, self._clock.now())
        self._metrics.history_position.set(self._store.position)
        if self._store.position >= self._catch_up_to:
            self._caught_up.set()

    async def search(self, search: Search, limit: int = PAGE, token: str | None = None) -> Page:
        """Returns one page, newest first.

        A token freezes what the first page saw: later arrivals do not move later pages.

        Raises:
            CloudTrailError: `InvalidNextTokenException` for a token that is not ours, or was given
                for another search.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_REBUILD):
                    await self._caught_up.wait()
            with contextlib.suppress(StoreRestarted):
                return await self._search(search, limit, token)

    async def _search(self, search: Search, limit: int, token: str | None) -> Page:
        if token is None:
            await self._see_newest()
            before, snapshot = None, self._store.snapshot
        else:
            before, snapshot = self._read_token(token, search)
        query = EventQuery(
            limit=limit + 1,
            snapshot=snapshot,
            account=search.account,
            region=search.region,
            categories=search.categories,
            attribute=search.attribute,
            expression=search.expression,
            start=search.start,
            end=search.end,
            before=before,
            recorded_since=self.kept_since,
        )
        found = await self._store.lookup(query)
        if len(found) <= limit:
            return Page(found, None)
        page = found[:limit]
        return Page(page, self._write_token(page[-1], snapshot, search))

    async def _see_newest(self) -> None:
        """Waits until all that was durable before is visible, so that callers find their own calls.

        The wait is bounded: what does not come in time comes a little later.
        """
        head = self._head()
        if self._store.position >= head:
            return
        self.hurry.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_WAIT):
                while self._store.position < head:
                    await self._advanced.wait()
                    if self._store.position < head:
                        self.hurry.set()

    @property
    def kept_since(self) -> datetime:
        """The start of the retention period, by time of recording or import."""
        return self._clock.now() - self._retention

    def _write_token(self, last: FoundEvent, snapshot: Snapshot, search: Search) -> str:
        seen = astuple(snapshot)
        body = json.dumps([int(last.event_time.timestamp()), last.position, *seen]).encode()
        return base64.urlsafe_b64encode(self._seal(body, search) + body).decode()

    def _read_token(self, token: str, search: Search) -> tuple[tuple[datetime, int], Snapshot]:
        try:
            raw = base64.urlsafe_b64decode(token.encode())
        except (binascii.Error, ValueError) as error:
            raise _bad_token() from error
        seal, body = raw[:16], raw[16:]
        if not hmac.compare_digest(seal, self._seal(body, search)):
            raise _bad_token()
        seconds, position, *seen = json.loads(body)
        return (datetime.fromtimestamp(seconds, UTC), position), Snapshot(*seen)

    def _seal(self, body: bytes, search: Search) -> bytes:
        """Binds a token to the caller's account and to the whole search (guarantee Z3)."""
        conditions = json.dumps(asdict(search), default=str, sort_keys=True).encode()
        return hmac.digest(self._token_key, body + hashlib.sha256(conditions).digest(), "sha256")[
            :16
        ]

    async def latest(self, search: Search, limit: int) -> list[FoundEvent]:
        """Returns up to `limit` events, newest first, over as many pages as that takes."""
        found: list[FoundEvent] = []
        token: str | None = None
        while len(found) < limit:
            page = await self.search(search, min(1_000, limit - len(found)), token)
            found.extend(page.events)
            token = page.next_token
            if token is None:
                break
        return found

    async def about(self, name: str, search: Search, limit: int = 1_000) -> list[FoundEvent]:
        """Returns the events that name a resource `name`, which may be an ARN."""
        return await self.latest(replace(search, attribute=("ResourceName", name)), limit)


def _bad_token() -> CloudTrailError:
    return CloudTrailError(
        "InvalidNextTokenException",
        "The next token is not valid, or it was given for a request with other parameters.",
    )


def shown_event(event: FoundEvent) -> dict[str, Any]:
    """Returns the Event shape of LookupEvents (cloudtrail-format §6)."""
    shown: dict[str, Any] = {
        "EventId": event.event_id,
        "EventName": event.event_name,
        "ReadOnly": "true" if event.read_only else "false",
    }
    if event.access_key_id:
        shown["AccessKeyId"] = event.access_key_id
    shown["EventTime"] = int(event.event_time.timestamp())
    shown["EventSource"] = event.event_source
    if event.username:
        shown["Username"] = event.username
    resources = []
    for resource in event.resources:
        named = {"ResourceType": resource.type} if resource.type else {}
        resources.append({**named, "ResourceName": resource.name})
    shown["Resources"] = resources
    shown["CloudTrailEvent"] = event.record
    return shown
