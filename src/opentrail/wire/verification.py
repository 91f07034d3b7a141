"""Verification of signature version 4 (cloudtrail-format §10.3).

Canonical requests follow "Create a signed AWS API request" in the IAM user guide, over the bytes
as received. opentrail refuses ambiguous requests (a header twice, two mechanisms, a broken percent
encoding): an upstream might read them the other way.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes

from botocore.utils import normalize_url_path

from opentrail.wire.signature_errors import Problem, SignatureRefused, Wording
from opentrail.wire.signed_chunks import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_WITH_TRAILER,
    ChunkVerifier,
    SignatureChain,
)
from opentrail.wire.sigv4 import (
    MALFORMED_CREDENTIAL,
    S3_NAMES,
    ClaimRefused,
    parse_authorization,
)

#: Services with operations that leave bodies unsigned.
_UNSIGNED_BODIES = frozenset({"ebs", "lex", "mediastore", "omics"})
_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_MARKERS = frozenset({_UNSIGNED, SIGNED_CHUNKS, SIGNED_CHUNKS_WITH_TRAILER, _UNSIGNED_CHUNKS})
_UNSIGNED_PAYLOADS = frozenset({_UNSIGNED})
_HASH = re.compile("[0-9a-f]{64}")
_STAMP = re.compile("[0-9]{8}T[0-9]{6}Z")
_STAMP_FORM = "%Y%m%dT%H%M%SZ"
_HEADER_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_WEEK = 7 * 24 * 3600
#: Maximum difference in seconds between a request's time and ours: for S3, for other services.
_S3_WINDOW, _WINDOW = 900, 300
_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_SIGNING = frozenset(name.lower() for name in _PARAMETERS)
_TOKEN = "x-amz-security-token"  # noqa: S105 - the header's name
#: Fields of a form that name its signer.
_SIGNING_FIELDS = ("policy", "x-amz-date", "x-amz-credential", "x-amz-signature", _TOKEN)
#: Headers that are ambiguous if sent twice.
_ONCE = (b"authorization", b"host", b"x-amz-date", b"x-amz-content-sha256", _TOKEN.encode())
#: Secret that is computed with for unknown keys, so that they take as long as known ones.
_NO_SECRET = "0" * 40


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as received.

    `body_sha256` is the hash of the body in lowercase hex; None while the body has not been read.
    """

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body_sha256: str | None


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """The known properties of an access key."""

    secret_access_key: str = field(repr=False)
    #: SHA-256 of the session token; None for a long-term key.
    session_token_sha256: bytes | None = None
    expires: datetime | None = None
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """The place that a signature must be made for, and the wording of refusals."""

    wording: Wording
    #: Signing names of the service; None if any will do.
    services: frozenset[str] | None = None
    #: None if any will do.
    region: str | None = None
    #: Whether it is our own API: signed by a header, its whole body too.
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class VerifiedCaller:
    """The signer of a request, whose signature matches."""

    access_key_id: str
    region: str
    service: str
    #: CloudTrail's `AuthenticationMethod`: `AuthHeader`, `QueryString` or `HTMLForm`.
    method: str
    #: The signature of the head; a second request with the same one is a replay.
    signature: str
    #: Until when the signature is accepted.
    valid_until: datetime
    #: The hash that the body must have, if the body was still unread.
    body_sha256: str | None = None
    #: Verifies a body in signed chunks as it passes.
    chunks: ChunkVerifier | None = None


FindSecret = Callable[[str], SigningSecret | None]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A signature as a request states it."""

    access_key_id: str
    scope: tuple[str, str, str, str]
    signed_headers: list[bytes]
    signature: str
    stamp: str
    signed_at: datetime
    token: str | None
    #: Seconds for which a presigned request is valid; None for a header.
    expires: int | None

    @property
    def is_s3(self) -> bool:
        return self.scope[2] in S3_NAMES


def needs_body(headers: Sequence[tuple[bytes, bytes]], service: str | None) -> bool:
    """Returns whether a request can be verified only once its whole body is known."""
    has_hash = any(name.lower() == b"x-amz-content-sha256" for name, _ in headers)
    return not has_hash and service not in S3_NAMES


def verify(
    request: SignedRequest, find_secret: FindSecret, now: datetime, place: Place
) -> VerifiedCaller:
    """Returns the signer of a request.

    Args:
        request: the request as received.
        find_secret: looks an access key up; None for an unknown one.
        now: the time, aware.
        place: the place that the signature must be made for.

    Raises:
        SignatureRefused: the request is not signed, or not by the key that it names.
        ValueError: `needs_body`, but the hash of the body is not given.
    """
    headers: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        headers.setdefault(name.lower(), []).append(value)
    claim = None
    try:
        _refuse_repeated(headers, place.wording)
        path, _, query = request.target.partition(b"?")
        if _BROKEN_ESCAPE.search(request.target) or not path.startswith(b"/"):
            raise place.wording.refusal(Problem.MISMATCH)
        pairs = _pairs(query) if query else []
        claim = _claim(headers, pairs, place)
        _check_scope(claim, place)
        _check_signed_headers(claim, headers, place.wording)
        valid_until = _check_time(claim, now, place.wording)
        content = _content_hash(claim, headers, pairs, request.body_sha256, place)
        canonical = b"\n".join(
            (
                request.method.encode("latin-1"),
                _canonical_path(path, claim.is_s3),
                _canonical_query(pairs),
                *_canonical_headers(claim.signed_headers, headers),
                b"",
                b";".join(claim.signed_headers),
                content.encode(),
            )
        )
        text = _text_to_sign(claim, canonical)
        key = _check_secret(claim, text, find_secret(claim.access_key_id), now, place.wording)
        if content not in _MARKERS and request.body_sha256 not in (None, content):
            raise place.wording.refusal(Problem.CONTENT_MISMATCH)
    except SignatureRefused as refused:
        refused.access_key_id = claim.access_key_id if claim else None
        raise
    is_deferred = request.body_sha256 is None and content not in _MARKERS
    return VerifiedCaller(
        claim.access_key_id,
        claim.scope[1],
        claim.scope[2],
        "AuthHeader" if claim.expires is None else "QueryString",
        claim.signature,
        valid_until,
        content if is_deferred else None,
        _chunk_verifier(claim, key, headers, content),
    )


def verify_form(
    fields: Mapping[str, str], find_secret: FindSecret, now: datetime, wording: Wording
) -> VerifiedCaller:
    """Returns the signer of a browser's form for an upload to S3, whose policy is signed.

    The conditions of the policy are not checked; that is S3's part.

    Args:
        fields: the form's fields before the file, by lowercase name.
        find_secret: looks an access key up; None for an unknown one.
        now: the time, aware.
        wording: the wording of refusals.

    Raises:
        SignatureRefused: the policy is not signed by the key that the form names, or has expired.
    """
    key_id = None
    try:
        if not all(fields.get(name, "").isascii() for name in _SIGNING_FIELDS):
            raise wording.refusal(Problem.MISMATCH)
        stamp = fields.get("x-amz-date", "")
        signed_at = _parsed(stamp)
        if fields.get("x-amz-algorithm") != _ALGORITHM:
            raise wording.refusal(Problem.UNSUPPORTED, given=fields.get("x-amz-algorithm", ""))
        if signed_at is None:
            raise wording.refusal(Problem.NO_DATE)
        key_id, scope = _credential(fields.get("x-amz-credential", ""), wording, Problem.CREDENTIAL)
        signature, token = fields.get("x-amz-signature", ""), fields.get("x-amz-security-token")
        claim = _Claim(key_id, scope, [], signature, stamp, signed_at, token, None)
        _check_scope(claim, Place(wording))
        policy = fields.get("policy", "")
        _check_secret(claim, policy.encode(), find_secret(key_id), now, wording)
        valid_until = _policy_expiration(policy)
        if valid_until is None or valid_until <= now:
            raise wording.refusal(Problem.PRESIGNED_EXPIRED)
    except SignatureRefused as refused:
        refused.access_key_id = key_id
        raise
    return VerifiedCaller(key_id, scope[1], scope[2], "HTMLForm", signature, valid_until)


def _policy_expiration(policy: str) -> datetime | None:
    try:
        document = json.loads(b64decode(policy))
        expiration = datetime.fromisoformat(document["expiration"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return expiration if expiration.tzinfo else None


def _refuse_repeated(headers: Mapping[bytes, list[bytes]], wording: Wording) -> None:
    for name in _ONCE:
        if len(headers.get(name, ())) > 1:
            raise wording.refusal(Problem.TWICE, given=name.decode())


def _claim(
    headers: Mapping[bytes, list[bytes]], pairs: list[tuple[bytes, bytes]], place: Place
) -> _Claim:
    """Returns the signature that a request states, of its header or of its query."""
    names = [name.decode("latin-1").lower() for name, _ in pairs]
    in_query = [name for name in names if name in _SIGNING]
    authorization = headers.get(b"authorization")
    if authorization is None and (place.is_own or not in_query):
        raise place.wording.refusal(Problem.MISSING)
    if authorization is None:
        for name in (*in_query, _TOKEN):
            if names.count(name) > 1:
                raise place.wording.refusal(Problem.TWICE, given=name)
        return _claim_of_query(headers, pairs, place.wording)
    if in_query:
        raise place.wording.refusal(Problem.TWICE, given="Authorization")
    return _claim_of_header(authorization[0].decode("latin-1"), headers, place.wording)


def _claim_of_header(text: str, headers: Mapping[bytes, list[bytes]], wording: Wording) -> _Claim:
    try:
        header = parse_authorization(text)
    except ClaimRefused as error:
        raise wording.refusal(error.problem, **error.details) from error
    if header.algorithm != _ALGORITHM:
        raise wording.refusal(Problem.UNSUPPORTED, given=header.algorithm)
    token = headers.get(_TOKEN.encode())
    return _Claim(
        *_credential(header.credential, wording, Problem.CREDENTIAL),
        header.signed_headers.encode("latin-1").split(b";"),
        header.signature,
        *_stamp(headers, wording),
        token[0].decode("latin-1").strip() if token else None,
        None,
    )


def _claim_of_query(
    headers: Mapping[bytes, list[bytes]], pairs: list[tuple[bytes, bytes]], wording: Wording
) -> _Claim:
    parameters = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    if any(not parameters.get(name) for name in _PARAMETERS):
        required = f"{', '.join(_PARAMETERS[:-1])}, and {_PARAMETERS[-1]}"
        reason = f"Query-string authentication version 4 requires the {required} parameters."
        raise wording.refusal(Problem.QUERY, reason=reason)
    if parameters["X-Amz-Algorithm"] != _ALGORITHM:
        reason = f'X-Amz-Algorithm only supports "{_ALGORITHM}"'
        raise wording.refusal(Problem.QUERY, reason=reason)
    signed_at = _parsed(parameters["X-Amz-Date"])
    if signed_at is None:
        reason = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        raise wording.refusal(Problem.QUERY, reason=reason)
    if _TOKEN.encode() in headers:
        raise wording.refusal(Problem.TWICE, given=_TOKEN)
    return _Claim(
        *_credential(parameters["X-Amz-Credential"], wording, Problem.QUERY),
        parameters["X-Amz-SignedHeaders"].encode("latin-1").split(b";"),
        parameters["X-Amz-Signature"],
        parameters["X-Amz-Date"],
        signed_at,
        parameters.get("X-Amz-Security-Token"),
        _expires(parameters["X-Amz-Expires"], wording),
    )


def _expires(text: str, wording: Wording) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit():
        raise wording.refusal(Problem.QUERY, reason="X-Amz-Expires should be a number")
    if digits != text:
        raise wording.refusal(Problem.QUERY, reason="X-Amz-Expires must be non-negative")
    if len(text) > 10 or int(text) > _WEEK:
        reason = (
            "X-Amz-Expires must be less than a week (in seconds); that is, the given "
            f"X-Amz-Expires must be less than {_WEEK} seconds"
        )
        raise wording.refusal(Problem.QUERY, reason=reason)
    return int(text)


def _credential(
    text: str, wording: Wording, problem: Problem
) -> tuple[str, tuple[str, str, str, str]]:
    parts = text.split("/")
    if len(parts) != 5 or not all(parts):
        raise wording.refusal(problem, given=text, reason=MALFORMED_CREDENTIAL)
    return parts[0], (parts[1], parts[2], parts[3], parts[4])


def _stamp(headers: Mapping[bytes, list[bytes]], wording: Wording) -> tuple[str, datetime]:
    """Returns the signed time of a request: `X-Amz-Date`, else `Date`."""
    if b"x-amz-date" in headers:
        text = headers[b"x-amz-date"][0].decode("latin-1").strip()
    else:
        dates = headers.get(b"date", [])
        if len(dates) > 1:
            raise wording.refusal(Problem.TWICE, given="date")
        text = dates[0].decode("latin-1").strip() if dates else ""
        if text and not _STAMP.fullmatch(text):
            try:
                text = parsedate_to_datetime(text).astimezone(UTC).strftime(_STAMP_FORM)
            except (ValueError, OverflowError):
                text = ""
    signed_at = _parsed(text)
    if signed_at is None:
        raise wording.refusal(Problem.NO_DATE)
    return text, signed_at


def _parsed(stamp: str) -> datetime | None:
    if not _STAMP.fullmatch(stamp):
        return None
    try:
        # Several times as fast as strptime.
        return datetime.fromisoformat(stamp)
    except ValueError:
        return None


def _check_scope(claim: _Claim, place: Place) -> None:
    date, region, service, terminator = claim.scope
    refusal = place.wording.refusal
    if terminator != "aws4_request":
        raise refusal(Problem.SCOPE_TERMINATOR, given=terminator)
    if place.region is not None and region != place.region:
        raise refusal(Problem.SCOPE_REGION, given=region, expected=place.region)
    if place.services is not None and service not in place.services:
        expected = min(place.services)
        raise refusal(Problem.SCOPE_SERVICE, given=service, expected=expected)
    if date != claim.stamp[:8]:
        expected = claim.stamp[:8]
        raise refusal(Problem.SCOPE_DATE, given=date, expected=expected, stamp=claim.stamp)


def _check_signed_headers(
    claim: _Claim, headers: Mapping[bytes, list[bytes]], wording: Wording
) -> None:
    """Checks that every header is signed that affects a request's destination or effect."""
    names = claim.signed_headers
    if names != sorted(set(names)) or not all(map(_HEADER_NAME.fullmatch, names)):
        raise wording.refusal(Problem.MISMATCH)
    if b"host" not in names:
        raise wording.refusal(Problem.HOST_NOT_SIGNED)
    if not headers.keys() >= set(names):
        raise wording.refusal(Problem.MISMATCH)
    is_dated = claim.expires is not None or b"x-amz-date" in headers
    for raw in headers:
        needed = raw.startswith(b"x-amz-") or (raw == b"date" and not is_dated)
        if needed and raw not in names:
            raise wording.refusal(Problem.HEADER_NOT_SIGNED, given=raw.decode("latin-1"))


def _check_time(claim: _Claim, now: datetime, wording: Wording) -> datetime:
    """Returns until when the signature is accepted."""
    signed = claim.signed_at
    window = _S3_WINDOW if claim.is_s3 else _WINDOW
    is_presigned = claim.expires is not None
    valid_for = window if claim.expires is None else claim.expires
    if now - signed > timedelta(seconds=valid_for):
        problem = Problem.PRESIGNED_EXPIRED if is_presigned else Problem.EXPIRED
        raise wording.refusal(problem, **_times(claim.stamp, now, -valid_for))
    if signed - now > timedelta(seconds=window):
        problem = Problem.PRESIGNED_EARLY if is_presigned else Problem.EARLY
        raise wording.refusal(problem, **_times(claim.stamp, now, window))
    return signed + timedelta(seconds=valid_for)


def _times(stamp: str, now: datetime, offset: int) -> dict[str, str]:
    limit = now.astimezone(UTC) + timedelta(seconds=offset)
    minutes, seconds = divmod(abs(offset), 60)
    return {
        "stamp": stamp,
        "now": now.astimezone(UTC).strftime(_STAMP_FORM),
        "limit": limit.strftime(_STAMP_FORM),
        "window": f"{abs(offset)} sec." if seconds else f"{minutes} min.",
    }


def _content_hash(
    claim: _Claim,
    headers: Mapping[bytes, list[bytes]],
    pairs: list[tuple[bytes, bytes]],
    body_sha256: str | None,
    place: Place,
) -> str:
    """Returns the last line of the canonical request: the hash of the body, or a marker."""
    stated = headers.get(b"x-amz-content-sha256", [])
    if claim.expires is not None and not stated:
        stated = [value for name, value in pairs if name == b"X-Amz-Content-Sha256"]
    if stated:
        content = stated[0].decode("latin-1").strip()
        if not _HASH.fullmatch(content) and (place.is_own or content not in _markers(claim)):
            raise place.wording.refusal(Problem.CONTENT_HASH)
        return content
    if claim.is_s3 and claim.expires is not None:
        return _UNSIGNED
    if claim.is_s3:
        raise place.wording.refusal(Problem.CONTENT_HASH_MISSING)
    if body_sha256 is None:
        raise ValueError("the hash of the body is needed to verify this request")
    return body_sha256


def _markers(claim: _Claim) -> frozenset[str]:
    if claim.is_s3:
        return _MARKERS
    return _UNSIGNED_PAYLOADS if claim.scope[2] in _UNSIGNED_BODIES else frozenset()


def _pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    split = (part.partition(b"=") for part in query.split(b"&"))
    return [(_unquoted(name), _unquoted(value)) for name, _, value in split]


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b"%20"))


def _canonical_query(pairs: list[tuple[bytes, bytes]]) -> bytes:
    if not pairs:
        return b""
    quoted = sorted(
        (quote_from_bytes(name, safe="-_.~"), quote_from_bytes(value, safe="-_.~"))
        for name, value in pairs
        if name != b"X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in quoted).encode()


def _canonical_path(path: bytes, is_s3: bool) -> bytes:
    if path == b"/":
        return path
    if is_s3:
        segments = (quote_from_bytes(unquote_to_bytes(part), "-_.~") for part in path.split(b"/"))
        return "/".join(segments).encode()
    normal = str(normalize_url_path(path.decode("latin-1")))
    return quote_from_bytes(normal.encode("latin-1"), safe="/-_.~").encode()


def _canonical_headers(names: Sequence[bytes], headers: Mapping[bytes, list[bytes]]) -> list[bytes]:
    lines = []
    for name in names:
        first, *more = headers[name]
        line = name + b":" + b" ".join(first.split())
        for value in more:
            line += b"," + b" ".join(value.split())
        lines.append(line)
    return lines


def _text_to_sign(claim: _Claim, canonical: bytes) -> bytes:
    digest = hashlib.sha256(canonical).hexdigest()
    return f"{_ALGORITHM}\n{claim.stamp}\n{'/'.join(claim.scope)}\n{digest}".encode("latin-1")


def _check_secret(
    claim: _Claim, text: bytes, secret: SigningSecret | None, now: datetime, wording: Wording
) -> bytes:
    """Returns the signing key of a rightly signed request; every key costs the same work."""
    key = b"AWS4" + (secret.secret_access_key if secret else _NO_SECRET).encode()
    for part in claim.scope:
        key = hmac.digest(key, part.encode("latin-1"), "sha256")
    signature = hmac.digest(key, text, "sha256").hex()
    is_signed = hmac.compare_digest(signature.encode(), claim.signature.encode("latin-1"))
    token = hashlib.sha256((claim.token or "").encode("latin-1")).digest()
    expected = secret.session_token_sha256 if secret else None
    is_tokened = hmac.compare_digest(token, expected or token)
    if secret is None or not secret.is_active:
        raise wording.refusal(Problem.UNKNOWN_KEY)
    if not is_signed:
        raise wording.refusal(Problem.MISMATCH)
    if not is_tokened or (claim.token is None) != (expected is None):
        raise wording.refusal(Problem.TOKEN_INVALID)
    if secret.expires is not None and secret.expires <= now:
        raise wording.refusal(Problem.TOKEN_EXPIRED)
    return key


def _chunk_verifier(
    claim: _Claim, key: bytes, headers: Mapping[bytes, list[bytes]], content: str
) -> ChunkVerifier | None:
    if content not in (SIGNED_CHUNKS, SIGNED_CHUNKS_WITH_TRAILER):
        return None
    names = None
    if content == SIGNED_CHUNKS_WITH_TRAILER:
        announced = b",".join(headers.get(b"x-amz-trailer", [])).decode("latin-1").lower()
        names = frozenset(name.strip() for name in announced.split(",") if name.strip())
    stated = headers.get(b"x-amz-decoded-content-length", [b""])[0].strip()
    # No length equals a string that is not a number.
    length = int(stated) if stated.isdigit() and len(stated) < 20 else -1

    def sign(text: str) -> str:
        return hmac.digest(key, text.encode(), "sha256").hex()

    chain = SignatureChain(sign, claim.stamp, "/".join(claim.scope), claim.signature)
    return ChunkVerifier(chain, names, length if stated else None)
