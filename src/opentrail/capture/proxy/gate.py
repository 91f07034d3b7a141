"""Who may call if signatures are verified, which happens before calls take effect.

The gate verifies a head before anything is passed on, and a body as it passes: it passes the last
piece on only once the whole body is known to be signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote_to_bytes

from opentrail.capture.proxy.refusals import NoAnswer, locked_out, protocol_of
from opentrail.capture.record.exchange import Signature
from opentrail.wire.form_fields import FIELDS_BYTES, form_fields
from opentrail.wire.message import MAX_BODY, Request, is_packed
from opentrail.wire.routing import Route
from opentrail.wire.signature_errors import (
    JSON_WORDING,
    S3_WORDING,
    WORDINGS,
    Problem,
    SignatureRefused,
    Wording,
)
from opentrail.wire.signed_chunks import ChunksRefused, ChunkVerifier
from opentrail.wire.sigv4 import S3_NAMES, Credential, read_signer_in_body
from opentrail.wire.verification import (
    FindSecret,
    Place,
    SignedRequest,
    VerifiedCaller,
    needs_body,
    verify,
    verify_form,
)

#: Refused signatures of a key from an address within a minute, after which all its calls are
#: refused for the rest of it (guarantee A8).
MAX_FAILURES = 20
#: Seconds for which they count.
_FAILURE_SECONDS = 60.0
#: Maximum pairs of key and address whose failures are counted.
_MAX_COUNTED = 100_000
#: Places where a lenient server could find a key: words, and runs of capitals and digits.
_WORD = re.compile(r"[^\s,/:;=\"']+")
_RUN = re.compile("[A-Z0-9]{16,}")
#: Maximum bytes of a field to search.
_FIELD_BYTES = 1024
#: Names of fields that name a key, in any case and with any letters quoted.
_NAMES = "|".join(
    "".join(f"(?:{letter}|%{ord(letter):x}|%{ord(letter.upper()):x})" for letter in name)
    for name in ("awsaccesskeyid", "x-amz-credential")
)
#: Such a field of a body, after an `&`; it is found without parsing the others.
_NAMING_FIELD = re.compile(b"&(?:%s)=([^&]{0,%d})" % (_NAMES.encode(), _FIELD_BYTES), re.I)
#: Bytes of a form that is searched for its operation: a SAML assertion, escaped, has up to 300,000
#: (STS API reference).
_SIGN_IN_BYTES = 512 * 1024
#: Bytes to unpack at a time.
_UNPACKED_BYTES = 256 * 1024
#: The first line after the head of a part, with any line end that servers accept.
_FIRST_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}([^\r\n]{1,200})")


@dataclass(frozen=True, slots=True)
class Claim:
    """A request at the gate, as given by its head."""

    request: Request
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    #: The signer that header or query name, as `read_claim` reads them.
    credential: Credential | None
    route: Route
    #: For opentrail's own API: the names of services accepted in a signature.
    own_services: frozenset[str] | None = None
    #: The caller's address.
    source_ip: str = ""


class Admission:
    """A call that passed the gate; only its body is still to be verified.

    The caller of an unsigned call, or with a key unknown to opentrail, stays unverified: the
    upstream decides.
    """

    signature = Signature.UNVERIFIED
    #: The verified signer.
    caller: VerifiedCaller | None = None
    #: Whether verification is complete.
    is_done = True
    #: Whether only the upstream decides on the caller; such a call is never re-signed.
    is_left_to_upstream = True

    def feed(self, piece: bytes) -> None:
        """Checks a piece of the body.

        Raises:
            SignatureRefused: it differs from the signed body.
        """

    def finish(self) -> None:
        """Checks the whole body; may be called again.

        Raises:
            SignatureRefused: it differs from the signed body.
            NoAnswer: it names a signer with too many refused signatures.
        """


class Gate:
    """Verifies the callers of all calls.

    Args:
        find_secret: looks an access key up.
        now: returns the time.
        unknown_keys: `forward` or `refuse` the calls of unknown keys.
        unsigned: `forward` or `refuse` unsigned calls, except CORS preflights; `sign-in` forwards
            only calls of the operations that AWS's models declare without a signature.
        identify: finds the operation of a request without a signer.
    """

    def __init__(
        self,
        find_secret: FindSecret,
        now: Callable[[], datetime],
        unknown_keys: str,
        unsigned: str,
        identify: Callable[[Request, None], Route],
    ) -> None:
        self._find_secret = find_secret
        self._now = now
        self._forwards_unknown_keys = unknown_keys == "forward"
        self._unsigned = unsigned
        self.forwards_sign_ins = unsigned == "sign-in"
        self._identify = identify
        self._failures = _Failures()
        #: Compressed bodies are searched one at a time, in a thread: a few bytes may hold 16 MiB.
        self.unpacking = asyncio.Lock()

    def admit(self, claim: Claim) -> Admission:
        """Verifies the head of a request.

        Raises:
            SignatureRefused: the caller is not the claimed one.
        """
        wording = wording_of(claim)
        self._refuse_other_keys(claim, wording)
        if claim.own_services is None:
            if claim.credential is None:
                if not _may_name_signer(claim.request):
                    self.refuse_unsigned(claim, claim.request, wording)
                return _SignerInBody(self, claim, wording)
            if not self.is_to_verify(claim.credential, wording):
                return self._forwarded(claim, wording)
        place = Place(wording, claim.own_services, is_own=claim.own_services is not None)
        return self._verified(claim, place)

    def _refuse_other_keys(self, claim: Claim, wording: Wording) -> None:
        """Refuses a header with a second known key: the upstream might act for that key."""
        text = claim.request.headers.get("authorization", "")
        key_id = claim.credential.access_key_id if claim.credential else ""
        for word in {*_WORD.findall(text), *_RUN.findall(text)} - {key_id}:
            if self._find_secret(word) is None:
                continue
            if key_id.startswith(f"{word}/"):  # a scope with too many parts
                given = text.partition("Credential=")[2].partition(",")[0]
                raise wording.refusal(Problem.CREDENTIAL, given=given, reason="")
            raise wording.refusal(Problem.TWICE, given="Credential")

    def _forwarded(self, claim: Claim, wording: Wording) -> Admission:
        """Returns the admission of a call on which the upstream decides."""
        keys, credential = self.keys_in_body(claim, wording), claim.credential
        key_id = credential.access_key_id if credential else ""
        return _ForwardedBody(keys, key_id) if keys is not None else Admission()

    def keys_in_body(self, claim: Claim, wording: Wording) -> KeysInBody | None:
        """Returns the search for keys in a body; None for S3 objects, which are only content."""
        signer, headers = claim.credential, claim.request.headers
        # Version 2 and queries do not bind an upstream to S3.
        is_bound = signer and (signer.version, signer.method) == ("SigV4", "AuthHeader")
        if is_bound and signer and signer.service in S3_NAMES:
            return None
        is_in_parts = "multipart/form-data" in headers.get("content-type", "").lower()
        kind = _KeysInParts if is_in_parts else _KeysInFields
        keys = kind(self._find_secret, wording)
        if not is_packed(headers):
            return keys
        return _KeysInGzip(keys, kind(self._find_secret, wording), wording)

    def _verified(self, claim: Claim, place: Place) -> Admission:
        service = claim.credential.service if claim.credential else None
        request = SignedRequest(claim.request.method, claim.target, claim.headers, None)
        if claim.credential is not None and needs_body(claim.headers, service):

            def verify_with(body_sha256: str) -> VerifiedCaller:
                complete = replace(request, body_sha256=body_sha256)
                return verify(complete, self._find_secret, self._now(), place)

            return _UnhashedBody(verify_with, self.keys_in_body(claim, place.wording))
        caller = verify(request, self._find_secret, self._now(), place)
        return _StatedBody(caller, place.wording, self.keys_in_body(claim, place.wording))

    def refuse_unsigned(self, claim: Claim, request: Request, wording: Wording) -> None:
        """Refuses an unsigned call unless the upstream may decide on it.

        Args:
            claim: its head.
            request: the request so far.
            wording: the wording of the refusal.

        Raises:
            SignatureRefused: it must be signed.
        """
        if self._unsigned == "forward" or _is_preflight(claim):
            return
        if self.forwards_sign_ins:
            model = self._identify(request, None).model
            if model is not None and model.auth_type == "none":
                return
        raise wording.refusal(Problem.MISSING)

    def is_to_verify(self, credential: Credential, wording: Wording) -> bool:
        """Returns whether a call of this key is verified here; else the upstream decides.

        Raises:
            SignatureRefused: unknown keys are refused, or a known key has an unsupported kind of
                signature.
        """
        if "/" in credential.access_key_id:
            raise _of(credential, wording.refusal(Problem.CREDENTIAL, given="", reason=""))
        if self._find_secret(credential.access_key_id) is None:
            if self._forwards_unknown_keys:
                return False
            raise _of(credential, wording.refusal(Problem.UNKNOWN_KEY))
        if credential.version != "SigV4":
            raise _of(credential, wording.refusal(Problem.UNSUPPORTED, given=credential.version))
        return True

    def verify_form(self, claim: Claim, start: bytes, wording: Wording) -> VerifiedCaller:
        """Verifies an upload from a browser form.

        Raises:
            SignatureRefused: the named key did not sign its policy.
        """
        fields = form_fields(claim.request.headers, start)
        return verify_form(fields, self._find_secret, self._now(), wording)

    # Failures

    def is_closed_to(self, credential: Credential | None, address: str) -> bool:
        """Returns whether a key had too many refused signatures from an address."""
        return credential is not None and self._failures.are_too_many(
            self._counter_key(credential.access_key_id), address, self._now()
        )

    def count_failure(self, key_id: str | None, address: str) -> None:
        """Counts a refused signature of a key."""
        self._failures.add(self._counter_key(key_id or ""), address, self._now())

    def _counter_key(self, key_id: str) -> str:
        """Returns the name for counting failures: all unknown keys share one."""
        return key_id if self._find_secret(key_id) is not None else ""


class KeysInBody(Protocol):
    """Looks for keys in a body."""

    def feed(self, piece: bytes) -> None:
        """Searches a piece of the body."""

    def refuse_others(self, key_id: str) -> None:
        """Ends the body.

        Raises:
            SignatureRefused: it names a known key other than the caller's.
        """


class _KeysInFields:
    """Searches a body for keys: some upstreams read them as the caller's.

    Args:
        find_secret: looks an access key up.
        wording: the wording of the refusal.
    """

    def __init__(self, find_secret: FindSecret, wording: Wording) -> None:
        self._find_secret, self._wording = find_secret, wording
        self._field = b""
        self._known: set[str] = set()

    def feed(self, piece: bytes) -> None:
        """Searches the fields `name=value` that end in a piece."""
        fields, end, rest = piece.rpartition(b"&")
        if end:
            self._search(self._field + fields)
            self._field = b""
        self._field += rest[: 2 * _FIELD_BYTES - len(self._field)]

    def refuse_others(self, key_id: str) -> None:
        self._search(self._field)
        if self._known - {key_id}:
            raise self._wording.refusal(Problem.TWICE, given="AWSAccessKeyId")

    def _search(self, fields: bytes) -> None:
        for value in set(_NAMING_FIELD.findall(b"&" + fields)):
            self._add_key(unquote_to_bytes(value))

    def _add_key(self, value: bytes) -> None:
        key = value.partition(b"/")[0].decode("latin-1").strip()
        if self._find_secret(key) is not None:
            self._known.add(key)


class _KeysInParts(_KeysInFields):
    """The same, also for the parts of `multipart/form-data`.

    Their names have too many spellings, so a key counts wherever it is the first line of a part.
    """

    _tail = b""

    def feed(self, piece: bytes) -> None:
        super().feed(piece)
        text = self._tail + piece
        for line in {m[1] for m in _FIRST_LINE.finditer(text) if m.end() < len(text)}:
            self._add_key(line)
        # The next piece may continue the end of this one.
        self._tail = text[-_FIELD_BYTES:]

    def refuse_others(self, key_id: str) -> None:
        for match in _FIRST_LINE.finditer(self._tail):
            self._add_key(match[1])
        super().refuse_others(key_id)


class _KeysInGzip:
    """The same for a gzip body, which some upstreams do not unpack.

    Refuses a body that unpacks to more than opentrail reads.
    """

    def __init__(self, packed: KeysInBody, plain: KeysInBody, wording: Wording) -> None:
        self._packed, self._plain, self._wording = packed, plain, wording
        #: None once the body is known not to be gzip.
        self._unpacker: zlib._Decompress | None = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._length = 0

    def feed(self, piece: bytes) -> None:
        self._packed.feed(piece)
        plain = b""
        # A full buffer may have more output without further input.
        while self._unpacker and (piece or len(plain) == _UNPACKED_BYTES):
            if self._length > MAX_BODY:
                return
            try:
                plain = self._unpacker.decompress(piece, _UNPACKED_BYTES)
            except zlib.error:
                self._unpacker = None
                return
            self._length += len(plain)
            self._plain.feed(plain)
            piece = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                piece = self._unpacker.unused_data
                self._unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def refuse_others(self, key_id: str) -> None:
        if self._unpacker and self._length > MAX_BODY:
            raise self._wording.refusal(Problem.CONTENT_MISMATCH)
        self._packed.refuse_others(key_id)
        self._plain.refuse_others(key_id)


class _ForwardedBody(Admission):
    """The body of a call on which the upstream decides."""

    def __init__(self, keys: KeysInBody, key_id: str) -> None:
        self.is_done = False
        self._keys, self._key_id = keys, key_id

    def feed(self, piece: bytes) -> None:
        self._keys.feed(piece)

    def finish(self) -> None:
        self._keys.refuse_others(self._key_id)
        self.is_done = True


class _StatedBody(Admission):
    """A verified head that states the body's hash, signs its chunks, or leaves it unsigned."""

    is_left_to_upstream = False

    def __init__(self, caller: VerifiedCaller, wording: Wording, keys: KeysInBody | None) -> None:
        self.caller = caller
        self._keys = keys
        self.is_done = False
        self._wording = wording
        self._expected, self._chunks = caller.body_sha256, caller.chunks
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        if self._expected is not None:
            self._hash.update(piece)
        if self._keys is not None:
            self._keys.feed(piece)
        self._check(lambda chunks: chunks.feed(piece))

    def finish(self) -> None:
        if self._keys is not None and self.caller is not None:
            self._keys.refuse_others(self.caller.access_key_id)
        if self._expected not in (None, self._hash.hexdigest()):
            raise self._wording.refusal(Problem.CONTENT_MISMATCH)
        self._check(ChunkVerifier.finish)
        self.signature = Signature.VERIFIED
        self.is_done = True

    def _check(self, step: Callable[[ChunkVerifier], None]) -> None:
        """Takes a step of the verification of signed chunks, if there are any."""
        if self._chunks is None:
            return
        try:
            step(self._chunks)
        except ChunksRefused as error:
            raise self._wording.refusal(Problem.MISMATCH) from error


class _UnhashedBody(Admission):
    """A head verified only together with its body."""

    is_left_to_upstream = False

    def __init__(
        self, verify_with: Callable[[str], VerifiedCaller], keys: KeysInBody | None
    ) -> None:
        self.is_done = False
        self._verify_with, self._keys = verify_with, keys
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        self._hash.update(piece)
        if self._keys is not None:
            self._keys.feed(piece)

    def finish(self) -> None:
        if not self.is_done:
            self.caller = self._verify_with(self._hash.hexdigest())
            if self._keys is not None:
                self._keys.refuse_others(self.caller.access_key_id)
            self.signature = Signature.VERIFIED
            self.is_done = True


class _SignerInBody(Admission):
    """A head without a signature; the body may be a form that names its signer."""

    def __init__(self, gate: Gate, claim: Claim, wording: Wording) -> None:
        self._gate, self._claim, self._wording = gate, claim, wording
        self.is_done = False
        self._start = bytearray()
        self._size = _SIGN_IN_BYTES if gate.forwards_sign_ins else FIELDS_BYTES
        self._keys = gate.keys_in_body(claim, wording)

    def feed(self, piece: bytes) -> None:
        if self._keys is not None:
            self._keys.feed(piece)
        room = self._size - len(self._start)
        if room > 0 and self._claim.request.method == "POST":
            self._start += piece[:room]

    def finish(self) -> None:
        if self.is_done:
            return
        start, is_whole = bytes(self._start), len(self._start) < self._size
        request = replace(self._claim.request, body=start, body_is_whole=is_whole)
        credential = read_signer_in_body(request)
        if self._gate.is_closed_to(credential, self._claim.source_ip):  # guarantee A8
            raise NoAnswer(locked_out(self._claim.route, form=True))
        if credential is None:
            self._gate.refuse_unsigned(self._claim, request, self._wording)
        elif self._gate.is_to_verify(credential, self._wording):
            self.caller = self._gate.verify_form(self._claim, start, self._wording)
            self.signature = Signature.VERIFIED
        if self._keys is not None:
            self._keys.refuse_others(self.caller.access_key_id if self.caller else "")
        self.is_done = True


class _Failures:
    """Times of refused signatures by key and address."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def are_too_many(self, key: str, address: str, now: datetime) -> bool:
        times = self._times.get((key, address))
        since = now.timestamp() - _FAILURE_SECONDS
        return times is not None and len(times) == MAX_FAILURES and times[0] > since

    def add(self, key: str, address: str, now: datetime) -> None:
        times = self._times.setdefault((key, address), deque(maxlen=MAX_FAILURES))
        times.append(now.timestamp())
        self._times.move_to_end((key, address))
        if len(self._times) > _MAX_COUNTED:
            self._times.popitem(last=False)


def wording_of(claim: Claim) -> Wording:
    """Returns the wording of a call's refusals."""
    route, signed_as = claim.route, claim.credential.service if claim.credential else None
    if claim.own_services is not None:
        return WORDINGS.get(route.protocol or "", JSON_WORDING)
    if (route.service.name if route.service else signed_as) in S3_NAMES:
        return S3_WORDING
    is_form = "form-urlencoded" in claim.request.headers.get("content-type", "")
    return WORDINGS.get(protocol_of(route, is_form), S3_WORDING)


def _may_name_signer(request: Request) -> bool:
    """Returns whether the body may be a form that names its signer."""
    content_type = request.headers.get("content-type", "").lower()
    is_form = "form-urlencoded" in content_type or "multipart/form-data" in content_type
    return is_form and request.method == "POST"


def _is_preflight(claim: Claim) -> bool:
    """Returns whether a browser asks S3 if a page may send a call (CORS); it has no effect."""
    headers, service = claim.request.headers, claim.route.service
    return (
        claim.request.method == "OPTIONS"
        and "origin" in headers
        and "access-control-request-method" in headers
        and service is not None
        and service.name == "s3"
        and "transfer-encoding" not in headers
        and headers.get("content-length", "0") == "0"
    )


def _of(credential: Credential, refused: SignatureRefused) -> SignatureRefused:
    refused.access_key_id = credential.access_key_id
    return refused
