"""The HTTP server behind the console's address."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import urllib.error
import urllib.request
from typing import Any

import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.app.console_server import EventProvers, serve_console
from opentrail.app.endpoint_server import bind
from opentrail.capture.proxy.connections import Connections
from opentrail.core.errors import CloudTrailError
from opentrail.settings import Address
from tests.fakes import asynchronous


async def hello(scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        return bytes(answer.read())


@asynchronous
async def test_an_application_is_served_until_the_end_and_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with bind(Address("127.0.0.1", 0), "--console-listen") as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/trails"
        async with contextlib.AsyncExitStack() as stack:
            await serve_console(stack, hello, listening, Connections())
            assert await asyncio.to_thread(read, url) == b"/trails"
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(read, url)


@pytest.mark.slow
@asynchronous
async def test_the_process_that_proves_events_answers_and_its_failure_is_an_error() -> None:
    provers = EventProvers(lambda: S3Access("http://127.0.0.1:9", "key", "secret"))
    assert await provers.prove({"questions": [], "keys": []}) == []
    with pytest.raises(CloudTrailError) as failed:
        await provers.prove({"questions": [{}], "keys": []})
    assert (failed.value.code, failed.value.status) == ("ProofFailed", 500)
    assert await provers.prove({"questions": [], "keys": []}) == []
