"""The JSON API: routes, authentication, and error answers."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from opentrail.access.users import ConsoleRole
from opentrail.api.pages import json_response
from opentrail.api.services import Services
from opentrail.api.v1.answers import (
    FollowedCalls,
    describe_error,
    error_response,
    is_followed,
    read_object,
    report,
    with_headers,
)
from opentrail.api.v1.callers import (
    SERVER_OPERATOR,
    PersonalTokens,
    SessionAuthenticator,
    bearer_token,
    caller_of,
    is_by_token,
    require,
    require_all_accounts,
    seen_by,
)
from opentrail.api.v1.conditions import max_events
from opentrail.api.v1.routes import PREFIX, VIEWER, Rule, most_specific_first, route, rules_in
from opentrail.core.errors import CloudTrailError, OpentrailError
from opentrail.core.event import Json
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.questions.question import Asked, Question, answer_type, load_all, path_of, read


class QuestionRoutes:
    """The calls that ask one question each.

    Args:
        services: the features that operations use.
        missing: describes each range missing from event history.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]]) -> None:
        self._services = services
        self._missing = missing
        #: Held by an answer with thousands of events in memory.
        self._turns = {question: asyncio.Lock() for _, question in load_all()}

    def asked(self, request: Request) -> Asked:
        """Returns the features that answer a request."""
        history = seen_by(request, self._services).history
        caller = caller_of(request)
        return Asked(
            history,
            self._services.control,
            self._services.clock.now(),
            max_events(request),
            self._missing(),
            self._services.queries,
            caller.name,
            caller.accounts,
            partial(report, request) if is_followed(request) else None,
        )


def _handler(question: type[Question]) -> Callable[[QuestionRoutes, Request], Awaitable[Any]]:
    async def ask(self: QuestionRoutes, request: Request, body: Json | None = None) -> Any:
        given = request.query_params if body is None else body
        arguments = read(question, {**given, **request.path_params})
        async with self._turns[question] if question.is_large else nullcontext():
            return msgspec.to_builtins(await arguments.answer(self.asked(request)))

    ask.__qualname__ = f"QuestionRoutes.{question.__name__}"
    ask.__doc__ = question.__doc__
    ask.__annotations__ = {"return": answer_type(question)}
    return ask


for _name, _question in load_all():
    _declare = route(
        "POST" if _question.body else "GET",
        path_of(_name),
        ConsoleRole.parse(_question.role),
        _question.purpose,
        query=() if _question.body else _question.__struct_fields__,
        body=_question.body,
        is_followed=_question.is_followed,
        question=_question,
    )
    setattr(QuestionRoutes, _name.replace("-", "_"), _declare(_handler(_question)))


# All routes

#: Maximum bytes of a JSON object in a request's body.
_MAX_BODY_BYTES = 1_000_000
_UNAUTHENTICATED = "a valid token is needed: from server.json, or a user's token"
_METHODS = ["GET", "POST", "PUT", "DELETE"]


class JsonApi:
    """The routes of all groups, for callers with a token and for browsers that are signed in.

    Args:
        groups: objects with methods that are declared by `routes.route`.
        token: the server's, in `server.json`, which only the server's own user can read.
        sessions: authenticates browsers; None without a web console.
        user_tokens: authenticates programs by personal tokens; None: users have no tokens.
        account: returns the account that the parameter `account=own` means.
    """

    def __init__(
        self,
        groups: Sequence[object],
        token: str,
        sessions: SessionAuthenticator | None = None,
        user_tokens: PersonalTokens | None = None,
        account: Callable[[], str] = lambda: DEFAULT_ACCOUNT,
    ) -> None:
        self._account = account
        self._token = token.encode()
        self._sessions = sessions
        self._user_tokens = user_tokens
        self._followed = FollowedCalls()
        handlers = [rule for group in groups for rule in rules_in(group)]
        handlers.sort(key=lambda handler: most_specific_first(handler[0]))
        self.rules = [rule for rule, _ in handlers]
        self._routes = [
            Route(PREFIX + rule.path, self._endpoint(rule, handler), methods=[rule.method])
            for rule, handler in handlers
        ]
        unknown = Rule("", "/{path:path}", VIEWER, "", (), None, all_accounts=False)
        self.routes = [
            *self._routes,
            Route(PREFIX + unknown.path, self._endpoint(unknown, self._no_route), methods=_METHODS),
        ]
        self.app = Starlette(routes=self.routes)

    def _endpoint(
        self, rule: Rule, handler: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            request_id = str(uuid.uuid4())
            if request.query_params.get("account") == "own":
                request = self._with_account(request)
            try:
                await self._authenticate(request, rule)
                if rule.body is None:
                    call = handler(request)
                else:
                    body = await read_object(request, _MAX_BODY_BYTES, rule.body)
                    call = handler(request, body)
                if rule.is_followed:
                    call = self._followed.answer(request, call, request_id)
                answer = await call
                response = answer if isinstance(answer, Response) else json_response(answer)
            except (TimeoutError, OpentrailError) as error:
                described = describe_error(error, request_id, shows_cause=is_by_token(request))
                response = error_response(*described, request_id)
            except asyncio.CancelledError:  # uvicorn would log it as our error
                stopping = ("ServiceUnavailable", "The server is stopping.", 503)
                response = error_response(*stopping, request_id)
            return with_headers(response, request_id)

        return endpoint

    def _with_account(self, request: Request) -> Request:
        """Returns a request with the server's account instead of `own`."""
        query = [
            (name, self._account() if (name, value) == ("account", "own") else value)
            for name, value in request.query_params.multi_items()
        ]
        return Request(
            {**request.scope, "query_string": urlencode(query).encode()}, request.receive
        )

    async def _authenticate(self, request: Request, rule: Rule) -> None:
        """Returns if the caller may use a route, and stores the caller for handlers.

        Raises:
            CloudTrailError: the caller is unknown or not allowed.
        """
        token = bearer_token(request)
        by_token = token is not None and hmac.compare_digest(token.encode(), self._token)
        request.state.is_by_token = by_token
        request.state.is_by_program = True
        if by_token:
            request.state.caller = SERVER_OPERATOR
        elif token and self._user_tokens and (user := await self._user_tokens.caller(request)):
            request.state.sessions, request.state.caller = self._user_tokens, user
        elif self._sessions is None or (token is not None and not self._sessions.knows(request)):
            raise CloudTrailError("InvalidToken", _UNAUTHENTICATED, 401)
        else:
            request.state.is_by_program = False
            self._sessions.check(request)
            if rule.least is None:
                return
            request.state.sessions = self._sessions
            request.state.caller = await self._sessions.caller(request)
        if rule.least is not None:
            require(request.state.caller, rule.least)
        if rule.all_accounts:
            require_all_accounts(request.state.caller)
        if rule.token_only and not by_token:
            message = "This needs the token in server.json, as the command line has it."
            raise CloudTrailError("AccessDenied", message, 403)

    async def _no_route(self, request: Request) -> Response:
        if any(route.matches(request.scope)[0] is Match.PARTIAL for route in self._routes):
            raise HTTPException(405)
        message = f"there is no {request.method} {request.url.path}"
        raise CloudTrailError("UnknownCall", message, 404)
