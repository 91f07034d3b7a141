"""The open engines of a server, for tests of their users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.app.engines import Engines, open_engines
from opentrail.settings import Settings


@asynccontextmanager
async def opened_engines(
    settings: Settings, fail: Callable[[str], None] = lambda _: None
) -> AsyncIterator[tuple[AsyncExitStack, Engines, DataDirectory]]:
    """Opens the engines of a server; yields their closer, the engines and their directory."""
    data = DataDirectory(settings.data_dir)
    data.open()
    async with AsyncExitStack() as stack:
        stack.callback(data.close)
        yield stack, await open_engines(stack, settings, data, fail), data
