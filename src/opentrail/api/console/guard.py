"""What every answer of the web console has, and what every request of it must have."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from opentrail.api.console.sessions import MAX_SESSION, Session, Sessions
from opentrail.api.pages import POLICY
from opentrail.api.v1.answers import describe_error, error_response, with_headers
from opentrail.api.v1.callers import ApiCaller
from opentrail.api.v1.routes import PREFIX
from opentrail.core.errors import CloudTrailError, OpentrailError

#: The session's cookie without TLS.
COOKIE = "ot-session"
#: The session's cookie over TLS. A browser accepts its prefix only there, and only from the
#: console's host.
SECURE_COOKIE = "__Host-ot"
#: A browser sends this header only from scripts of the same origin.
CSRF_HEADER = "x-ot-csrf"
#: Methods that change nothing.
_SAFE = ("GET", "HEAD")

Handler = Callable[[Request], Awaitable[Any]]
Endpoint = Callable[[Request], Awaitable[Response]]
#: Makes the answer to a request that failed: of its code, message, status and request id.
ShowError = Callable[[str, str, int, str], Response]


class Guard:
    """Lets requests of the console's own pages through.

    Args:
        sessions: the sessions of browsers.
        is_own_name: returns whether a header `Host`, in lowercase, names this server. None: any
            does, as over TLS, where the certificate names the server.
    """

    def __init__(self, sessions: Sessions, is_own_name: Callable[[str], bool] | None) -> None:
        self.sessions = sessions
        self._is_own_name = is_own_name

    def page(
        self, handler: Handler, show: ShowError = error_response, policy: str = POLICY
    ) -> Endpoint:
        """Wraps a handler of a page that needs no session."""

        async def wrapped(request: Request) -> Response:
            request_id = str(uuid.uuid4())
            try:
                self.check(request)
                response: Response = await handler(request)
            except (TimeoutError, OpentrailError) as error:
                response = show(*describe_error(error, request_id), request_id)
            return with_headers(response, request_id, policy)

        return wrapped

    async def begin(self, request: Request, link: str, response: Response) -> None:
        """Begins a session by the secret of a link, and adds its cookie to a response.

        Raises:
            CloudTrailError: `InvalidToken`.
        """
        secret = await self.sessions.begin(link)
        if secret is None:
            message = "This link was used or is too old: `opentrail console` prints a new one."
            raise CloudTrailError("InvalidToken", message, 401)
        await self._replace_session(request, secret, response)

    async def begin_for(self, request: Request, user: ApiCaller, response: Response) -> None:
        """Begins a session of a user who has signed in, and adds its cookie to a response."""
        secret = await self.sessions.begin_for(user)
        await self._replace_session(request, secret, response)

    async def end(self, request: Request, response: Response) -> None:
        """Ends the session of a request, and removes its cookie in a response."""
        name, path = _cookie_of(request)
        await self.sessions.end(request.cookies.get(name, ""))
        response.delete_cookie(
            name, path, httponly=True, samesite="strict", secure=is_secure(request)
        )

    async def _replace_session(self, request: Request, secret: str, response: Response) -> None:
        name, path = _cookie_of(request)
        await self.sessions.end(request.cookies.get(name, ""))
        response.set_cookie(
            name,
            secret,
            max_age=int(MAX_SESSION.total_seconds()),
            path=path,
            httponly=True,
            samesite="strict",
            secure=is_secure(request),
        )

    async def session(self, request: Request) -> Session:
        """Returns the session of a request.

        Raises:
            CloudTrailError: `NoSession`: it has none that is still good.
        """
        session = await self.sessions.find(request.cookies.get(_cookie_of(request)[0], ""))
        if session is None:
            message = (
                "There is no session, or it has ended. Sign in, or open a new link: "
                "`opentrail console` prints one."
            )
            raise CloudTrailError("NoSession", message, 401)
        return session

    async def caller(self, request: Request) -> ApiCaller:
        """Returns the user of a request's session.

        Raises:
            CloudTrailError: `NoSession`: it has none that is still good.
        """
        return (await self.session(request)).user

    def knows(self, request: Request) -> bool:
        """Returns whether a request has the cookie of a session, good or not."""
        return _cookie_of(request)[0] in request.cookies

    async def is_signed_in(self, request: Request) -> bool:
        """Returns whether the session of a request is still valid, and notes its use."""
        secret = request.cookies.get(_cookie_of(request)[0], "")
        return await self.sessions.find(secret) is not None

    def check(self, request: Request) -> None:
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
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            message = f"Content-Type must be application/json, not {kind!r}"
            raise CloudTrailError("UnsupportedMediaType", message, 415)

    def _check_host(self, request: Request) -> str:
        host = request.headers.get("host", "").lower()
        if self._is_own_name is not None and not self._is_own_name(host):
            raise CloudTrailError("UnknownHost", f"this server is not {host!r}", 421)
        return host


def is_secure(request: Request) -> bool:
    """Returns whether a request came over TLS."""
    return request.url.scheme == "https"


def _cookie_of(request: Request) -> tuple[str, str]:
    """Returns name and path of the session's cookie.

    With the prefix the path must be `/`. Without TLS, browsers send a cookie to every port of this
    host; the path keeps it from most other servers there.
    """
    return (SECURE_COOKIE, "/") if is_secure(request) else (COOKIE, PREFIX)


def _is_own(origin: str, host: str, request: Request) -> bool:
    """Returns whether an origin is this console's.

    A console without TLS may be behind a proxy that adds it.
    """
    scheme, _, name = origin.lower().partition("://")
    return name == host and (scheme == "https" or not is_secure(request))
