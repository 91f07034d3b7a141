"""Time limits of a call's upstream and client."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.capture.proxy.wires import (
    GET,
    HEAD,
    TIMEOUT_SECONDS,
    Wire,
    between,
    ok,
    socket_buffers,
)

pytestmark = [pytest.mark.live, pytest.mark.campaign]


def test_no_answer_is_fetched_for_a_departed_client(tmp_path: Path) -> None:
    """An endless answer is recorded when its client leaves, and its upstream may end it."""
    left = threading.Event()

    def endless(wire: Wire) -> None:
        wire.request()
        wire.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-amz-request-id: SEEN\r\n\r\n"
        )
        wire.socket.settimeout(0.02)
        while not left.is_set():
            try:
                wire.send(b"5\r\nhello\r\n")
                assert wire.socket.recv(1) == b""  # the endpoint ends it
                left.set()
            except TimeoutError:
                continue
            except OSError:
                left.set()

    with between(tmp_path, endless, flags=("--on-record-failure", "allow")) as (server, _):
        wire = Wire.to(server.url).send(GET)
        wire.until(b"hello")
        wire.close()
        assert left.wait(TIMEOUT_SECONDS)
        records: list[Any] = []
        while not records:
            records = list(server.records())
        (record,) = records
    assert record["requestID"] == "SEEN"
    assert record["errorCode"] == "ClientDisconnected"
    assert record["errorMessage"] == "the client went away before its answer was complete"


def test_no_download_is_fetched_for_a_departed_client(tmp_path: Path) -> None:
    ended = threading.Event()

    def generous(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        try:
            while True:
                wire.send(bytes(65536))
        except OSError:
            ended.set()

    with between(tmp_path, generous) as (server, _):
        wire = Wire.to(server.url).send(GET)
        wire.exactly(1_000_000)
        wire.close()
        assert ended.wait(TIMEOUT_SECONDS)


def test_upstream_that_reads_the_request_is_not_silent(tmp_path: Path) -> None:
    asked_other = threading.Event()

    def patient(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"stored"))

    def silent(wire: Wire) -> None:
        wire.request()
        wire.rest()

    flags = ("--upstream-timeout", "2")
    with between(tmp_path, patient, silent, flags=flags) as (server, _):
        size = 1_000
        wire = Wire.to(server.url).send(
            f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: {size}\r\n\r\n"
        )
        other = Wire.to(server.url)

        def ask() -> None:
            other.send(GET).answer()  # 504: by then more than the timeout has passed
            asked_other.set()

        threading.Thread(target=ask, daemon=True).start()
        sent = 0
        while not asked_other.wait(0.05):
            wire.send(b"x")
            sent += 1
        wire.send(b"x" * (size - sent))
        assert wire.answer()[::2] == (200, b"stored")


SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"a" * 200_000


@pytest.mark.parametrize("answer", [b"", SHORT], ids=["no head", "a part of its body"])
def test_a_silent_upstream_times_out_and_is_recorded(tmp_path: Path, answer: bytes) -> None:
    def silent(wire: Wire) -> None:
        wire.request()
        wire.send(answer)
        wire.rest()  # until the server closes the connection

    with between(tmp_path, silent, flags=("--upstream-timeout", "1")) as (server, _):
        status, _, body = Wire.to(server.url).send(GET).answer()
        assert status == 504
        assert b"GatewayTimeout" in body
        (record,) = server.records()
    assert record["eventName"] == "GetObject"
    assert "did not" in record["additionalEventData"]["opentrail"]["failure"]


def test_upstream_that_pauses_too_long_breaks_the_answer(tmp_path: Path) -> None:
    def silent(wire: Wire) -> None:
        wire.request()
        wire.send(LONG)
        wire.rest()

    with between(tmp_path, silent, flags=("--upstream-timeout", "1")) as (server, _):
        wire = Wire.to(server.url).send(GET)
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(wire.rest()) < 999_999
        (record,) = server.records()
    assert "did not" in record["additionalEventData"]["opentrail"]["failure"]


def test_a_slow_reader_is_not_a_silent_upstream(tmp_path: Path) -> None:
    size = 1_000_000 + 2 * socket_buffers()  # more than both connections hold

    def generous(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        wire.send(bytes(size))
        wire.rest()

    def silent(wire: Wire) -> None:
        wire.request()
        wire.rest()

    flags = ("--upstream-timeout", "3")  # the script shares a core with others, so it may pause
    with between(tmp_path, generous, silent, flags=flags) as (server, upstream):
        wire = Wire.to(server.url).send(GET)
        wire.until(b"\r\n\r\n")
        # Once another one is closed, the endpoint has checked for silence.
        assert Wire.to(server.url).send(GET).answer()[0] == 504
        assert len(wire.exactly(size)) == size
        wire.close()
        assert upstream.problems == []
