"""Scheme and host that a client used, for an upstream that is reached in another way."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from urllib.parse import unquote

from opentrail.capture.proxy.head import Head, Headers

#: Headers that speak of the client, from whoever is in front of a server (RFC 7239 and before).
_SPEAKING = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)
_SIGNED = re.compile(r"SignedHeaders\s*=\s*([^,\s&]+)", re.I)


def with_forwarded(head: Head, peer: str, is_trusted: bool) -> Head:
    """Returns the head of a call that came over TLS with the headers that say so.

    What a client says of itself in such headers stays only if it signed them, or is a trusted
    proxy: nobody may take it for ours.
    """
    signed = _signed(head)
    kept: Headers = []
    present: set[bytes] = set()
    for name, value in head.headers:
        lower = name.lower()
        if lower in _SPEAKING:
            if not is_trusted and lower not in signed:
                continue
            present.add(lower)
        kept.append((name, value))
    host = head.folded.get("host", "").encode("latin-1", "replace")
    if not (is_trusted and present):
        kept += [pair for pair in _ours(peer, host) if pair[0].lower() not in present]
    return replace(head, headers=kept, _folded=None)


def _ours(peer: str, host: bytes) -> Headers:
    address = peer.encode()
    node = b'"[%s]"' % address if _is_ipv6(peer) else address
    return [
        (b"X-Forwarded-For", address),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Proto", b"https"),
        (b"Forwarded", b'for=%s;host="%s";proto=https' % (node, host.replace(b'"', b""))),
    ]


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _signed(head: Head) -> frozenset[bytes]:
    """Returns the names of the headers that are part of the call's signature."""
    query = head.target.partition(b"?")[2].decode("latin-1")
    texts = (head.folded.get("authorization", ""), unquote(query))
    names = (found[1] for text in texts for found in _SIGNED.finditer(text))
    return frozenset(name.strip().lower().encode() for one in names for name in one.split(";"))
