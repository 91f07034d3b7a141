"""The HTTP server behind the console's address, and of the MCP server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.data_directory.system import raise_descriptor_limit
from opentrail.adapters.ipc import parent
from opentrail.adapters.ipc.child import read_output
from opentrail.app.endpoint_server import console_connection_limit
from opentrail.app.http_server import HttpServer
from opentrail.capture.proxy.connections import Connections
from opentrail.core.errors import CloudTrailError

log = logging.getLogger(__name__)

#: Maximum seconds that a page waits for a verification.
_VERIFY_SECONDS = 300
#: Maximum seconds that a page waits for the proof of an event: less than the minute after which the
#: page's request times out.
_PROOF_SECONDS = 50


class TrailVerifiers:
    """Verifies trails, one at a time, each in a process that reads buckets through the endpoint."""

    def __init__(self, data_dir: Path, access: Callable[[], S3Access]) -> None:
        self._data_dir = data_dir
        self._access = access
        self._turn = asyncio.Lock()

    async def verify(self, arn: str) -> tuple[bool, list[str]]:
        """Runs `opentrail validate` on a trail; returns whether it is valid, and the output.

        Raises:
            CloudTrailError: `TimedOut`.
        """
        command = (parent.__name__, "validate", arn, "--data-dir", str(self._data_dir))
        try:
            async with asyncio.timeout(_VERIFY_SECONDS), self._turn:
                code, output, _ = await _run(self._access(), command, _VERIFY_SECONDS)
        except TimeoutError as error:
            message = (
                f"Verifying took more than {_VERIFY_SECONDS} s: run `opentrail validate {arn}`."
            )
            raise CloudTrailError("TimedOut", message, 504) from error
        return code == 0, output.decode("utf-8", "replace").splitlines()


class EventProvers:
    """Proves events, one at a time, each in a process that reads buckets through the endpoint."""

    def __init__(self, access: Callable[[], S3Access]) -> None:
        self._access = access
        self._turn = asyncio.Lock()

    async def prove(self, questions: dict[str, Any]) -> list[Any]:
        """Returns the answers of `event_prover` to questions in its form.

        Raises:
            CloudTrailError: `TimedOut` or `ProofFailed`.
        """
        command = ("opentrail.app.event_prover",)
        try:
            async with asyncio.timeout(_PROOF_SECONDS), self._turn:
                request = orjson.dumps(questions) + b"\n"
                code, output, failure = await _run(self._access(), command, _PROOF_SECONDS, request)
        except TimeoutError as error:
            message = f"The proof took more than {_PROOF_SECONDS} s; verify the trail instead."
            raise CloudTrailError("TimedOut", message, 504) from error
        if code:
            reason = failure.decode("utf-8", "replace")[-2_000:]
            log.error("the process that proves events failed", extra={"error": reason})
            raise CloudTrailError("ProofFailed", "The proof ended with an error.", 500)
        answers: list[Any] = orjson.loads(output)
        return answers


async def _run(
    own: S3Access, module: Sequence[str], seconds: float, request: bytes | None = None
) -> tuple[int, bytes, bytes]:
    """Runs a Python module with access to the endpoint; it ends with this process.

    Returns:
        Its exit code, its output, and its error output; without a request, the outputs are
        merged.

    Raises:
        TimeoutError: it took longer than `seconds` and was killed.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": str(own.endpoint_url),
        "AWS_ACCESS_KEY_ID": own.access_key_id,
        "AWS_SECRET_ACCESS_KEY": own.secret_access_key,
        "AWS_DEFAULT_REGION": own.region,
        **({"AWS_SESSION_TOKEN": own.session_token} if own.session_token else {}),
        **({"AWS_CA_BUNDLE": str(own.ca)} if own.ca else {}),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if request is None else asyncio.subprocess.PIPE,
        env=environment,
    )
    if request is not None and process.stdin is not None:
        process.stdin.write(request)
    try:
        async with asyncio.timeout(seconds):
            output, failure = await read_output(process)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output, failure


async def serve_console(
    stack: contextlib.AsyncExitStack,
    app: Any,
    listening: socket.socket,
    limits: Connections,
    tls: ssl.SSLContext | None = None,
    admits: Callable[[str], bool] | None = None,
) -> None:
    """Serves an ASGI application on a socket until `stack` is closed; returns once it is served."""
    server = HttpServer(app, listening, tls, limits, admits)
    task = asyncio.create_task(server.serve())

    async def stop() -> None:
        server.should_exit = True
        server.force_exit = True
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
    accepting = asyncio.create_task(server.is_accepting.wait())
    await asyncio.wait([task, accepting], return_when=asyncio.FIRST_COMPLETED)
    accepting.cancel()
    if task.done():
        task.result()


async def serve_until_signal(app: Any, listening: socket.socket) -> None:
    """Serves an ASGI application, which has a lifespan, on a socket until SIGTERM or Ctrl-C."""
    listening.setblocking(False)
    most = console_connection_limit(raise_descriptor_limit())
    server = HttpServer(app, listening, None, Connections(max_connections=most), has_lifespan=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
    await server.serve()
