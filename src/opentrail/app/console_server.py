"""The HTTP server behind the console's address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import uvicorn


class _UvicornServer(uvicorn.Server):
    """uvicorn without its signal handlers: this process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


async def serve_console(
    stack: contextlib.AsyncExitStack, app: Any, listening: socket.socket
) -> None:
    """Serves an ASGI application on a socket until `stack` is closed; returns once it is served."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    server = _UvicornServer(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))

    async def stop() -> None:
        server.should_exit = True
        server.force_exit = True
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
    # uvicorn has no event for this; the socket is listening, so no connection is refused.
    while not server.started and not task.done():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    if task.done():
        task.result()
