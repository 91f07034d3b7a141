"""Ends connections whose peers answer, but never to the end."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

#: Seconds of a whole request.
_MAX_SECONDS = 30.0


@contextlib.contextmanager
def deadline(opened: socket.socket) -> Iterator[None]:
    """Shuts a connection down after 30 seconds, whatever has been read of it by then."""
    same = opened.dup()  # TLS takes the socket itself

    def end() -> None:
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_MAX_SECONDS, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        same.close()


def connections_until(
    end: contextlib.ExitStack,
) -> tuple[type[http.client.HTTPConnection], type[http.client.HTTPSConnection]]:
    """Returns connections, by HTTP and by HTTPS, that have a deadline until `end` is closed."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            end.enter_context(deadline(self.sock))

    class TlsConnection(http.client.HTTPSConnection, Connection):
        """Its deadline begins before TLS: `HTTPSConnection` connects by `Connection`."""

    return Connection, TlsConnection
