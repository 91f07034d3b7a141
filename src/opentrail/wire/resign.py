"""Re-signing of calls, for an upstream that checks signatures over its own host name (SigV4).

The form follows AWS's "Signature Version 4 signing process"; botocore computes it. The server
re-signs a signed upload's chunks one by one, so that its length does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.wire.signed_chunks import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_WITH_TRAILER,
    ChunkSigner,
    SignatureChain,
)
from opentrail.wire.sigv4 import S3_NAMES, SIGNING_QUERY, Credential

Headers = list[tuple[bytes, bytes]]

_UNSIGNED = "UNSIGNED-PAYLOAD"
_OTHER_CHUNKS = "STREAMING-AWS4-ECDSA"
#: Parts of a query that sign it, in both versions.
_SIGNING_QUERY = SIGNING_QUERY | {"awsaccesskeyid", "signature", "expires"}
_REPLACED = frozenset({b"host", b"authorization", b"x-amz-date", b"x-amz-security-token", b"date"})
_EXPIRY = ("x-amz-expires", "x-amz-date", "expires")
_STAMP = "%Y%m%dT%H%M%SZ"
_EMPTY = hashlib.sha256(b"").hexdigest()


class CannotResign(Exception):  # noqa: N818 - it is an answer as much as an error
    """A call that cannot be re-signed, with the status and code of its refusal."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class UpstreamCredentials:
    """Credentials that an upstream accepts; without a Region, the caller's is signed for."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """A request as the client sent it, and its upstream."""

    method: str
    path: str
    query: str
    headers: Headers
    folded: Mapping[str, str]
    credential: Credential | None
    #: Host (and port, unless it is the scheme's own) of the upstream.
    host: str
    #: Bucket of a virtual-host style request, which is passed on in path style.
    bucket: str | None = None


@dataclass(frozen=True, slots=True)
class Resigned:
    """Target and headers for the upstream; `chunks` passes a signed upload's body on."""

    target: bytes
    headers: Headers
    chunks: ChunkSigner | None = None


def needs_body(original: Original) -> bool:
    """Returns whether the whole body must be known before the head can be signed."""
    has_hash = "x-amz-content-sha256" in original.folded
    return not has_hash and _service_of(original) not in S3_NAMES


def with_host(original: Original) -> Resigned:
    """Returns a call for its upstream; its signature, if any, does not cover the host."""
    headers = [pair for pair in original.headers if pair[0].lower() != b"host"]
    path = _path_style(original)
    target = f"{path}?{original.query}" if original.query else path
    return Resigned(target.encode("latin-1"), [(b"Host", original.host.encode()), *headers])


def resign(
    original: Original, key: UpstreamCredentials, body: bytes | None, now: datetime
) -> Resigned:
    """Returns the call signed with `key`.

    Args:
        original: the call as it came; it must have a credential of a header or a query.
        key: whose signature the upstream accepts.
        body: the whole body where `needs_body`, else None.
        now: the time, for the expiry of presigned calls.

    Raises:
        CannotResign: a presigned call has expired, or its kind of signature is not supported.
    """
    _refuse_expired(original, now)
    service = _service_of(original)
    claimed = original.credential.region if original.credential else None
    region = key.region or claimed or "us-east-1"
    content_hash = _content_hash(original, body)
    path = _path_style(original)
    query = _query_without_signature(original.query)
    headers = [pair for pair in original.headers if pair[0].lower() not in _REPLACED]
    request = AWSRequest(
        original.method, f"https://{original.host}{_signed_url(service, path, query)}"
    )
    for name, value in headers:
        lower = name.decode("latin-1").lower()
        if lower.startswith("x-amz-") or lower in ("content-type", "content-md5"):
            request.headers[lower] = value.decode("latin-1")
    request.headers["Host"] = original.host
    credentials = Credentials(key.access_key_id, key.secret_access_key, key.session_token)
    signer_class = _S3Signer if service in S3_NAMES else _Signer
    signer = signer_class(credentials, service, region)
    signer.content_hash = content_hash
    signer.add_auth(request)
    names = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
    signing_headers = [
        (n.encode(), request.headers[n].encode()) for n in names if n in request.headers
    ]
    signing_headers.insert(0, (b"Host", original.host.encode()))
    if service in S3_NAMES and "x-amz-content-sha256" not in original.folded:
        signing_headers.append((b"x-amz-content-sha256", content_hash.encode()))
    target = f"{path}?{query}" if query else path
    chunks = None
    if content_hash in (SIGNED_CHUNKS, SIGNED_CHUNKS_WITH_TRAILER):
        chain = SignatureChain(
            lambda text: str(signer.signature(text, request)),
            request.context["timestamp"],
            signer.credential_scope(request),
            request.headers["Authorization"].rpartition("Signature=")[2],
        )
        chunks = ChunkSigner(chain, content_hash == SIGNED_CHUNKS_WITH_TRAILER)
    return Resigned(target.encode("latin-1"), [*signing_headers, *headers], chunks)


def _service_of(original: Original) -> str:
    return (original.credential.service if original.credential else None) or "s3"


def _path_style(original: Original) -> str:
    return f"/{quote(original.bucket)}{original.path}" if original.bucket else original.path


class _KnownBody:
    """Gives a signer of botocore the known hash of a body."""

    content_hash = _EMPTY

    def payload(self, request: AWSRequest) -> str:
        """Returns the hash of the body, or the marker used in its place."""
        del request
        return self.content_hash


class _Signer(_KnownBody, SigV4Auth):  # type: ignore[misc]
    pass


class _S3Signer(_KnownBody, S3SigV4Auth):  # type: ignore[misc]
    """Signs S3's paths unchanged."""


def _content_hash(original: Original, body: bytes | None) -> str:
    stated = original.folded.get("x-amz-content-sha256")
    if stated is not None:
        if stated.startswith(_OTHER_CHUNKS):
            raise CannotResign(
                501, "NotImplemented", f"a body signed as {stated} cannot be re-signed"
            )
        return stated
    return _UNSIGNED if body is None else hashlib.sha256(body).hexdigest()


def _refuse_expired(original: Original, now: datetime) -> None:
    """Refuses presigned calls that have expired: re-signing would extend them."""
    if original.credential is None or original.credential.method != "QueryString":
        return
    parameters = parse_qsl(original.query, keep_blank_values=True)
    pairs = {name.lower(): value for name, value in parameters}
    try:
        if any([name.lower() for name, _ in parameters].count(name) > 1 for name in _EXPIRY):
            raise ValueError("given more than once")
        if "x-amz-expires" in pairs or "x-amz-credential" in pairs:
            signed = datetime.strptime(pairs["x-amz-date"], _STAMP).replace(tzinfo=now.tzinfo)
            ends = signed + timedelta(seconds=int(pairs["x-amz-expires"]))
        elif "expires" in pairs:
            ends = datetime.fromtimestamp(int(pairs["expires"]), now.tzinfo)
        else:
            return
    except (KeyError, ValueError, OverflowError, OSError) as error:
        reason = "the presigned query has no valid date or expiry"
        raise CannotResign(400, "AuthorizationQueryParametersError", reason) from error
    if ends < now:
        raise CannotResign(403, "AccessDenied", "Request has expired")


def _query_without_signature(query: str) -> str:
    parts = (
        part for part in query.split("&") if part.partition("=")[0].lower() not in _SIGNING_QUERY
    )
    return "&".join(part for part in parts if part)


def _signed_url(service: str, path: str, query: str) -> str:
    """Returns path and query in the canonical form for signing."""
    if service in S3_NAMES:
        path = quote(unquote_to_bytes(path), safe="/-_.~")
    pairs = [part.partition("=") for part in query.split("&") if part]
    spelled = "&".join(f"{_spelled(name)}={_spelled(value)}" for name, _, value in pairs)
    return f"{path}?{spelled}" if spelled else path


def _spelled(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", "%20")), safe="-_.~")
