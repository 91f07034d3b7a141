"""What every answer of the web console has, and what every request of it must have."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from opentrail.api.console.sessions import LONGEST, Session, Sessions
from opentrail.core.errors import CloudTrailError, ObjectStoreError, OpentrailError

log = logging.getLogger(__name__)

COOKIE = "ot"
#: A browser sends this header only from scripts of the same origin.
CSRF_HEADER = "x-ot-csrf"
#: Methods that change nothing.
_SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_PLAIN_POLICY = (
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
#: Makes the answer to a request that failed: of its code, message, status and request id.
ShowError = Callable[[str, str, int, str], Response]


class Guard:
    """Lets requests of the console's own pages through.

    Args:
        sessions: who has opened a link.
        hosts: values of the header `Host` that name this server, in lower case.
    """

    def __init__(self, sessions: Sessions, hosts: frozenset[str]) -> None:
        self.sessions = sessions
        self._hosts = hosts

    def page(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wraps a handler that anybody may ask: the page asks for a session by itself."""
        return self._wrapped(handler, self._check)

    def call(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wraps a handler that needs a session; it returns a response or a JSON document."""
        return self._wrapped(handler, self._check, needs_session=True)

    def plain(self, handler: Handler, show: ShowError) -> Callable[[Request], Awaitable[Response]]:
        """Wraps a handler that needs a session, of a page without scripts."""
        return self._wrapped(handler, self._check, True, show, _PLAIN_POLICY)

    def form(self, handler: Handler, show: ShowError) -> Callable[[Request], Awaitable[Response]]:
        """Wraps a handler of a form without scripts, which must not rely on a session."""
        return self._wrapped(handler, self._check_form, False, show, _PLAIN_POLICY)

    def _wrapped(
        self,
        handler: Handler,
        check: Callable[[Request], None],
        needs_session: bool = False,
        show: ShowError | None = None,
        policy: str = _POLICY,
    ) -> Callable[[Request], Awaitable[Response]]:
        async def wrapped(request: Request) -> Response:
            request_id = str(uuid.uuid4())
            try:
                check(request)
                if needs_session:
                    self.session(request)
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
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(LONGEST.total_seconds()),
            path="/console",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    def session(self, request: Request) -> Session:
        """Returns the session of a request.

        Raises:
            CloudTrailError: `NoSession`: it has none that is still good.
        """
        session = self.sessions.find(request.cookies.get(COOKIE, ""))
        if session is None:
            message = "The session has ended. Open a new link: `opentrail console` prints one."
            raise CloudTrailError("NoSession", message, 401)
        return session

    def _check(self, request: Request) -> None:
        """Returns if a page of this console sent the request.

        Raises:
            CloudTrailError: it came for another host, or from a page of another origin.
        """
        host = self._check_host(request)
        if request.method in _SAFE:
            return
        origin = request.headers.get("origin", f"http://{host}")
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_own = origin.partition("://")[2].lower() == host and site == "same-origin"
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
        is_own = origin == "null" or origin.partition("://")[2].lower() == host
        if not is_own or site != "same-origin":
            raise CloudTrailError("CrossOrigin", "the form must be one of the console", 403)
        _check_type(request, "application/x-www-form-urlencoded")

    def _check_host(self, request: Request) -> str:
        host = request.headers.get("host", "").lower()
        if host not in self._hosts:
            raise CloudTrailError("UnknownHost", f"this server is not {host!r}", 421)
        return host


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
    if isinstance(error, TimeoutError):
        return "TimedOut", "This took too long; narrow the search.", 504
    about = {"error": str(error), "request": request_id}
    log.error("a call of the console failed", extra=about)
    return "InternalFailure", str(error), 500


def _json_error(code: str, message: str, status: int, request_id: str) -> Response:
    return json_response({"code": code, "message": message, "requestId": request_id}, status)
