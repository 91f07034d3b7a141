"""Calls the ASGI applications like the recorder and uvicorn, without a socket.

`Api` stands in for the recorder: it runs the application, records the call in the journal, makes
it visible in event history, and runs the callbacks for the record's position.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.applications import Starlette

from opentrail.access.policies import PolicyDirectory
from opentrail.access.resource_policies import ResourcePolicies, removal
from opentrail.api.cloudtrail.authorizer import Authorizer
from opentrail.api.cloudtrail.server import CloudTrailApi
from opentrail.api.pages import PublicState
from opentrail.api.services import Services
from opentrail.api.v1.counts import EventCounts
from opentrail.api.v1.detections import Detections
from opentrail.api.v1.events import EventExport, Events
from opentrail.api.v1.incidents import Incidents
from opentrail.api.v1.proofs import Verifications
from opentrail.api.v1.questions import AgentQuestions
from opentrail.api.v1.server import JsonApi, QuestionRoutes
from opentrail.api.v1.stores import EventDataStores
from opentrail.api.v1.stories import Stories
from opentrail.api.v1.streams import Streams
from opentrail.api.v1.tail import Marks, Tail
from opentrail.api.v1.trails import Trails
from opentrail.app.wings.insights import sources
from opentrail.capture.proxy.endpoint import SCOPE_KEY, ApiCall
from opentrail.core.event import Entry, format_time
from opentrail.core.identity import Identity
from opentrail.detections.enabled_rules import EnabledRules
from opentrail.history.event_history import History
from opentrail.insights.findings import ExpectedIncidents
from opentrail.insights.follower import Insights
from opentrail.lake.channel_registry import Channels
from opentrail.lake.queries import Queries
from opentrail.lake.store_imports import StoreImports
from opentrail.lake.store_registry import Stores
from opentrail.trails.organization_trails import OrganizationAdministration
from opentrail.wire.message import AsgiApp
from tests.factories import ACCOUNT, REGION, a_new_entry, a_record, an_identity, catalog
from tests.fakes import MemoryEvents
from tests.insights.local_watch import LocalWatch
from tests.lake.stand_ins import MemoryQueries, StandInDelivery, StandInEngine
from tests.trails.world import World

TOKEN = "the-token"
TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101."


@dataclass
class Answer:
    """An HTTP answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: All cookies that the answer sets, one after another.
    cookies: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str]:
        """The code and text of an error; fails if it is not one in AWS's form."""
        assert self.status >= 400, self.body
        assert set(self.json) == {"__type", "Message"}
        return self.json["__type"], self.json["Message"]


async def send(
    app: AsgiApp,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    **scope: Any,
) -> Answer:
    """Sends one request to an ASGI application, its body in two pieces."""
    answer, ended = Answer(), asyncio.Event()
    middle = len(body) // 2
    waiting = [
        {"type": "http.request", "body": body[:middle], "more_body": True},
        {"type": "http.request", "body": body[middle:], "more_body": False},
    ]

    async def receive() -> Any:
        if not waiting:
            await ended.wait()
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def take(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            cookies = [v.decode() for k, v in message["headers"] if k == b"set-cookie"]
            answer.cookies = "; ".join(cookies)
        else:
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                ended.set()

    await app({**scope_of(method, path, headers), **scope}, receive, take)
    return answer


def scope_of(method: str, path: str, headers: dict[str, str] | None) -> dict[str, Any]:
    """Returns the ASGI scope of a request."""
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in (headers or {}).items()],
        "client": ("192.0.2.10", 0),
        "server": None,
        "state": {},
    }


class Stream:
    """An endless answer, read line by line; unread lines block the application."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = asyncio.Event()
        self.gone = asyncio.Event()
        #: Number of received parts, each with one or more lines.
        self.parts = 0
        self._parts: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._lines: list[bytes] = []

    async def line(self) -> Any:
        """Returns the next line's JSON; fails if there is none."""
        while not self._lines:
            part = await self._parts.get()
            assert part, "the answer has ended"
            assert part.endswith(b"\n")
            self._lines = part.splitlines()
        return json.loads(self._lines.pop(0))

    async def part(self) -> bytes:
        """Returns the next part."""
        return await self._parts.get()

    async def event(self) -> str:
        """Returns the id of the next event, skipping lines that only have a position."""
        while True:
            line = await self.line()
            assert "error" not in line, line
            if "EventId" in line:
                return str(line["EventId"])

    async def take(self, message: Any) -> None:
        """Receives a message of the application."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            return
        if message.get("body"):
            self.parts += 1
            await self._parts.put(message["body"])
        if not message.get("more_body", False):
            self.ended.set()


@asynccontextmanager
async def streamed(app: AsgiApp, path: str, headers: dict[str, str]) -> AsyncIterator[Stream]:
    """Asks for an endless answer; at the end the reader leaves, and the call must end."""
    stream = Stream()
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if not asked:
            await stream.gone.wait()
        return asked.pop(0) if asked else {"type": "http.disconnect"}

    task = asyncio.ensure_future(app(scope_of("GET", path, headers), receive, stream.take))
    try:
        yield stream
    finally:
        stream.gone.set()
        await task


class Api:
    """The CloudTrail API and the console over a world in memory.

    With `enforced`, callers may do what `policies` allow, otherwise everything.
    """

    def __init__(
        self,
        world: World | None = None,
        enforced: bool = False,
        is_trusted: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.world = world or World()
        self.policies = PolicyDirectory(self.world.control)
        self.resource_policies = ResourcePolicies(self.world.control)
        self.events = MemoryEvents()
        self.history = History(self.events, self.world.clock, self.world.metrics, b"k" * 32)
        self.history.follower.catch_up_to(0)
        self.engine = StandInEngine()
        self.delivery = StandInDelivery()
        world = self.world
        self.stores = Stores(world.control, world.journal.newest, world.clock)
        self.imports = StoreImports(world.control, world.clock, is_supported=True)
        self.channels = Channels(world.control, self.stores, lambda arn: [removal(arn)])
        self.services = Services(
            self.history,
            self.world.registry,
            self.world.deliveries,
            self.world.control,
            self.world.journal,
            self.world.destinations,
            self.world.signer,
            self.world.clock,
            OrganizationAdministration(self.world.source, self.world.control),
            Queries(self.engine, MemoryQueries(), self.world.clock, self.delivery, self.stores),
            self.stores,
            imports=self.imports,
            channels=self.channels,
        )
        self.insights = Insights(
            LocalWatch(),
            self.events,
            self.world.journal,
            self.world.clock,
            self.history.follower.until_visible,
            partial(sources, self.world.registry, True),
            ExpectedIncidents(self.world.control),
        )
        authorizer = Authorizer(
            self.policies,
            self.resource_policies,
            self.world.registry,
            self.world.clock,
            is_trusted,
            self.stores,
            self.channels,
        )
        self.app = CloudTrailApi(
            self.services, catalog(), SCOPE_KEY, authorizer if enforced else None
        ).app
        self.health: dict[str, Any] = {"status": "ok"}
        self.token = TOKEN
        #: Missing positions of event history.
        self.missing: list[str] = []
        self.streams = Streams(self.services, self._missing)
        self.verifications = Verifications(self.world.control, self.world.clock)
        self.tail = Tail(self.services)
        trails = Trails(self.services, self._verify, self.verifications)
        #: Groups of the JSON API.
        self.groups: list[object] = [
            Events(self.services, self._missing),
            EventExport(self.services),
            EventCounts(self.services),
            Stories(self.services, self._missing),
            QuestionRoutes(self.services, self._missing),
            Incidents(self.services, self.insights, lambda: ACCOUNT),
            Detections(
                self.services, EnabledRules(self.world.control), lambda: ACCOUNT, self._missing
            ),
            Marks(self.services),
            self.tail,
            trails,
            EventDataStores(self.services, trails),
            self.streams,
            AgentQuestions(self.world.journal, self.world.clock, lambda: ACCOUNT),
        ]
        self.public = PublicState(self._exposition, self._health)
        api = JsonApi(self.groups, self.token)
        self.console = Starlette(routes=[*self.public.routes(), *api.routes])
        #: The verifier's output about the trails in a verification.
        self.verified: list[str] = []
        self.calls = 0
        #: Expiry of each signature.
        self.signed: dict[str, datetime] = {}

    def _missing(self) -> list[str]:
        return self.missing

    async def _verify(self, arn: str) -> tuple[bool, list[str]]:
        lines = self.verified or [f"NOT GOOD\tlog file\ts3://b/{arn}\thash value doesn't match"]
        return not any(line.startswith("NOT GOOD") for line in lines), lines

    async def _exposition(self) -> bytes:
        return self.world.metrics.exposition()

    async def _health(self) -> dict[str, Any]:
        return self.health

    async def call(
        self,
        operation: str,
        *,
        account: str = ACCOUNT,
        region: str = REGION,
        target: str | None = None,
        body: bytes | None = None,
        identity: Identity | None = None,
        anonymous: bool = False,
        source_ip: str = "192.0.2.10",
        secure: bool = False,
        signature: str | None = None,
        agent: str = "aws-cli/2.15.17",
        **parameters: Any,
    ) -> Answer:
        """Calls an operation like an SDK, and records the call like the recorder."""
        self.calls += 1
        call_id = f"call-{self.calls}"
        who = None if anonymous else identity or an_identity(account=account)
        own = ApiCall(call_id, who, account, region, source_ip, secure=secure)
        if signature is not None:
            own.signature = signature
            valid_until = self.world.clock.now() + timedelta(minutes=5)
            own.valid_until = self.signed.setdefault(signature, valid_until)
        headers = {
            "X-Amz-Target": TARGET + operation if target is None else target,
            "Content-Type": "application/x-amz-json-1.1",
            "User-Agent": agent,
        }
        path = "/"
        if operation == "PutAuditEvents":
            del headers["X-Amz-Target"]
            in_query = [name for name in ("channelArn", "externalId") if name in parameters]
            query: dict[str, str] = {name: str(parameters.pop(name)) for name in in_query}
            path = f"/PutAuditEvents?{urlencode(query)}"
        raw = json.dumps(parameters).encode() if body is None else body
        answer = await send(self.app, "POST", path, headers, raw, **{SCOPE_KEY: own})
        record = a_record(
            eventID=call_id,
            eventTime=format_time(self.world.clock.now()),
            eventSource="cloudtrail.amazonaws.com",
            eventName=operation or "Unknown",
            awsRegion=region,
            recipientAccountId=account,
            requestParameters=None,
            responseElements=None,
        )
        position = await self.record([record], origin="api")
        for action in own.when_recorded:
            await action(position)
        return answer

    async def ok(self, operation: str, **given: Any) -> Any:
        """Calls an operation that must succeed; returns its output."""
        answer = await self.call(operation, **given)
        assert answer.status == 200, answer.body
        return answer.json

    async def error(self, operation: str, **given: Any) -> tuple[str, str]:
        """Calls an operation that must fail with status 400; returns code and text."""
        answer = await self.call(operation, **given)
        assert answer.status == 400, answer.body
        return answer.error

    async def record(self, records: list[dict[str, Any]], origin: str = "recorder") -> int:
        """Appends records to the journal and makes them visible; returns the last position."""
        now = self.world.clock.now()
        entries = [a_new_entry(record, origin=origin, recorded_at=now) for record in records]
        head = await self.world.journal.append(entries)
        read: list[Entry] = await self.world.journal.read(self.events.position, 100_000)
        await self.history.follower.process(read)
        return head

    async def ask(
        self, path: str, token: str | None = TOKEN, method: str = "GET", **query: str
    ) -> Answer:
        """Asks the console."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await send(self.console, method, f"{path}?{urlencode(query)}", headers)

    def stream(self, path: str, **query: str) -> AbstractAsyncContextManager[Stream]:
        """Asks the console for an endless answer."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return streamed(self.console, f"{path}?{urlencode(query)}", headers)

    async def post(self, path: str, body: bytes) -> Answer:
        """Posts to the console."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return await send(self.console, "POST", path, headers, body)


async def filled(*records: Mapping[str, Any]) -> Api:
    """Returns an API whose event history has records, and whose clock is later than theirs."""
    api = Api()
    api.world.clock.advance(3_600)
    await api.record([dict(record) for record in records])
    return api
