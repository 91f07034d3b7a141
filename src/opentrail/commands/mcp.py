"""`opentrail mcp`: answers questions of AI agents."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from opentrail.commands.client import find
from opentrail.core.errors import UsageError
from opentrail.installation import command_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="data directory of the server")
    parser.add_argument("--endpoint", metavar="URL", help="console address of the server")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answers on standard input and output until the agent's program closes them.

    Raises:
        UsageError: no server is found, or the MCP package is not installed.
    """
    find(options)  # fails before the slow import if there is no server
    try:
        from opentrail.mcp.server import OpentrailMcpServer, ToolUse
    except ImportError as error:
        raise UsageError(f"'opentrail mcp' needs the package mcp: {command_for('mcp')}") from error

    # The server is looked for each time: it may have been started again, with another token.
    def get(path: str, query: Mapping[str, str | None], /) -> dict[str, Any]:
        given = {name: value for name, value in query.items() if value is not None}
        return find(options).ask(f"{path}?{urlencode(given)}")

    def record(use: ToolUse, /) -> None:
        body = {
            "tool": use.tool,
            "argumentsSha256": use.arguments_sha256,
            "agent": use.agent,
            "agentVersion": use.agent_version,
            "rows": use.rows,
            "failed": use.failed,
        }
        find(options).ask("/api/v1/questions", [json.dumps(body).encode()])

    OpentrailMcpServer(get, record).run()
    return 0
