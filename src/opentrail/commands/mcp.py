"""`opentrail mcp`: answers questions of AI agents."""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from opentrail.access.user_tokens import PREFIX
from opentrail.commands.client import ask, find, find_as
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.version import command_for
from opentrail.settings import Address


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="data directory of the server")
    parser.add_argument("--endpoint", metavar="URL", help="console address of the server")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="serve HTTP instead; each request needs a user's token",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answers until the agent's program closes standard input, or over HTTP until a signal.

    Raises:
        UsageError: no server is found, or the MCP package is not installed.
    """
    address = None if options.listen is None else _address_of(options.listen)
    try:
        import opentrail.mcp.server
    except ImportError as error:
        raise UsageError(f"'opentrail mcp' needs the package mcp: {command_for('mcp')}") from error
    if address is not None:
        return _answer_over_http(options, address)

    find(options)  # fails immediately if there is no server
    # Find the server for each question, since a restart changes its token.
    opentrail.mcp.server.OpentrailMcpServer(partial(ask, options)).run()
    return 0


def _answer_over_http(options: argparse.Namespace, address: Address) -> int:
    # Imported here, because the MCP server over standard input does not need it.
    from opentrail.app.console_server import serve_until_signal
    from opentrail.mcp.http import (
        PATH,
        PersonalTokenVerifier,
        http_app,
        token_of_request,
    )
    from opentrail.mcp.server import OpentrailMcpServer

    def user_of(token: str) -> str | None:
        """Returns the user of a personal token; refuses the server's own token."""
        if not token.startswith(PREFIX):
            return None
        try:
            return str(find_as(options, token).ask("/api/v1/caller")["user"])
        except OpentrailError:
            return None

    find_as(options, "")  # fails immediately if there is no server

    def ask_as_user(
        path: str, query: Mapping[str, str | None], body: dict[str, Any] | None = None, /
    ) -> Any:
        return find_as(options, token_of_request()).ask(path, query, body)

    server = OpentrailMcpServer(ask_as_user, PersonalTokenVerifier(user_of))
    with _listening(address) as listening:
        url = address.url(listening.getsockname()[1])
        print(f"opentrail mcp answers on {url}{PATH}", flush=True)
        asyncio.run(serve_until_signal(http_app(server, url.rpartition("/")[2]), listening))
    return 0


def _address_of(text: str) -> Address:
    address = Address.parse(text, "--listen")
    if not address.is_loopback:
        raise UsageError(
            f"--listen {address.host} is not a loopback address: no token may cross a network"
            " without TLS; listen on 127.0.0.1, behind a proxy with TLS"
        )
    return address


def _listening(address: Address) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"--listen {address.host}:{address.port} cannot be used: {reason}"
        ) from error
