"""A port for a server that starts later."""

from __future__ import annotations

import socket
import sys


class ReservedPort:
    """A port of this machine that no other program is given.

    It is bound and not listened on, so that connections are refused until a server, which may bind
    it too, listens there. Where two sockets cannot be bound to one address, another program may get
    the port before the server.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.number}"
        if sys.platform != "linux":
            self._socket.close()

    def release(self) -> None:
        """Leaves the port to other programs."""
        self._socket.close()
