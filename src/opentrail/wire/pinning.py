"""Requests to a server on this machine: by no proxy, and to the owner of its certificate."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.request import BaseHandler, HTTPSHandler, OpenerDirector, ProxyHandler, build_opener

_END = "-----END CERTIFICATE-----"


def direct_opener(certificate: Path | None = None) -> OpenerDirector:
    """Returns an opener for URLs, without a proxy; with a certificate, over TLS by `pinned`.

    Raises:
        OSError: as `pinned`.
    """
    return opener_with(pinned(certificate) if certificate is not None else None)


def opener_with(context: ssl.SSLContext | None) -> OpenerDirector:
    """Returns an opener for URLs, without a proxy, over TLS by a context if given."""
    handlers: list[BaseHandler] = [ProxyHandler({})]
    if context is not None:
        handlers.append(HTTPSHandler(context=context))
    return build_opener(*handlers)


def pinned(certificate: Path) -> ssl.SSLContext:
    """Returns a client's TLS context that accepts the first certificate in a PEM file alone.

    A server names the file in its `server.json`. Later certificates in the file, such as the
    authorities', are not trusted.

    Raises:
        OSError: the file cannot be read, or has no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    pem, end, _ = certificate.read_text("utf-8", "replace").partition(_END)
    begin = pem.rfind("-----BEGIN CERTIFICATE-----")
    try:
        context.load_verify_locations(cadata=f"{pem[max(begin, 0) :]}{end}\n")
    except (ValueError, ssl.SSLError) as error:
        raise OSError(f"{certificate} has no certificate: {error}") from error
    return context
