"""Health, metrics, and the JSON API behind the command line, on the console port."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opentrail.api.conditions import (
    count_in,
    defaults_in,
    hiding_defaults,
    search_in,
    without_defaults,
)
from opentrail.api.insights import describe, expect_incident, list_incidents, scan, show_incident
from opentrail.api.marks import read_records, set_mark
from opentrail.api.operation import Services
from opentrail.api.streams import Streams
from opentrail.api.trail_states import find_trail
from opentrail.api.users import UserAdministration
from opentrail.core.errors import (
    CloudTrailError,
    ObjectStoreError,
    OpentrailError,
    RecordRefused,
    Unsupported,
    UsageError,
)
from opentrail.core.event import INSIGHT
from opentrail.core.identity import Identity
from opentrail.core.trail import Trail
from opentrail.history.event_history import PAGE, Search, shown_event
from opentrail.who.answers import who

#: Maximum events that are searched to count those that defaults hide.
_MAX_COUNTED = 1_000
#: Maximum characters of the note of an expected incident.
_MAX_NOTE_LENGTH = 1_000
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


Act = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class CommandLineApi:
    """An ASGI application.

    Args:
        services: what operations use.
        exposition: returns the body of `/metrics`.
        health: returns the body of `/health`.
        token: the bearer token that clients must send.
        ingest: records NDJSON records, which may be repeated if the flag is set; returns how many.
        identify: returns the identity of an access key id.
        missing: returns a description of each range that event history lacks.
        console_link: returns a link that opens the web console once.
        imports: imports the files of a body; returns the result of each.
        users: manages the users of the web console.
        actions: path → what runs an action on access keys, policies or trails.
        status: returns what `opentrail status` shows.
        any_host: whether `/health` and `/metrics` answer under every name of the server. Without
            TLS a page of another site could give its own name the server's address.
    """

    def __init__(
        self,
        services: Services,
        exposition: Callable[[], Awaitable[bytes]],
        health: Callable[[], Awaitable[dict[str, Any]]],
        token: str,
        ingest: Callable[[bytes, bool], Awaitable[int]] | None = None,
        imports: Callable[[AsyncIterator[bytes]], Awaitable[dict[str, Any]]] | None = None,
        identify: Callable[[str], Identity] | None = None,
        missing: Callable[[], list[str]] = list,
        console_link: Callable[[], str] | None = None,
        users: UserAdministration | None = None,
        actions: Mapping[str, Act] | None = None,
        status: Callable[[], Awaitable[dict[str, Any]]] | None = None,
        any_host: bool = False,
    ) -> None:
        self._any_host = any_host
        self._status = status
        self._users = users
        self._actions = actions or {}
        self._console_link = console_link
        self._missing = missing
        self._ingest = ingest
        self._identify = identify
        self._imports = imports
        self._services = services
        self._exposition = exposition
        self._health = health
        self._token = token
        self.streams = Streams(services, missing)
        self.app = Starlette(routes=self.routes())

    def routes(self) -> list[Route]:
        """Returns the routes of `app`."""
        return [
            Route("/health", self._show_health),
            Route("/metrics", self._show_metrics),
            Route("/api/v1/status", self._guarded(self._show_status)),
            Route("/api/v1/events", self._guarded(self._events)),
            Route("/api/v1/events/stream", self._guarded(self.streams.events)),
            Route("/api/v1/tail", self._guarded(self.streams.tail)),
            Route("/api/v1/marks", self._guarded(self._mark), methods=["POST"]),
            Route("/api/v1/marks/{position}/records", self._guarded(self._marked)),
            Route("/api/v1/who", self._guarded(self._who)),
            Route("/api/v1/records", self._guarded(self._records), methods=["POST"]),
            Route("/api/v1/insights", self._guarded(self._insights)),
            Route("/api/v1/insights/status", self._guarded(self._insights_status)),
            Route("/api/v1/insights/scan", self._guarded(self._scan), methods=["POST"]),
            Route("/api/v1/insights/{id}", self._guarded(self._insight)),
            Route(
                "/api/v1/insights/{id}/expected",
                self._guarded(self._expect),
                methods=["POST"],
            ),
            Route("/api/v1/identities/{key}", self._guarded(self._identity)),
            Route("/api/v1/import", self._guarded(self._import), methods=["POST"]),
            Route("/api/v1/trails/flush", self._guarded(self._flush), methods=["POST"]),
            Route("/api/v1/console-links", self._guarded(self._new_link), methods=["POST"]),
            *(
                Route(path, self._guarded(partial(self._act, run)), methods=["POST"])
                for path, run in self._actions.items()
            ),
            Route("/api/v1/trails/digests", self._guarded(self._digests)),
            Route("/api/v1/users", self._guarded(self._list_users), methods=["GET"]),
            Route("/api/v1/users", self._guarded(self._create_user), methods=["POST"]),
            Route("/api/v1/users/change", self._guarded(self._change_user), methods=["POST"]),
        ]

    def _guarded(
        self, handler: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Checks the token, and turns errors into JSON responses."""

        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return _json({"error": "a valid token is needed: see server.json"}, 401)
            try:
                answer = await handler(request)
                return answer if isinstance(answer, Response) else _json(answer)
            except CloudTrailError as error:
                return _json({"error": error.message, "code": error.code}, error.status)
            except RecordRefused as error:
                return _json({"error": str(error), "code": "ServiceUnavailable"}, 503)
            except ObjectStoreError as error:
                return _json({"error": f"the bucket failed: {error}", "code": error.code}, 502)
            except OpentrailError as error:
                return _json({"error": str(error)}, 500)

        return guarded

    def _refused_host(self, request: Request) -> Response | None:
        """Returns the answer to a request for another host; None for one for this server."""
        host = request.headers.get("host", "")
        if self._any_host or is_local_name(host):
            return None
        error = f"this server is not {host!r}; ask for it as localhost or by its IP address"
        return _json({"error": error, "code": "UnknownHost"}, 421)

    async def _show_health(self, request: Request) -> Response:
        if refused := self._refused_host(request):
            return refused
        state = await self._health()
        return _json(state, 503 if state["status"] == "failing" else 200)

    async def _show_metrics(self, request: Request) -> Response:
        if refused := self._refused_host(request):
            return refused
        text = await self._exposition()
        return Response(text, media_type=CONTENT_TYPE_LATEST, headers=_HEADERS)

    async def _show_status(self, _request: Request) -> dict[str, Any]:
        """Returns `/health` with trails, disk, freshness and the last problem."""
        if self._status is None:
            raise Unsupported("the status here")
        return await self._status()

    async def _events(self, request: Request) -> dict[str, Any]:
        """Returns events that match `expression`, `since`, `until`, account, Region, categories."""
        query = request.query_params
        search = search_in(query, self._services.clock.now())
        limit = count_in(query, "limit") or PAGE
        found = await self._services.history.latest(search, limit)
        events = [shown_event(event) for event in found]
        answer = {"events": events, "missing": self._missing()}
        if len(found) < limit and (defaults := defaults_in(query)):
            answer["hidden"] = await self._hidden(search, defaults)
        return answer

    async def _hidden(self, search: Search, defaults: Sequence[str]) -> dict[str, Any] | None:
        """Returns how many events the defaults hide, and which flags show them."""
        wide = without_defaults(search, defaults)
        found = await self._services.history.latest(wide, _MAX_COUNTED)
        flags: set[str] = set()
        count = 0
        for event in found:
            hiding = hiding_defaults(search, defaults, event)
            flags.update(hiding)
            count += bool(hiding)
        if not count:
            return None
        return {"count": count, "complete": len(found) < _MAX_COUNTED, "flags": sorted(flags)}

    async def _mark(self, _request: Request) -> dict[str, Any]:
        """Returns the position of the newest record."""
        return set_mark(self._services)

    async def _marked(self, request: Request) -> dict[str, Any]:
        """Returns the records after a mark."""
        mark = request.path_params["position"]
        return await read_records(self._services, mark, request.query_params)

    async def _who(self, request: Request) -> dict[str, Any]:
        """Returns who created, changed and deleted a resource, in sentences, with the evidence."""
        query = request.query_params
        name = query.get("resource", "")
        if not name:
            raise CloudTrailError("InvalidParameterException", "resource must be given")
        answer = await who(self._services.history, name, query.get("type"), query.get("account"))
        return {**answer, "missing": self._missing()}

    async def _insights(self, request: Request) -> dict[str, Any]:
        """Returns incidents of unusual activity that match `since`, `until`, account, Region."""
        query = request.query_params
        search = search_in(query, self._services.clock.now())
        limit = count_in(query, "limit") or PAGE
        incidents = await list_incidents(
            self._services, replace(search, categories=(INSIGHT,)), limit
        )
        return {"incidents": incidents, "missing": self._missing()}

    async def _scan(self, request: Request) -> dict[str, Any]:
        """Finds and records incidents in old events; `since` is when they begin."""
        since = search_in(request.query_params, self._services.clock.now()).start
        if since is None:
            raise CloudTrailError("InvalidParameterException", "since must be given")
        return await scan(self._services, since)

    async def _insights_status(self, _request: Request) -> dict[str, Any]:
        return await describe(self._services.insights)

    async def _insight(self, request: Request) -> dict[str, Any]:
        """Returns one incident with its record and its calls of each minute."""
        return await show_incident(self._services, request.path_params["id"])

    async def _expect(self, request: Request) -> dict[str, Any]:
        """Marks an incident as expected, with a note."""
        note = _object(await request.body(), '{"note": "load test"}').get("note", "")
        if not isinstance(note, str) or len(note) > _MAX_NOTE_LENGTH:
            message = f"note must be a text of up to {_MAX_NOTE_LENGTH} characters"
            raise CloudTrailError("InvalidParameterException", message)
        return await expect_incident(self._services, request.path_params["id"], note)

    async def _records(self, request: Request) -> dict[str, Any]:
        """Records what hooks and middleware send; `again=true`: they may have sent it before."""
        if self._ingest is None:
            raise Unsupported("receiving records here")
        again = request.query_params.get("again") == "true"
        return {"taken": await self._ingest(await request.body(), again)}

    async def _identity(self, request: Request) -> dict[str, Any]:
        """Returns the identity of an access key id."""
        if self._identify is None:
            raise Unsupported("looking up identities here")
        known = self._identify(request.path_params["key"])
        return {
            "account": known.account,
            "userIdentity": known.user_identity,
            "deletedBy": known.deleted_by,
        }

    async def _import(self, request: Request) -> dict[str, Any]:
        """Imports the files of a body in the form of imports/batch.py."""
        if self._imports is None:
            raise Unsupported("importing here")
        return await self._imports(request.stream())

    async def _flush(self, request: Request) -> dict[str, Any]:
        """Delivers a trail's events and signs its digests now."""
        trail = await self._the_trail(*_asked_trail(await request.body()))
        done = await self._services.deliveries.flush(trail)
        return {"trail": trail.arn, "logFiles": done.logs, "digestFiles": done.digests}

    async def _digests(self, request: Request) -> dict[str, Any]:
        """Returns the digests that a trail must have: the first ones of its chains, the newest."""
        query = request.query_params
        trail = await self._the_trail(query.get("name", ""), query.get("account"))
        chains = await self._services.deliveries.known_digests(trail)
        return {"trail": trail.arn, "chains": chains}

    async def _new_link(self, _request: Request) -> dict[str, Any]:
        """Returns a link that opens the web console once, within ten minutes."""
        if self._console_link is None:
            raise Unsupported("the web console here")
        return {"url": self._console_link()}

    async def _act(self, run: Act, request: Request) -> dict[str, Any]:
        """Runs an action on access keys, policies or trails."""
        given = _object(await request.body(), '{"action": "list"}')
        try:
            return await run(given)
        except UsageError as error:
            raise CloudTrailError("InvalidParameterException", str(error)) from error

    async def _list_users(self, _request: Request) -> dict[str, Any]:
        """Returns the users of the web console."""
        return await self._administration.all()

    async def _create_user(self, request: Request) -> dict[str, Any]:
        """Creates a user; the answer has its one-time password."""
        example = '{"name": "ann", "role": "viewer"}'
        return await self._administration.create(_object(await request.body(), example))

    async def _change_user(self, request: Request) -> dict[str, Any]:
        """Disables, enables or deletes a user, or resets its password."""
        given = _object(await request.body(), '{"name": "ann", "action": "disable"}')
        name, action = str(given.get("name", "")), str(given.get("action", ""))
        if action == "delete":
            return await self._administration.delete(name)
        return await self._administration.change(name, action)

    @property
    def _administration(self) -> UserAdministration:
        if self._users is None:
            raise Unsupported("users of the web console here")
        return self._users

    async def _the_trail(self, name: str, account: str | None) -> Trail:
        return await find_trail(self._services.trails, name, account)


def _asked_trail(body: bytes) -> tuple[str, str | None]:
    """Reads `{"name": …, "account": …}`; the account may be left out."""
    given = _object(body, '{"name": "my-trail"}')
    name, account = given.get("name", ""), given.get("account")
    if not isinstance(name, str):
        raise CloudTrailError("InvalidParameterException", "name must be a text")
    return name, account if isinstance(account, str) else None


def _object(body: bytes, example: str) -> dict[str, Any]:
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise CloudTrailError(
            "InvalidParameterException", f"the body must be JSON such as {example}"
        )
    return given


def is_local_name(host: str) -> bool:
    """Returns whether a header `Host` is an IP address or a name without a domain.

    Such names do not come from the DNS of another site.

    >>> [is_local_name(h) for h in ("localhost:4748", "[::1]:80", "10.0.0.1", "", "a.example")]
    [True, True, True, True, False]
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return "." not in name.removesuffix(".")
    return True


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, _HEADERS, "application/json")
