"""Answers plain HTTP on a port that speaks TLS, so that the client sees what is wrong."""

from __future__ import annotations

import ssl
from typing import Any

_BODY = b"this port speaks TLS: use https:// in the endpoint URL\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)


class ServerContext(ssl.SSLContext):
    """A server's TLS context; a client that speaks plain HTTP is answered 400 in plain HTTP."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **options: Any
    ) -> ssl.SSLObject:
        """Returns the TLS side of a connection."""
        side = super().wrap_bio(incoming, outgoing, *arguments, **options)
        if isinstance(side, _Side):
            side.outgoing = outgoing
        return side


class _Side(ssl.SSLObject):
    """One connection's TLS; `outgoing` are the bytes for the client."""

    outgoing: ssl.MemoryBIO
    _refused = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST" or self._refused:
                raise
            self._refused = True
            self.outgoing.read()  # an alert that no HTTP client could read
            self.outgoing.write(_ANSWER)
            # Has the answer sent; the client ends the connection, or the handshake's time does.
            raise ssl.SSLWantReadError from error


def server_context() -> ServerContext:
    """Returns a context without a certificate as yet."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Side
    context.set_alpn_protocols(["http/1.1"])
    return context
