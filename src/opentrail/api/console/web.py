"""The web console as one ASGI application: its pages and their calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from opentrail.access.users import ConsoleRole, ConsoleUsers
from opentrail.api.console.assets import Assets
from opentrail.api.console.counts import EventCounts
from opentrail.api.console.events import Events
from opentrail.api.console.guard import (
    PLAIN_POLICY,
    SECURITY_HEADERS,
    Guard,
    Handler,
    console_agent,
    json_response,
    read_body,
)
from opentrail.api.console.oidc import OidcLogin, OidcSignIn
from opentrail.api.console.plain import Plain, page_of
from opentrail.api.console.proofs import Proofs, Prove
from opentrail.api.console.roles import (
    API,
    ROUTES,
    require,
    role_of_operation,
    seen_by,
    user_of,
)
from opentrail.api.console.sessions import LINK_USER, Sessions
from opentrail.api.console.sign_in import LoginRecords, SignIn
from opentrail.api.console.stories import Stories
from opentrail.api.console.tail import Tail
from opentrail.api.console.trails import Trails, Verify
from opentrail.api.console.turn_on import ConsoleCaller, OwnEndpoint, TurningOn, Wish
from opentrail.api.console.verifications import Verifications
from opentrail.api.console.views import Views
from opentrail.api.operation import Services
from opentrail.api.users import UserAdministration
from opentrail.core.errors import CloudTrailError
from opentrail.history.event_history import Search
from opentrail.version import __version__

Json = dict[str, Any]
#: Maximum bytes of a request's body.
_MAX_BODY_BYTES = 1_000_000
_HOME = "/console/"
_METHODS = ["GET", "POST", "PUT", "DELETE"]
#: Maximum accounts and Regions that a page offers.
_MAX_CHOICES = 200


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """What the console shows of this server.

    Args:
        account: the account of calls that the console makes.
        region: the Region that pages begin with.
        hosts: values of the header `Host` that name the console, in lower case; None: any.
    """

    account: str
    region: str
    hosts: frozenset[str] | None


class WebConsole:
    """The routes of the web console.

    Args:
        services: what operations use.
        sessions: who has opened a link.
        endpoint: through which the console calls services.
        health: returns the body of `/health`.
        missing: returns a description of each range that event history lacks.
        freshness: returns quantiles and the seconds until records were visible, lately.
        verify: verifies the trail of an ARN.
        prove: answers questions about the proof of an event.
        settings: what is shown of this server.
        users: who may sign in by a password.
        oidc: how users sign in by a provider, if they do.
    """

    def __init__(
        self,
        services: Services,
        sessions: Sessions,
        endpoint: OwnEndpoint,
        health: Callable[[], Awaitable[Json]],
        missing: Callable[[], list[str]],
        freshness: Callable[[], list[tuple[float, float]]],
        verify: Verify,
        prove: Prove,
        settings: ConsoleSettings,
        users: ConsoleUsers,
        oidc: OidcLogin | None = None,
    ) -> None:
        verifications = Verifications(services.control, services.clock)
        self._trails = Trails(services, verify, verifications)
        self._proofs = Proofs(services, prove, verifications)
        self._freshness = freshness
        self._services = services
        self._endpoint = endpoint
        self._health = health
        self._missing = missing
        self._settings = settings
        self._guard = Guard(sessions, settings.hosts)
        self.tail = Tail(services)
        self._stories, self._views = Stories(services), Views(services)
        records = LoginRecords(services.journal, services.clock, settings.account)
        self._sign_in = SignIn(self._guard, sessions, users, records)
        self._oidc = OidcSignIn(self._guard, records, services.clock, oidc)
        #: What administrators do with users; the command line's API does it, too.
        self.administration = UserAdministration(users, sessions.end_all_of)

    def app(self, others: Sequence[Route] = ()) -> Starlette:
        """Returns an application that has other routes, too."""
        refusals: dict[Any, Any] = {HTTPException: _show_refusal}
        return Starlette(routes=[*others, *self._routes()], exception_handlers=refusals)

    def _routes(self) -> list[Route]:
        """Returns the routes, in the order of `ROUTES`."""
        handlers = self._handlers()
        plain = Plain(self._services, self._guard)
        endpoints = {**plain.endpoints(), **self._oidc.endpoints()}
        for key, handler in handlers.items():
            endpoints[key] = self._guard.endpoint(handler, ROUTES[key].least)
        routes = [Route(path, endpoints[method, path], methods=[method]) for method, path in ROUTES]
        calls = [route for route in routes if route.path.startswith(API)]
        unknown = Route(
            f"{API}/{{path:path}}",
            self._guard.endpoint(_unknown, ConsoleRole.VIEWER),
            methods=_METHODS,
        )
        return [*calls, unknown, *(route for route in routes if route not in calls)]

    def _handlers(self) -> dict[tuple[str, str], Handler]:
        """Returns the handlers of all routes but those that are guarded already."""
        events, trails = Events(self._services, self._missing), self._trails
        counts, stories, views = EventCounts(self._services), self._stories, self._views
        administration = self.administration
        calls: dict[tuple[str, str], Handler] = {
            ("POST", "/session"): self._begin,
            ("GET", "/session"): self._session,
            ("DELETE", "/session"): self._end,
            ("GET", "/login"): self._oidc.describe,
            ("POST", "/oidc"): self._oidc.begin,
            ("POST", "/login"): _with_body(self._sign_in.login),
            ("POST", "/password"): _with_body(self._sign_in.change_password),
            ("GET", "/events"): events.page,
            ("GET", "/events/tail"): self.tail.answer,
            ("GET", "/events/count"): counts.total,
            ("GET", "/events/histogram"): counts.histogram,
            ("GET", "/events/facets"): counts.facets,
            ("GET", "/values"): counts.values,
            ("GET", "/events/{id}"): events.one,
            ("GET", "/events/{id}/context"): events.context,
            ("POST", "/events/{id}/proof"): self._proofs.of,
            ("GET", "/export"): events.export,
            ("GET", "/views"): views.all,
            ("PUT", "/views/{name:path}"): _with_body(views.save),
            ("DELETE", "/views/{name:path}"): views.remove,
            ("POST", "/aws/{operation}"): self._cloudtrail,
            ("POST", "/turn-on"): _with_body(self._turn_on),
            ("GET", "/trails"): trails.all,
            ("GET", "/trails/{name}/digests"): trails.digests,
            ("POST", "/trails/{name}/verify"): trails.verify,
            ("POST", "/trails/{name}/flush"): trails.flush,
            ("GET", "/insights"): stories.incidents,
            ("GET", "/insights/status"): stories.status,
            ("GET", "/insights/{id}"): stories.incident,
            ("POST", "/insights/{id}/expected"): _with_body(stories.expect),
            ("GET", "/principals/{arn:path}"): stories.principal,
            ("GET", "/resources"): stories.resource,
            ("GET", "/health"): self._show_health,
            ("GET", "/users"): lambda _: administration.all(),
            ("POST", "/users"): _with_body(lambda _, given: administration.create(given)),
            ("POST", "/users/{name}/{action}"): lambda request: administration.change(
                request.path_params["name"], request.path_params["action"]
            ),
            ("DELETE", "/users/{name}"): lambda request: administration.delete(
                request.path_params["name"]
            ),
        }
        pages: dict[tuple[str, str], Handler] = {
            ("GET", "/"): _go_home,
            ("GET", "/console"): _go_home,
            ("GET", "/console/{path:path}"): Assets().answer,
        }
        return {(method, API + path): call for (method, path), call in calls.items()} | pages

    # Session

    async def _begin(self, request: Request) -> Response:
        """Begins a session with the secret of a link."""
        link = (await _object(request)).get("token")
        response = Response(status_code=204)
        self._guard.begin(request, link if isinstance(link, str) else "", response)
        return response

    async def _session(self, request: Request) -> Json:
        user, expires = user_of(request), self._guard.session(request).expires
        history = seen_by(request, self._services).history
        known = await history.facets(Search(), ("account", "region"), _MAX_CHOICES)
        found = {field: {value for value, _ in values} for field, values in known.items()}
        own = {"account": self._settings.account, "region": self._settings.region}
        seen = {own["account"]} if user.accounts is None else set(user.accounts)
        return {
            **own,
            "account": own["account"] if user.may_see(own["account"]) else min(seen),
            "accounts": sorted(found["account"] | seen),
            "regions": sorted(found["region"] | {own["region"]}),
            "user": user.name,
            "role": str(user.role),
            "hasPassword": user.has_password,
            "version": __version__,
            "expires": expires.isoformat(),
        }

    async def _end(self, request: Request) -> Response:
        response = Response(status_code=204)
        self._guard.end(request, response)
        return response

    # The CloudTrail API

    async def _cloudtrail(self, request: Request) -> Response:
        """Passes an operation on to the endpoint, which records it."""
        body = await read_body(request, _MAX_BODY_BYTES)
        operation = request.path_params["operation"]
        if not (operation.isascii() and operation.isalnum()):
            raise CloudTrailError("UnknownOperationException", f"no operation {operation!r}")
        require(user_of(request), role_of_operation(operation))
        self._require_own_account(request)
        region = request.query_params.get("region") or self._settings.region
        status, answer = await self._endpoint.cloudtrail(operation, region, _caller(request), body)
        if status < 400:
            return Response(answer, status, media_type="application/json")
        error = orjson.loads(answer)
        code = str(error.get("__type", "InternalFailure")).rpartition("#")[2]
        raise CloudTrailError(code, str(error.get("message") or error.get("Message", "")), status)

    async def _turn_on(self, request: Request, given: Json) -> Response:
        """Turns CloudTrail on as a person wishes; a line of JSON for each step."""
        wish = Wish.of(given)
        self._require_own_account(request)
        region = request.query_params.get("region") or self._settings.region
        turning = TurningOn(self._endpoint, region, self._settings.account, _caller(request))
        return StreamingResponse(turning.steps(wish), media_type="application/x-ndjson")

    def _require_own_account(self, request: Request) -> None:
        """Returns if the user of a request may see the account whose calls the console makes."""
        user, account = user_of(request), self._settings.account
        if not user.may_see(account):
            message = f"{user.name} may see the accounts {', '.join(user.accounts or ())} only."
            raise CloudTrailError("AccessDenied", message, 403)

    async def _show_health(self, request: Request) -> Json:
        """Returns what is recorded, how soon it is visible, and what is wrong.

        A user of some accounts gets the number of their events, up to the most that are counted,
        and nothing about other accounts.
        """
        state = await self._health()
        journal, history = state["journal"], state["history"]
        accounts = user_of(request).accounts
        wrong = [f"event history lacks {each}" for each in state["missing"]]
        if accounts is None:
            wrong += [*state.get("dataProblems", ()), *state.get("keyProblems", ())]
        elif wrong:
            wrong = ["event history lacks events"]
        if journal["failure"]:
            wrong.append(f"calls are not recorded: {journal['failure']}")
        if not history["responding"]:
            wrong.append("event history does not answer")
        if failure := state["controlStore"]["failure"]:
            wrong.append(f"trails, keys and policies are not known: {failure}")
        milliseconds = {
            f"p{round(share * 100)}Ms": None if isnan(seconds) else round(seconds * 1000, 1)
            for share, seconds in self._freshness()
        }
        recorded, visible = journal["position"], history["position"]
        events = visible + history["imported"]
        if accounts is not None:
            seen = seen_by(request, self._services).history
            events = recorded = visible = (await seen.count_events(Search())).value
        return {
            "status": state["status"],
            "degradations": wrong,
            "recorded": recorded,
            "visible": visible,
            "events": events,
            "freshness": {"p50Ms": None, "p99Ms": None, **milliseconds},
        }


async def _unknown(request: Request) -> Json:
    raise CloudTrailError("UnknownCall", f"there is no call {request.url.path}", 404)


async def _go_home(_request: Request) -> Response:
    return RedirectResponse(_HOME, 307)


async def _show_refusal(request: Request, error: HTTPException) -> Response:
    """Answers a request that no route matches: a browser gets a page, other clients JSON."""
    is_page = not request.url.path.startswith(("/api/", API))
    if is_page and "text/html" in request.headers.get("accept", ""):
        body = (
            f'<p>opentrail is here, but not this page. <a href="{_HOME}">Open the console</a></p>'
        )
        response = page_of("This page does not exist", body, error.status_code)
    else:
        message = f"there is no {request.method} {request.url.path}; the web console is {_HOME}"
        response = json_response({"error": message}, error.status_code)
    response.headers.update({**SECURITY_HEADERS, "Content-Security-Policy": PLAIN_POLICY})
    response.headers.update({**(error.headers or {}), "Cache-Control": "no-store"})
    return response


def _caller(request: Request) -> ConsoleCaller:
    user = user_of(request)
    name = None if user == LINK_USER else user.name
    return console_agent(request, 1_000), name


def _with_body(handler: Callable[[Request, Json], Awaitable[Any]]) -> Handler:
    """Returns a handler that reads a JSON object first."""

    async def handle(request: Request) -> Any:
        return await handler(request, await _object(request))

    return handle


async def _object(request: Request) -> Json:
    try:
        given = orjson.loads(await read_body(request, _MAX_BODY_BYTES) or b"{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise CloudTrailError("InvalidParameterException", "the body must be a JSON object")
    return given
