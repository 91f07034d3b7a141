"""The HTTP server behind the console's address."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.app import console_server
from opentrail.app.console_server import EventProvers, TrailVerifiers, serve_console
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


@pytest.mark.slow
@asynchronous
async def test_an_application_is_served_without_handling_signals() -> None:
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
async def test_proof_process_answers_or_fails() -> None:
    provers = EventProvers(lambda: S3Access("http://127.0.0.1:9", "key", "secret"))
    assert await provers.prove({"questions": [], "keys": []}) == []
    with pytest.raises(CloudTrailError) as failed:
        await provers.prove({"questions": [{}], "keys": []})
    assert (failed.value.code, failed.value.status) == ("ProofFailed", 500)
    assert await provers.prove({"questions": [], "keys": []}) == []


@asynchronous
async def test_one_trail_is_verified_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[Any] = []

    async def run(_access: S3Access, command: Any, _seconds: float) -> tuple[int, bytes, bytes]:
        running.append(command)
        assert len(running) == 1
        await asyncio.sleep(0)
        running.remove(command)
        return 0, command[2].encode(), b""

    monkeypatch.setattr(console_server, "_run", run)
    verifiers = TrailVerifiers(Path("data"), lambda: S3Access("http://127.0.0.1:9", "k", "s"))
    arns = ["a", "b", "c"]
    answers = await asyncio.gather(*map(verifiers.verify, arns))
    assert answers == [(True, [arn]) for arn in arns]


@pytest.mark.slow
@asynchronous
async def test_verification_has_output_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifiers = TrailVerifiers(tmp_path, lambda: S3Access("http://127.0.0.1:9", "k", "s"))
    is_valid, lines = await verifiers.verify("no-arn")
    assert not is_valid
    assert "no server runs on data directory" in lines[0]
    monkeypatch.setattr(console_server, "_VERIFY_SECONDS", 0)
    with pytest.raises(CloudTrailError, match="run `opentrail validate no-arn`"):
        await verifiers.verify("no-arn")
