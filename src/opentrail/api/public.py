"""Health and metrics on the console's port: for monitoring, without a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opentrail.api.pages import json_response

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class PublicState:
    """The routes `/health` and `/metrics`.

    Args:
        exposition: returns the body of `/metrics`.
        health: returns the body of `/health`.
        any_host: whether they answer under every name of the server. Without TLS a page of another
            site could give its own name the server's address.
    """

    def __init__(
        self,
        exposition: Callable[[], Awaitable[bytes]],
        health: Callable[[], Awaitable[dict[str, Any]]],
        any_host: bool = False,
    ) -> None:
        self._exposition = exposition
        self._health = health
        self._any_host = any_host

    def routes(self) -> list[Route]:
        """Returns both routes."""
        return [Route("/health", self._show_health), Route("/metrics", self._show_metrics)]

    async def _show_health(self, request: Request) -> Response:
        if refused := self._refused_host(request):
            return refused
        state = await self._health()
        response = json_response(state, 503 if state["status"] == "failing" else 200)
        response.headers.update(_HEADERS)
        return response

    async def _show_metrics(self, request: Request) -> Response:
        if refused := self._refused_host(request):
            return refused
        text = await self._exposition()
        return Response(text, media_type=CONTENT_TYPE_LATEST, headers=_HEADERS)

    def _refused_host(self, request: Request) -> Response | None:
        """Returns the answer to a request for another host; None for one for this server."""
        host = request.headers.get("host", "")
        if self._any_host or is_local_name(host):
            return None
        message = f"this server is not {host!r}; ask for it as localhost or by its IP address"
        response = json_response({"error": message, "code": "UnknownHost"}, 421)
        response.headers.update(_HEADERS)
        return response


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
