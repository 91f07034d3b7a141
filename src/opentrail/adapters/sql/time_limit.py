"""Time limits of transactions on PostgreSQL that also hold while its server is frozen."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: Seconds until a connection that was opened meanwhile is closed as well.
_AGAIN = 0.5
#: Seconds between two calls of `on_slow`.
_SLOW_SECONDS = 1.0
#: The least time for connecting that PostgreSQL's client library knows, in seconds.
_MIN_CONNECT_SECONDS = 2


class TimeLimit:
    """Cuts off a transaction that takes too long, by closing its connection.

    PostgreSQL's own limits do not help while it is frozen or its machine is gone: the driver would
    wait for its answer permanently.

    Args:
        on_slow: is called each second of a block, in a thread; it must return at once.
    """

    def __init__(self, on_slow: Callable[[], None] = lambda: None) -> None:
        self._on_slow = on_slow
        #: psycopg's connection, once it is open.
        self.connection: Any = None
        #: Whether the last block took too long.
        self.has_expired = False
        self._seconds = 0.0

    @property
    def connect_seconds(self) -> int:
        """How long connecting may take within the block."""
        return max(int(self._seconds), _MIN_CONNECT_SECONDS)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Closes the connection if the block takes longer; what waits for an answer then fails."""
        self._seconds, self.has_expired = seconds, False
        ended = threading.Event()

        end = time.monotonic() + seconds

        def watch() -> None:
            while not ended.wait(min(_SLOW_SECONDS, end - time.monotonic())):
                if time.monotonic() < end:
                    self._on_slow()
                    continue
                self.has_expired = True
                self._hang_up()
                if ended.wait(_AGAIN):
                    return

        watcher = threading.Thread(target=watch, name="time limit", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _hang_up(self) -> None:
        connection = self.connection
        if connection is None or connection.closed:
            return
        with suppress(Exception):  # it may be closed already, and the limit must go on
            # A copy of the descriptor is closed here; the driver closes its own.
            copy = socket.socket(fileno=os.dup(connection.fileno()))
            try:
                copy.shutdown(socket.SHUT_RDWR)
            finally:
                copy.close()
