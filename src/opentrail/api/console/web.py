"""The web console as one ASGI application: its pages and their calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from opentrail.api.console.assets import Assets
from opentrail.api.console.counts import EventCounts
from opentrail.api.console.events import Events
from opentrail.api.console.guard import COOKIE, Guard, read_body
from opentrail.api.console.plain import Plain
from opentrail.api.console.proofs import Proofs, Prove
from opentrail.api.console.sessions import Sessions
from opentrail.api.console.stories import Stories
from opentrail.api.console.tail import Tail
from opentrail.api.console.trails import Trails, Verify
from opentrail.api.console.turn_on import OwnEndpoint, TurningOn, Wish
from opentrail.api.console.verifications import Verifications
from opentrail.api.console.views import Views
from opentrail.api.operation import Services
from opentrail.core.errors import CloudTrailError
from opentrail.history.event_history import Search
from opentrail.version import __version__

Json = dict[str, Any]
#: Maximum bytes of a request's body.
_LARGEST_BODY = 1_000_000
_HOME = "/console/"
_METHODS = ["GET", "POST", "PUT", "DELETE"]
#: Maximum accounts and Regions that a page offers.
_MOST_CHOICES = 200


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """What the console shows of this server.

    Args:
        account: the account of calls that the console makes.
        region: the Region that pages begin with.
        hosts: values of the header `Host` that name the console, in lower case.
        closed: why there is no console, if there is none.
    """

    account: str
    region: str
    hosts: frozenset[str]
    closed: str | None = None


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
    ) -> None:
        verifications = Verifications(services.control, services.clock)
        self._trails = Trails(services, verify, verifications)
        self._proofs = Proofs(services, prove, verifications)
        self._freshness = freshness
        self._services = services
        self._sessions = sessions
        self._endpoint = endpoint
        self._health = health
        self._missing = missing
        self._settings = settings
        self._guard = Guard(sessions, settings.hosts)
        self.tail = Tail(services)
        self._stories, self._views = Stories(services), Views(services)

    def app(self, others: Sequence[Route] = ()) -> Starlette:
        """Returns an application that has other routes, too."""
        return Starlette(routes=[*others, *self._routes()])

    def _routes(self) -> list[Route]:
        """Returns the routes, most specific first."""
        if self._settings.closed is not None:
            return [Route("/console{path:path}", self._say_closed)]
        events, trails = Events(self._services, self._missing), self._trails
        counts, stories = EventCounts(self._services), self._stories
        page, call = self._guard.page, self._guard.call
        api = "/console/api"
        return [
            Route(f"{api}/session", page(self._begin), methods=["POST"]),
            Route(f"{api}/session", call(self._session), methods=["GET"]),
            Route(f"{api}/session", call(self._end), methods=["DELETE"]),
            Route(f"{api}/events", call(events.page)),
            Route(f"{api}/events/tail", call(self.tail.answer)),
            Route(f"{api}/events/count", call(counts.total)),
            Route(f"{api}/events/histogram", call(counts.histogram)),
            Route(f"{api}/events/facets", call(counts.facets)),
            Route(f"{api}/values", call(counts.values)),
            Route(f"{api}/events/{{id}}", call(events.one)),
            Route(f"{api}/events/{{id}}/context", call(events.context)),
            Route(f"{api}/events/{{id}}/proof", call(self._proofs.of), methods=["POST"]),
            Route(f"{api}/export", call(events.export)),
            Route(f"{api}/views", call(self._views.all)),
            Route(f"{api}/views/{{name:path}}", call(self._save_view), methods=["PUT"]),
            Route(f"{api}/views/{{name:path}}", call(self._views.remove), methods=["DELETE"]),
            Route(f"{api}/aws/{{operation}}", call(self._cloudtrail), methods=["POST"]),
            Route(f"{api}/turn-on", call(self._turn_on), methods=["POST"]),
            Route(f"{api}/trails", call(trails.all)),
            Route(f"{api}/trails/{{name}}/digests", call(trails.digests)),
            Route(f"{api}/trails/{{name}}/verify", call(trails.verify), methods=["POST"]),
            Route(f"{api}/trails/{{name}}/flush", call(trails.flush), methods=["POST"]),
            Route(f"{api}/insights", call(stories.incidents)),
            Route(f"{api}/insights/status", call(stories.status)),
            Route(f"{api}/insights/{{id}}", call(stories.incident)),
            Route(f"{api}/insights/{{id}}/expected", call(self._expect), methods=["POST"]),
            Route(f"{api}/principals/{{arn:path}}", call(stories.principal)),
            Route(f"{api}/resources", call(stories.resource)),
            Route(f"{api}/health", call(self._show_health)),
            Route(f"{api}/{{path:path}}", call(_unknown), methods=_METHODS),
            *Plain(self._services, self._guard).routes(),
            Route("/", page(_go_home)),
            Route("/console", page(_go_home)),
            Route("/console/{path:path}", page(Assets().answer)),
        ]

    async def _say_closed(self, _request: Request) -> Response:
        return Response(f"{self._settings.closed}\n", 403, media_type="text/plain")

    # Session

    async def _begin(self, request: Request) -> Response:
        """Begins a session with the secret of a link."""
        link = (await _object(request)).get("token")
        response = Response(status_code=204)
        self._guard.begin(request, link if isinstance(link, str) else "", response)
        return response

    async def _session(self, request: Request) -> Json:
        expires = self._guard.session(request).expires
        known = await self._services.history.facets(Search(), ("account", "region"), _MOST_CHOICES)
        own = {"account": self._settings.account, "region": self._settings.region}
        choices = {
            field: sorted({own[field], *(value for value, _ in values)})
            for field, values in known.items()
        }
        return {
            **own,
            "accounts": choices["account"],
            "regions": choices["region"],
            "user": "operator",
            "version": __version__,
            "expires": expires.isoformat(),
        }

    async def _end(self, request: Request) -> Response:
        self._sessions.end(request.cookies.get(COOKIE, ""))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/console")
        return response

    # The CloudTrail API

    async def _cloudtrail(self, request: Request) -> Response:
        """Passes an operation on to the endpoint, which records it."""
        body = await read_body(request, _LARGEST_BODY)
        operation = request.path_params["operation"]
        if not (operation.isascii() and operation.isalnum()):
            raise CloudTrailError("UnknownOperationException", f"no operation {operation!r}")
        region = request.query_params.get("region") or self._settings.region
        status, answer = await self._endpoint.cloudtrail(operation, region, _agent(request), body)
        if status < 400:
            return Response(answer, status, media_type="application/json")
        error = orjson.loads(answer)
        code = str(error.get("__type", "InternalFailure")).rpartition("#")[2]
        raise CloudTrailError(code, str(error.get("message") or error.get("Message", "")), status)

    async def _turn_on(self, request: Request) -> Response:
        """Turns CloudTrail on as a person wishes; a line of JSON for each step."""
        wish = Wish.of(await _object(request))
        region = request.query_params.get("region") or self._settings.region
        turning = TurningOn(self._endpoint, region, self._settings.account, _agent(request))
        return StreamingResponse(turning.steps(wish), media_type="application/x-ndjson")

    async def _expect(self, request: Request) -> Json:
        return await self._stories.expect(request, await _object(request))

    async def _save_view(self, request: Request) -> Json:
        return await self._views.save(request, await _object(request))

    async def _show_health(self, _request: Request) -> Json:
        """Returns what is recorded, how soon it is visible, and what is wrong."""
        state = await self._health()
        journal, history = state["journal"], state["history"]
        wrong = [f"event history lacks {each}" for each in state["missing"]]
        if journal["failure"]:
            wrong.append(f"calls are not recorded: {journal['failure']}")
        if not history["responding"]:
            wrong.append("event history does not answer")
        milliseconds = {
            f"p{round(share * 100)}Ms": None if isnan(seconds) else round(seconds * 1000, 1)
            for share, seconds in self._freshness()
        }
        return {
            "status": state["status"],
            "degradations": wrong,
            "recorded": journal["position"],
            "visible": history["position"],
            "events": history["position"] + history["imported"],
            "freshness": {"p50Ms": None, "p99Ms": None, **milliseconds},
        }


async def _unknown(request: Request) -> Json:
    raise CloudTrailError("UnknownCall", f"there is no call {request.url.path}", 404)


async def _go_home(_request: Request) -> Response:
    return RedirectResponse(_HOME, 307)


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")[:1_000]


async def _object(request: Request) -> Json:
    try:
        given = orjson.loads(await read_body(request, _LARGEST_BODY) or b"{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise CloudTrailError("InvalidParameterException", "the body must be a JSON object")
    return given
