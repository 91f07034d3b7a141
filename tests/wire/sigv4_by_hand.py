"""Signature version 4 by AWS's guide, without botocore, as a server checks it."""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import parse_qsl, quote, unquote

Headers = list[tuple[bytes, bytes]]


def signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed(secret: str, scope: str, text: str) -> str:
    return hmac.digest(signing_key(secret, scope), text.encode(), "sha256").hex()


def verify(method: str, target: str, headers: Headers, body_hash: str, secret: str) -> str:
    """Returns the access key id of a validly signed request.

    Raises:
        AssertionError: the signature is wrong.
    """
    given = {name.decode().lower(): value.decode() for name, value in headers}
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+), SignedHeaders=(\S+), Signature=(\w+)",
        given["authorization"],
    )
    assert match is not None, given["authorization"]
    key_id, scope, names, signature = match.groups()
    assert "host" in names.split(";")
    assert {n for n in given if n.startswith("x-amz-")} <= set(names.split(";"))
    path, _, query = target.partition("?")
    once = quote(unquote(path), safe="/-_.~")
    canonical = "\n".join(
        (
            method,
            once if "/s3/" in scope else quote(path, safe="/-_.~"),
            "&".join(
                f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}"
                for n, v in sorted(parse_qsl(query, keep_blank_values=True))
            ),
            *(f"{name}:{' '.join(given[name].split())}" for name in names.split(";")),
            "",
            names,
            body_hash,
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", given["x-amz-date"], scope, digest))
    assert signature == signed(secret, scope, text), canonical
    return key_id


def chunked(
    pieces: list[bytes], secret: str, scope: str, stamp: str, seed: str, trailer: bytes = b""
) -> bytes:
    """Returns an `aws-chunked` body with signed chunks, and perhaps a signed trailer."""
    out, previous, empty = b"", seed, hashlib.sha256(b"").hexdigest()
    for piece in [*pieces, b""]:
        digest = hashlib.sha256(piece).hexdigest()
        kind = "AWS4-HMAC-SHA256-PAYLOAD"
        previous = signed(secret, scope, "\n".join((kind, stamp, scope, previous, empty, digest)))
        out += b"%x;chunk-signature=%s\r\n" % (len(piece), previous.encode())
        out += piece + b"\r\n" if piece else b""
    if trailer:
        digest = hashlib.sha256(trailer + b"\n").hexdigest()
        kind = "AWS4-HMAC-SHA256-TRAILER"
        last = signed(secret, scope, "\n".join((kind, stamp, scope, previous, digest)))
        out += trailer + b"\r\nx-amz-trailer-signature:" + last.encode() + b"\r\n"
    return out + b"\r\n"
