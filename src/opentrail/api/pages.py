"""Pages without scripts, health and metrics: the console port's answers to anyone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from html import escape
from ipaddress import ip_address
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from opentrail.core.text import printable

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def json_response(document: Any, status: int = 200) -> Response:
    """Returns a response with a JSON document."""
    return Response(orjson.dumps(document), status, media_type="application/json")


PLAIN_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def page_of(heading: str, body: str, status: int = 200) -> Response:
    """Returns a page without scripts; `body` is HTML, the heading is text."""
    title = text_of(heading)
    return Response(
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark"><link rel=icon href="/console/icon.svg">'
        f'<link rel=stylesheet href="/console/page.css"><title>{title} · opentrail</title></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>",
        status,
        media_type="text/html",
    )


def text_of(value: str) -> str:
    r"""Returns a string as HTML text, without markup.

    >>> text_of("<b>\u202e")
    '&lt;b&gt;\\u202e'
    """
    return escape(printable(value))


class _TlsOfProxy:
    """Marks requests for the host of a proxy that ends TLS as requests over TLS."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.lower() for name, value in scope.get("headers", ()) if name == b"host"]
        is_own = hosts in ([self._host], [self._host + b":443"])
        await self._app({**scope, "scheme": "https"} if is_own else scope, receive, send)


def port_app(
    routes: Sequence[Route], home: str | None = None, proxy_host: str | None = None
) -> Starlette:
    """Returns the application of the console's port.

    Args:
        routes: its routes.
        home: the address of the web console, shown on pages that do not exist; None without one.
        proxy_host: the host of a proxy that ends TLS, as in the header `Host`; None without one.
    """

    async def show_refusal(request: Request, error: HTTPException) -> Response:
        """Answers a request that no route matches: a browser gets a page, other clients JSON."""
        is_page = home is not None and not request.url.path.startswith("/api/")
        if is_page and "text/html" in request.headers.get("accept", ""):
            link = f'<a href="{home}">Open the console</a>'
            body = f"<p>opentrail is here, but not this page. {link}</p>"
            response = page_of("This page does not exist", body, error.status_code)
        else:
            message = f"there is no {request.method} {request.url.path}"
            message += f"; the web console is {home}" if home else ""
            response = json_response({"error": message}, error.status_code)
        response.headers.update({**SECURITY_HEADERS, "Content-Security-Policy": PLAIN_POLICY})
        response.headers.update({**(error.headers or {}), "Cache-Control": "no-store"})
        return response

    refusals: dict[Any, Any] = {HTTPException: show_refusal}
    proxy = [] if proxy_host is None else [Middleware(_TlsOfProxy, host=proxy_host)]
    return Starlette(routes=routes, exception_handlers=refusals, middleware=proxy)


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class PublicState:
    """The routes `/health` and `/metrics`.

    Args:
        exposition: returns the body of `/metrics`.
        health: returns the body of `/health`.
        any_host: whether they answer under every name of the server. Without TLS, another site's
            page could resolve its own name to the server's address.
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
