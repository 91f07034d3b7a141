"""A browser that has opened the console, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from opentrail.access.user_tokens import UserTokens
from opentrail.access.users import ConsoleRole, ConsoleUsers, ScryptCost
from opentrail.api.console.oidc import OidcLogin
from opentrail.api.console.sessions import Sessions
from opentrail.api.console.web import HOME, ConsoleSettings, WebConsole
from opentrail.api.pages import port_app
from opentrail.api.v1.administration import AccessAdministration, ImportedFiles, ReceivedRecords
from opentrail.api.v1.callers import ApiCaller
from opentrail.api.v1.proofs import Proofs
from opentrail.api.v1.server import JsonApi
from opentrail.api.v1.state import State
from opentrail.api.v1.trail_administration import ConsoleCaller, TrailAdministration
from opentrail.app.event_prover import answer
from opentrail.core.errors import RecordRefused, ServiceError
from opentrail.history.event_history import History
from tests.api.caller import TOKEN, Answer, Api, send
from tests.factories import ACCOUNT, REGION, an_identity
from tests.fakes import immediately
from tests.validation.delivered import MemoryReader

HOST = "127.0.0.1:4748"
#: Hashes passwords faster than is safe.
CHEAP = ScryptCost(n=16)
AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


class CalledEndpoint:
    """An `Endpoint` that records calls of services, and lets the API answer its own operations."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.callers: set[ConsoleCaller] = set()
        self.refused: Sequence[str] = ()
        #: Operation → code of its error.
        self.errors: dict[str, str] = {}
        #: Operations with empty answers.
        self.missing: Sequence[str] = ()
        #: The answer to CloudTrail operations, instead of the API's.
        self.answer: tuple[int, bytes] | None = None

    async def call(
        self,
        service: str,
        operation: str,
        region: str,
        caller: ConsoleCaller,
        given: dict[str, Any],
    ) -> dict[str, Any]:
        """Returns nothing, or refuses the operations in `refused`."""
        self.calls.append((service, operation, given))
        self.callers.add(caller)
        if operation in self.refused:
            raise ServiceError("Refused", f"{service}:{operation}: not today")
        if operation in self.errors:
            raise ServiceError(self.errors[operation], "not today")
        if operation in self.missing:
            raise ServiceError("404", "Not Found")
        return {}

    async def cloudtrail(
        self, operation: str, region: str, caller: ConsoleCaller, body: bytes
    ) -> tuple[int, bytes]:
        """Returns the API's answer."""
        self.callers.add(caller)
        if self.answer is not None:
            return self.answer
        answer = await self._api.call(operation, region=region, body=body)
        return answer.status, answer.body


class Browser:
    """A browser with a session."""

    def __init__(
        self,
        api: Api | None = None,
        oidc: OidcLogin | None = None,
        is_own_name: Callable[[str], bool] | None = HOST.__eq__,
        proxy_host: str | None = None,
    ) -> None:
        self.api = api or Api()
        self.sessions = Sessions(self.api.world.clock)
        self.endpoint = CalledEndpoint(self.api)
        settings = ConsoleSettings(lambda: ACCOUNT, REGION, is_own_name)
        self.users = ConsoleUsers(self.api.world.control, self.api.world.clock, CHEAP)
        services, world = self.api.services, self.api.world
        self.tokens = UserTokens(world.control, self.users, world.clock)
        web = WebConsole(
            world.journal,
            world.clock,
            self.sessions,
            settings,
            self.users,
            self.tokens,
            self._link,
            oidc,
        )
        groups = [
            *self.api.groups,
            State(services, self._health, self._health, world.metrics.visible.quantiles),
            TrailAdministration(services, self.endpoint, lambda: ACCOUNT, REGION),
            Proofs(services, self._prove, self.api.verifications),
            AccessAdministration(self._act, self._act, self._act),
            ReceivedRecords(self._ingest, lambda key: an_identity(key)),
            ImportedFiles(self._imports),
            *web.groups(services),
        ]
        json_api = JsonApi(groups, TOKEN, web.guard, web.user_tokens)
        self.rules = json_api.rules
        self.app = port_app([*json_api.routes, *web.pages()], HOME, proxy_host)
        self.health: dict[str, Any] = {
            "status": "ok",
            "missing": [],
            "journal": {"position": 7, "failure": None},
            "history": {"position": 6, "imported": 10, "responding": True},
            "controlStore": {"failure": None},
            "insecureTrustedNetworks": (),
        }
        self.cookie: str | None = None
        self.open_link()
        #: Questions about events.
        self.questions: list[dict[str, Any]] = []

    def open_link(self) -> None:
        """Begins a session as the operator on the server's machine."""
        self.cookie = immediately(self.sessions.begin(self.sessions.new_link()))

    def become(self, role: ConsoleRole, *accounts: str, name: str = "ann") -> None:
        """Begins a session of a user with a role, optionally limited to some accounts."""
        user = ApiCaller(name, role, accounts or None, has_password=True)
        self.cookie = immediately(self.sessions.begin_for(user))

    async def _act(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"given": given}

    async def _ingest(self, body: bytes, again: bool) -> int:
        return len(body.splitlines())

    async def _imports(
        self, body: AsyncIterator[bytes], on_read: Callable[[int], None]
    ) -> dict[str, Any]:
        files = [part.decode() async for part in body]
        for read, _ in enumerate(files, 1):
            on_read(read)
            await asyncio.sleep(0)
        if "damaged" in files:
            raise RecordRefused("the disk is full")
        return {"files": files}

    def _link(self) -> str:
        return f"http://{HOST}/console/#t={self.sessions.new_link()}"

    async def _prove(self, asked: dict[str, Any]) -> list[Any]:
        """Answers like the process, from buckets in memory."""
        self.questions += asked["questions"]
        world = self.api.world
        given = json.dumps(asked).encode()
        said = answer(given, lambda: MemoryReader(world.buckets.objects), world.clock.now())
        proven: list[Any] = json.loads(said)
        return proven

    async def _health(self) -> dict[str, Any]:
        return self.health

    def headers(self, **changes: str | None) -> dict[str, str]:
        """Returns the headers of a console page's request; None omits a header."""
        usual: dict[str, str | None] = {
            "host": HOST,
            "user-agent": AGENT,
            "cookie": f"ot-session={self.cookie}" if self.cookie else None,
            "x-ot-csrf": "1",
            "origin": f"http://{HOST}",
            "sec-fetch-site": "same-origin",
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        return {name: value for name, value in usual.items() if value is not None}

    async def get(self, path: str, **query: str) -> Answer:
        """Calls the console's API."""
        return await send(self.app, "GET", f"/api/v1/{path}?{urlencode(query)}", self.headers())

    async def post(self, path: str, body: Any, **changes: str | None) -> Answer:
        """Posts to the console's API; `changes` are of the headers."""
        return await self.send("POST", path, body, **changes)

    async def send(self, method: str, path: str, body: Any = None, **changes: str | None) -> Answer:
        """Sends a change; `changes` are of the headers."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await send(self.app, method, f"/api/v1/{path}", self.headers(**changes), raw)


async def most_reading(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Awaitable[Answer]], method: str = "latest"
) -> int:
    """Returns the number of concurrent reads of events during three requests."""
    latest, reading, most = getattr(History, method), 0, 0

    async def counted(*arguments: Any) -> Any:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        try:
            await asyncio.sleep(0)
            return await latest(*arguments)
        finally:
            reading -= 1

    monkeypatch.setattr(History, method, counted)
    answers = await asyncio.gather(ask(), ask(), ask())
    assert [answer.status for answer in answers] == [200] * 3
    return most
