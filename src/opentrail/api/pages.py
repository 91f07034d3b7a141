"""Pages without scripts, and what is answered where there is no page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import orjson
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
        routes: what it answers.
        home: the address of the web console, which is named where there is no page; None: none.
        proxy_host: the host of a proxy that ends TLS, as in the header `Host`; None: none.
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
