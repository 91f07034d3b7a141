"""The MCP server over HTTP: each request has the personal token of the user who asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from opentrail.mcp.server import OpentrailMcpServer

#: Where the protocol is spoken.
PATH = "/mcp"
_MAX_BODY_BYTES = 1_000_000
_MAX_SESSIONS = 1_000
_MAX_SESSIONS_PER_USER = 100
#: Seconds until a session ends that is not used.
_IDLE_SECONDS = 600.0


class PersonalTokenVerifier:
    """Verifies tokens by asking the server whose they are.

    Args:
        user_of: returns the name of a token's user; None if the token is not valid.
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
    """Returns the token of the request that is answered."""
    token = get_access_token()
    if token is None:
        raise RuntimeError("a request without a token is never answered")
    return token.token


def http_app(server: OpentrailMcpServer, authority: str) -> Starlette:
    """Returns the application.

    Args:
        server: the MCP server, which has a verifier of tokens.
        authority: host and port; requests for others, and from any web page, are refused.
    """
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        max_request_body_size=_MAX_BODY_BYTES,
        session_idle_timeout=_IDLE_SECONDS,
        max_sessions=_MAX_SESSIONS,
        transport_security=TransportSecuritySettings(allowed_hosts=[authority]),
    )
    _limit_sessions_per_user(server.session_manager)
    return app


def _limit_sessions_per_user(manager: StreamableHTTPSessionManager) -> None:
    """Refuses a user's sessions above a limit, so that the others can have some.

    The MCP package itself has only a limit for the sessions of all users.
    """
    admit, owners = manager._admit_session, manager._session_owners

    def admit_within_limit(
        user: AuthorizationContext | None,
    ) -> StreamableHTTPServerTransport | None:
        open_sessions = sum(owner == user for owner in owners.values())
        return admit(user) if open_sessions < _MAX_SESSIONS_PER_USER else None

    manager._admit_session = admit_within_limit  # type: ignore[method-assign]


def serve(app: Starlette, listening: socket.socket) -> None:
    """Answers on a socket until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(app, log_level="warning", server_header=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
