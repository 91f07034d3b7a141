"""What every answer of the web console has, and what every request of it must have."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from opentrail.access.users import ConsoleRole
from opentrail.api.console.roles import require
from opentrail.api.console.sessions import MAX_SESSION, Session, Sessions, SessionUser
from opentrail.core.errors import (
    INTERNAL_FAILURE,
    STORE_UNREACHABLE,
    CloudTrailError,
    ObjectStoreError,
    OpentrailError,
    RecordRefused,
    StoreUnreachable,
)
from opentrail.who.sentence import CONSOLE_AGENT

log = logging.getLogger(__name__)

#: The session's cookie. A browser accepts one with the prefix over TLS only, and from the console's
#: own host alone.
COOKIE, SECURE_COOKIE = "ot", "__Host-ot"
#: A browser sends this header only from scripts of the same origin.
CSRF_HEADER = "x-ot-csrf"
#: Methods that change nothing.
_SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
PLAIN_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[Request], Awaitable[Any]]
Endpoint = Callable[[Request], Awaitable[Response]]
#: Makes the answer to a request that failed: of its code, message, status and request id.
ShowError = Callable[[str, str, int, str], Response]


class Guard:
    """Lets requests of the console's own pages through.

    Args:
        sessions: the sessions of browsers.
        hosts: values of the header `Host` that name this server, in lower case. None: any, as over
            TLS, where the certificate names the server.
    """

    def __init__(self, sessions: Sessions, hosts: frozenset[str] | None) -> None:
        self.sessions = sessions
        self._hosts = hosts

    def endpoint(self, handler: Handler, least: ConsoleRole | None) -> Endpoint:
        """Wraps a handler that needs a session of a user with at least a role.

        It returns a response or a JSON document. Without a role anybody may ask.
        """
        return self._wrapped(handler, self._check, least)

    def plain(self, handler: Handler, show: ShowError, least: ConsoleRole | None) -> Endpoint:
        """Wraps a handler as `endpoint` does, of a page without scripts."""
        return self._wrapped(handler, self._check, least, show, PLAIN_POLICY)

    def form(self, handler: Handler, show: ShowError) -> Endpoint:
        """Wraps a handler of a form without scripts, which must not rely on a session."""
        return self._wrapped(handler, self._check_form, None, show, PLAIN_POLICY)

    def _wrapped(
        self,
        handler: Handler,
        check: Callable[[Request], None],
        least: ConsoleRole | None,
        show: ShowError | None = None,
        policy: str = _POLICY,
    ) -> Endpoint:
        async def wrapped(request: Request) -> Response:
            request_id = str(uuid.uuid4())
            try:
                check(request)
                if least is not None:
                    request.state.user = self.session(request).user
                    request.state.is_signed_in = partial(self._is_signed_in, request)
                    require(request.state.user, least)
                answer = await handler(request)
                response = answer if isinstance(answer, Response) else json_response(answer)
            except (TimeoutError, OpentrailError) as error:
                response = (show or _json_error)(*_described(error, request_id), request_id)
            response.headers.update({**SECURITY_HEADERS, "Content-Security-Policy": policy})
            response.headers["X-Request-Id"] = request_id
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return wrapped

    def begin(self, request: Request, link: str, response: Response) -> None:
        """Begins a session by the secret of a link, and adds its cookie to a response.

        Raises:
            CloudTrailError: `InvalidToken`.
        """
        secret = self.sessions.begin(link)
        if secret is None:
            message = "This link was used or is too old: `opentrail console` prints a new one."
            raise CloudTrailError("InvalidToken", message, 401)
        self._replace_session(request, secret, response)

    def begin_for(self, request: Request, user: SessionUser, response: Response) -> None:
        """Begins a session of a user who has signed in, and adds its cookie to a response."""
        self._replace_session(request, self.sessions.begin_for(user), response)

    def end(self, request: Request, response: Response) -> None:
        """Ends the session of a request, and has a response remove its cookie."""
        name, path = _cookie_of(request)
        self.sessions.end(request.cookies.get(name, ""))
        response.delete_cookie(
            name, path, httponly=True, samesite="strict", secure=is_secure(request)
        )

    def _replace_session(self, request: Request, secret: str, response: Response) -> None:
        name, path = _cookie_of(request)
        self.sessions.end(request.cookies.get(name, ""))
        response.set_cookie(
            name,
            secret,
            max_age=int(MAX_SESSION.total_seconds()),
            path=path,
            httponly=True,
            samesite="strict",
            secure=is_secure(request),
        )

    def session(self, request: Request) -> Session:
        """Returns the session of a request.

        Raises:
            CloudTrailError: `NoSession`: it has none that is still good.
        """
        session = self.sessions.find(request.cookies.get(_cookie_of(request)[0], ""))
        if session is None:
            message = (
                "There is no session, or it has ended. Sign in, or open a new link: "
                "`opentrail console` prints one."
            )
            raise CloudTrailError("NoSession", message, 401)
        return session

    def _is_signed_in(self, request: Request) -> bool:
        return self.sessions.find(request.cookies.get(_cookie_of(request)[0], "")) is not None

    def _check(self, request: Request) -> None:
        """Returns if a page of this console sent the request.

        Raises:
            CloudTrailError: it came for another host, or from a page of another origin.
        """
        host = self._check_host(request)
        if request.method in _SAFE:
            return
        origin = request.headers.get("origin", f"{request.url.scheme}://{host}")
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_own = _is_own(origin, host, request) and site == "same-origin"
        if not is_own or CSRF_HEADER not in request.headers:
            message = f"a {request.method} must come from the console and have {CSRF_HEADER}"
            raise CloudTrailError("CrossOrigin", message, 403)
        _check_type(request, "application/json")

    def _check_form(self, request: Request) -> None:
        """Returns unless a browser says that a page of another origin sent a form.

        Browsers without scripts may say nothing of where a form was. That is enough here: a form
        has the secret of a link, and no authority of a cookie. `null` is the origin of a form on a
        page that sends no referrer, and of hostile frames, which `Sec-Fetch-Site` distinguishes.

        Raises:
            CloudTrailError: it came for another host, or from a page of another origin.
        """
        host = self._check_host(request)
        origin = request.headers.get("origin", "null")
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_own = origin == "null" or _is_own(origin, host, request)
        if not is_own or site != "same-origin":
            raise CloudTrailError("CrossOrigin", "the form must be one of the console", 403)
        _check_type(request, "application/x-www-form-urlencoded")

    def _check_host(self, request: Request) -> str:
        host = request.headers.get("host", "").lower()
        if self._hosts is not None and host not in self._hosts:
            raise CloudTrailError("UnknownHost", f"this server is not {host!r}", 421)
        return host


def console_agent(request: Request, longest: int) -> str:
    """Returns the user agent in records of what the console does: the browser's, with a mark."""
    return f"{request.headers.get('user-agent', '')[:longest]} {CONSOLE_AGENT}".strip()


def is_secure(request: Request) -> bool:
    """Returns whether a request came over TLS."""
    return request.url.scheme == "https"


def _cookie_of(request: Request) -> tuple[str, str]:
    """Returns name and path of the session's cookie; with the prefix the path must be `/`."""
    return (SECURE_COOKIE, "/") if is_secure(request) else (COOKIE, "/console")


def _is_own(origin: str, host: str, request: Request) -> bool:
    """Returns whether an origin is this console's.

    A console without TLS may be behind a proxy that adds it.
    """
    scheme, _, name = origin.lower().partition("://")
    return name == host and (scheme == "https" or not is_secure(request))


def _check_type(request: Request, wanted: str) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != wanted:
        message = f"Content-Type must be {wanted}, not {kind!r}"
        raise CloudTrailError("UnsupportedMediaType", message, 415)


async def read_body(request: Request, most: int, name: str = "body") -> bytes:
    """Returns the body of a request.

    Raises:
        CloudTrailError: `RequestTooLarge`, which calls the body by this name.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            message = f"the {name} must have at most {most} bytes"
            raise CloudTrailError("RequestTooLarge", message, 413)
    return body


def json_response(document: Any, status: int = 200) -> Response:
    """Returns a response with a JSON document."""
    return Response(orjson.dumps(document), status, media_type="application/json")


def _described(error: Exception, request_id: str) -> tuple[str, str, int]:
    """Returns code, message and status of an error."""
    if isinstance(error, CloudTrailError):
        return error.code, error.message, error.status
    if isinstance(error, ObjectStoreError):
        return error.code, f"the bucket failed: {error}", 502
    if isinstance(error, RecordRefused):
        return "ServiceUnavailable", f"This cannot be recorded now, so it is not done: {error}", 503
    if isinstance(error, TimeoutError):
        return "TimedOut", "This took too long; narrow the search.", 504
    about = {"error": str(error), "request": request_id}
    log.error("a call of the console failed", extra=about)
    if isinstance(error, StoreUnreachable):
        return "ServiceUnavailable", STORE_UNREACHABLE, 503
    return "InternalFailure", INTERNAL_FAILURE, 500


def _json_error(code: str, message: str, status: int, request_id: str) -> Response:
    return json_response({"code": code, "message": message, "requestId": request_id}, status)
