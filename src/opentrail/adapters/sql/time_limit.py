"""Time limits of transactions on PostgreSQL that also hold while its server is frozen."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

#: Seconds until a connection that was opened in the meantime is closed as well.
_AGAIN = 0.5
#: Minimum connect timeout of PostgreSQL's client library, in seconds.
_MIN_CONNECT_SECONDS = 2


class TimeLimits:
    """Cuts off transactions that take too long, by closing their connection.

    PostgreSQL's own limits do not help while it is frozen or its machine is gone: the driver would
    wait for its answer permanently.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """Limits an engine that has at most one connection."""
        #: psycopg.
        self._driver: Any = engine.dialect.dbapi
        self._connection: Any = None
        self._seconds = 0.0
        self._expired = False
        # Before SQLAlchemy's own listener, which sends the first statements.
        sa.event.listen(engine, "connect", self._opened, insert=True)
        sa.event.listen(engine, "do_connect", self._connect)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Closes the connection if the block takes longer; what waits for an answer then fails."""
        self._seconds, self._expired = seconds, False
        ended = threading.Event()

        def watch() -> None:
            wait = seconds
            while not ended.wait(wait):
                self._expired = True
                self._hang_up()
                wait = _AGAIN

        watcher = threading.Thread(target=watch, name="time limit", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def caused(self, error: Exception) -> bool:
        """Returns whether an error of the last block comes from its limit."""
        timeout = self._driver.errors.ConnectionTimeout
        return self._expired or isinstance(getattr(error, "orig", None), timeout)

    def _connect(
        self, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]
    ) -> None:
        allowed = max(int(self._seconds), _MIN_CONNECT_SECONDS)
        parameters["connect_timeout"] = min(allowed, int(parameters["connect_timeout"]))

    def _opened(self, connection: Any, _record: object) -> None:
        self._connection = connection

    def _hang_up(self) -> None:
        if self._connection is None:
            return
        with suppress(OSError, self._driver.Error):  # it may be closed already
            # A copy of the descriptor is closed here; the driver closes its own.
            copy = socket.socket(fileno=os.dup(self._connection.fileno()))
            try:
                copy.shutdown(socket.SHUT_RDWR)
            finally:
                copy.close()
