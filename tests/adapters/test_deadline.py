"""The deadline of a connection, whatever its peer sends."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from opentrail.adapters import outgoing_http as module
from opentrail.adapters.outgoing_http import connections_until, deadline

#: Schemes, and the first bytes of their answers; TLS starts with a long handshake record.
STARTS = [("http", b""), ("https", b"\x16\x03\x03\x40\x00")]


@contextlib.contextmanager
def never_ending(monkeypatch: pytest.MonkeyPatch, start: bytes) -> Iterator[str]:
    """Serves answers that begin with `start` and never end; yields the address.

    The deadline of the request is shorter than the allowed silence.
    """
    monkeypatch.setattr(module, "_REQUEST_SECONDS", 0.2)
    ended = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(start)
            while not ended.wait(0.01):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "start"), STARTS)
def test_a_connection_ends_at_its_deadline(
    scheme: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with never_ending(monkeypatch, start) as address, contextlib.ExitStack() as end:
        by_http, by_https = connections_until(end)
        connection = (by_https if scheme == "https" else by_http)(address, timeout=10)
        end.callback(connection.close)

        def ask() -> None:
            connection.request("GET", "/")
            connection.getresponse()

        with pytest.raises((OSError, http.client.HTTPException)):
            ask()


def test_a_connection_used_in_time_is_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other:
        with deadline(one):
            pass
        other.sendall(b"x")
        assert one.recv(1) == b"x"
