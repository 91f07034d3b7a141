"""Trust in the certificate of a server on this machine, of any issuer and for any name."""

from __future__ import annotations

import ssl
from pathlib import Path

_END = "-----END CERTIFICATE-----"


def pinned(certificate: Path) -> ssl.SSLContext:
    """Returns a client's TLS context that accepts the first certificate in a PEM file alone.

    The file is one that a server has named in its `server.json`; others that follow in it, such as
    those of authorities, are not trusted.

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
