"""Limits (guarantee N2), and a busy endpoint; on endpoints in this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from opentrail.capture.proxy import ClientConnection, Endpoint, Upstream, Upstreams
from opentrail.capture.proxy.endpoint import ApiAnswer
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.recorder import Recorder
from opentrail.core.identity import unknown
from opentrail.ports.metrics import Metrics
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog
from tests.capture.proxy.wires import TIMEOUT_SECONDS, Wire, get, put
from tests.fakes import MemoryJournal, SettableClock

pytestmark = pytest.mark.live


@contextmanager
def an_endpoint(**limits: object) -> Iterator[tuple[str, Endpoint]]:
    """Runs an endpoint without an upstream, in a separate thread."""
    loop = asyncio.new_event_loop()
    ready: Future[tuple[str, Endpoint]] = Future()

    async def serve() -> asyncio.Server:
        metrics, clock = Metrics(), SettableClock()
        assembler = Assembler(lambda key: unknown("123456789012", key))
        recorder = Recorder(MemoryJournal(), assembler, lambda _: None, clock, metrics, True)
        nowhere = Upstreams(Upstream("127.0.0.1", 9, False), {})

        async def nothing(*call: object) -> ApiAnswer:
            raise AssertionError("not asked for")

        endpoint = Endpoint(recorder, Router(ServiceCatalog()), nowhere, nothing, clock, metrics)
        for name, value in limits.items():
            setattr(endpoint, name, value)
        server = await loop.create_server(lambda: ClientConnection(endpoint), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set_result((f"http://127.0.0.1:{port}", endpoint))
        return server

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(serve())
        loop.run_forever()
        server.close()
        loop.run_until_complete(ready.result()[1].stop(0.1))
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def test_an_unfinished_head_gets_408_at_the_deadline() -> None:
    with an_endpoint(head_seconds=2) as (url, _):
        wire = Wire.to(url).send("GET /slow HTTP/1.1\r\nHost:")
        assert wire.answer()[0] == 408
        assert wire.rest() == b""


def test_a_silent_connection_is_closed() -> None:
    with an_endpoint(head_seconds=1) as (url, _):
        assert Wire.to(url).rest() == b""
    with an_endpoint(idle_seconds=1) as (url, _):
        wire = Wire.to(url).send(get())
        assert wire.answer()[0] == 502
        assert wire.rest() == b""


def test_an_interrupted_body_ends_the_call() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, an_endpoint(idle_seconds=0.2) as (url, endpoint):
        host, port = silent.getsockname()
        endpoint.upstreams = Upstreams(Upstream(host, port, False), {})
        wire = Wire.to(url).send(put(b"x" * 10)[:-5])
        assert wire.answer()[0] == 400
        assert wire.rest() == b""


def test_the_oldest_idle_connections_make_room() -> None:
    with an_endpoint(max_connections=3) as (url, endpoint):
        first, second, third = (Wire.to(url) for _ in range(3))
        for wire in (third, first, second):
            assert wire.send(get()).answer()[0] == 502
        half = Wire.to(url).send("GET /")  # replaces the connection with the longest idle time
        assert third.rest() == b""
        fourth = Wire.to(url).send(get())
        assert fourth.answer()[0] == 502
        assert half.rest() == b"", "a head that does not end holds no place"
        others = [Wire.to(url) for _ in range(20)]
        assert others[-1].send(get()).answer()[0] == 502
        assert first.rest() == b""
        assert second.send(get()).answer()[0] == 502, "connections without a call do not close it"
        assert (sample(endpoint, "opentrail_idle_connections_closed_total") or 0) >= 20
        assert sample(endpoint, "opentrail_refused_calls_total") is None
        assert len(endpoint.connections) <= 3


def sample(endpoint: Endpoint, name: str, **labels: str) -> float | None:
    return endpoint.metrics.registry.get_sample_value(name, labels)


def test_connections_with_calls_stay_open() -> None:
    with an_endpoint(max_connections=2, body_grace_seconds=TIMEOUT_SECONDS) as (url, endpoint):
        kept = [Wire.to(url).send(put(b"x" * 10)[:-5]) for _ in range(2)]
        while len(endpoint.connections) < 2 or endpoint.idle or endpoint.unused:
            continue  # their heads are still unread
        assert Wire.to(url).rest() == b""
        assert sample(endpoint, "opentrail_refused_calls_total", reason="connections") == 1
        for wire in kept:
            assert wire.send(b"x" * 5).answer()[0] == 502
        assert Wire.to(url).send(get()).answer()[0] == 502


def test_each_connection_gets_its_answers_in_order() -> None:
    with an_endpoint() as (url, endpoint):
        wires = [Wire.to(url) for _ in range(8)]
        for wire in wires:
            wire.send(get("/bucket/first")).send(get("/bucket/second"))
        for wire in wires:
            assert [wire.answer()[0], wire.answer()[0]] == [502, 502]
        assert endpoint.recorder.lost == 0


def test_last_request_of_a_connection_gets_an_answer() -> None:
    with an_endpoint() as (url, _):
        wire = Wire.to(url).send(get("/bucket/last"))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer()[0] == 502


def test_bodies_later_than_their_heads_are_forwarded() -> None:
    with an_endpoint() as (url, _):
        wires = [Wire.to(url) for _ in range(8)]
        for half in (slice(None, -5), slice(-5, None)):
            for wire in wires:
                wire.send(put(b"x" * 10)[half])
        assert [wire.answer()[0] for wire in wires] == [502] * 8
