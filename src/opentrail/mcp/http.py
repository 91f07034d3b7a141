"""The MCP server over HTTP; each request has the personal token of a user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opentrail.mcp.server import OpentrailMcpServer

#: Path of the MCP endpoint.
PATH = "/mcp"
_MAX_BODY_BYTES = 1_000_000
#: Maximum open sessions of all users, and of each user, so that no user locks out others.
_MAX_SESSIONS, MAX_USER_SESSIONS = 1_000, 20
_SESSION_HEADER = "mcp-session-id"
#: Seconds until an unused session ends.
_IDLE_SECONDS = 600.0


class PersonalTokenVerifier:
    """Verifies tokens by asking the server for their users.

    Args:
        user_of: returns the name of a token's user; None if the token is invalid.
    """

    def __init__(self, user_of: Callable[[str], str | None]) -> None:
        self._user_of = user_of

    async def verify_token(self, token: str) -> AccessToken | None:
        """Returns the user of a token; a session belongs to the user who began it."""
        name = await asyncio.to_thread(self._user_of, token)
        if name is None:
            return None
        return AccessToken(token=token, client_id=name, scopes=[], subject=name)


def token_of_request() -> str:
    """Returns the token of the current request."""
    token = get_access_token()
    if token is None:
        raise RuntimeError("the request has no token")
    return token.token


def http_app(server: OpentrailMcpServer, authority: str) -> Starlette:
    """Returns the application.

    Args:
        server: the MCP server, which has a verifier of tokens.
        authority: host and port; it refuses requests for other hosts, and from any web page.
    """
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        max_request_body_size=_MAX_BODY_BYTES,
        session_idle_timeout=_IDLE_SECONDS,
        max_sessions=_MAX_SESSIONS,
        transport_security=TransportSecuritySettings(allowed_hosts=[authority]),
    )
    for route in app.routes:
        if isinstance(route, Route) and route.path == PATH:
            route.app = UserSessions(route.app)
    return app


class UserSessions:
    """Refuses more than `MAX_USER_SESSIONS` open sessions of a user, with 429."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        #: User → session → time of its last use (time.monotonic).
        self._used: dict[str, dict[str, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = getattr(scope.get("user"), "username", "")
        if not user:  # the MCP server refuses it
            await self._app(scope, receive, send)
            return
        now, known = time.monotonic(), self._used.get(user, {})
        sessions = {key: used for key, used in known.items() if used > now - _IDLE_SECONDS}
        self._used[user] = sessions
        session = Headers(scope=scope).get(_SESSION_HEADER)
        if session is None and len(sessions) >= MAX_USER_SESSIONS:
            text = f"{user} has {MAX_USER_SESSIONS} open sessions: end one of them"
            await JSONResponse({"error": text}, 429)(scope, receive, send)
            return
        if session in sessions:
            sessions[session] = now
            if scope["method"] == "DELETE":
                del sessions[session]

        async def record_session(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun = Headers(raw=message["headers"]).get(_SESSION_HEADER)
                if session is None and begun is not None:
                    sessions[begun] = now
            await send(message)

        await self._app(scope, receive, record_session)
