"""Who may call with `--auth enforced`: signatures are verified before calls take effect.

A head is verified before anything is passed on. A body is verified as it passes, and its last piece
is passed on only once all of it is known to be signed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from opentrail.capture.proxy.refusals import likely_protocol
from opentrail.capture.record.exchange import Signature
from opentrail.wire.message import Request
from opentrail.wire.multipart import FIELDS_BYTES, form_fields
from opentrail.wire.routing import Call
from opentrail.wire.signature_errors import (
    JSON_WORDING,
    S3_WORDING,
    WORDINGS,
    Problem,
    SignatureRefused,
    Wording,
)
from opentrail.wire.signed_chunks import ChunksRefused, ChunkVerifier
from opentrail.wire.sigv4 import S3_NAMES, Credential, read_credential
from opentrail.wire.verification import (
    FindSecret,
    Place,
    SignedRequest,
    VerifiedCaller,
    count_claims,
    needs_body,
    verify,
    verify_form,
)

#: Refused signatures of a key from an address within a minute, after which all its calls are
#: refused for the rest of it (guarantee A8).
MOST_FAILURES, _FAILURE_SECONDS = 20, 60.0
_MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A request at the gate, as far as its head says."""

    request: Request
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    credential: Credential | None
    call: Call
    #: For opentrail's own API: the names of services that a signature may be made for.
    own_services: frozenset[str] | None = None


class Admission:
    """A call that passed the gate; what is left to verify is in its body.

    The caller of a call without a signature, or with a key that opentrail does not know, stays
    unverified: the upstream decides.
    """

    signature = Signature.UNVERIFIED
    #: The verified signer.
    caller: VerifiedCaller | None = None
    #: Whether nothing is left to verify.
    is_done = True

    def feed(self, piece: bytes) -> None:
        """Looks at a piece of the body.

        Raises:
            SignatureRefused: it is not the body that was signed.
        """

    def finish(self) -> None:
        """Looks at the body as a whole; may be called again.

        Raises:
            SignatureRefused: it is not the body that was signed.
        """


class Gate:
    """Verifies the callers of all calls.

    Args:
        find_secret: looks an access key up.
        now: returns the time.
        forwards_unknown_keys: whether calls of keys that are not known are left to the upstream.
    """

    def __init__(
        self, find_secret: FindSecret, now: Callable[[], datetime], forwards_unknown_keys: bool
    ) -> None:
        self._find_secret = find_secret
        self._now = now
        self._forwards_unknown_keys = forwards_unknown_keys
        self._failures = _Failures()

    def admit(self, claim: Claim) -> Admission:
        """Verifies the head of a request.

        Raises:
            SignatureRefused: the caller is not who the request claims.
        """
        wording = _wording_of(claim)
        if claim.own_services is None:
            claims = count_claims(claim.headers, claim.target)
            if claims > 1:
                raise wording.refusal(Problem.TWICE, given="Authorization")
            if not claims:
                return _SignerInBody(self, claim, wording)
            # What cannot be read is refused like a wrong signature: an upstream might read it.
            if claim.credential is not None and not self.is_to_verify(claim.credential, wording):
                return Admission()
        place = Place(wording, claim.own_services, is_own=claim.own_services is not None)
        return self._verified(claim, place)

    def _verified(self, claim: Claim, place: Place) -> Admission:
        service = claim.credential.service if claim.credential else None
        request = SignedRequest(claim.request.method, claim.target, claim.headers, None)
        if claim.credential is not None and needs_body(claim.headers, service):

            def verify_with(body_sha256: str) -> VerifiedCaller:
                whole = replace(request, body_sha256=body_sha256)
                return verify(whole, self._find_secret, self._now(), place)

            return _UnhashedBody(verify_with)
        return _StatedBody(verify(request, self._find_secret, self._now(), place), place.wording)

    def is_to_verify(self, credential: Credential, wording: Wording) -> bool:
        """Returns whether a call of this key is verified here; else the upstream decides.

        Raises:
            SignatureRefused: unknown keys are refused, or the key is known, but its signature is
                of a kind that is not verified.
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
        """Verifies an upload by a browser's form.

        Raises:
            SignatureRefused: its policy is not signed by the key that it names.
        """
        fields = form_fields(claim.request.headers, start)
        return verify_form(fields, self._find_secret, self._now(), wording)

    # Failures

    def is_closed_to(self, credential: Credential | None, address: str) -> bool:
        """Returns whether a key had too many refused signatures from an address."""
        return credential is not None and self._failures.are_too_many(
            self._counted(credential), address, self._now()
        )

    def count_failure(self, credential: Credential | None, address: str) -> None:
        """Counts a refused signature."""
        self._failures.add(self._counted(credential), address, self._now())

    def _counted(self, credential: Credential | None) -> str:
        """Returns the name that failures are counted under: all unknown keys have one."""
        key_id = credential.access_key_id if credential else ""
        return key_id if self._find_secret(key_id) is not None else ""


class _StatedBody(Admission):
    """A verified head that states the body's hash, signs its chunks, or leaves it unsigned."""

    def __init__(self, caller: VerifiedCaller, wording: Wording) -> None:
        self.caller = caller
        self.is_done = False
        self._wording = wording
        self._expected, self._chunks = caller.body_sha256, caller.chunks
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        if self._expected is not None:
            self._hash.update(piece)
        self._check(lambda chunks: chunks.feed(piece))

    def finish(self) -> None:
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
    """A head that can be verified only together with its body."""

    def __init__(self, verify_with: Callable[[str], VerifiedCaller]) -> None:
        self.is_done = False
        self._verify_with = verify_with
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        self._hash.update(piece)

    def finish(self) -> None:
        if not self.is_done:
            self.caller = self._verify_with(self._hash.hexdigest())
            self.signature = Signature.VERIFIED
            self.is_done = True


class _SignerInBody(Admission):
    """A head without a signature; the body may be a form that names its signer."""

    def __init__(self, gate: Gate, claim: Claim, wording: Wording) -> None:
        self._gate, self._claim, self._wording = gate, claim, wording
        self.is_done = False
        self._start = bytearray()

    def feed(self, piece: bytes) -> None:
        room = FIELDS_BYTES - len(self._start)
        if room > 0 and self._claim.request.method == "POST":
            self._start += piece[:room]

    def finish(self) -> None:
        if self.is_done:
            return
        start, seen = bytes(self._start), self._claim.request
        request = Request(seen.method, seen.path, seen.query, seen.headers, start, False)
        credential = read_credential(request)
        if credential is not None and self._gate.is_to_verify(credential, self._wording):
            self.caller = self._gate.verify_form(self._claim, start, self._wording)
            self.signature = Signature.VERIFIED
        self.is_done = True


class _Failures:
    """Times of refused signatures by key and address."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def are_too_many(self, key: str, address: str, now: datetime) -> bool:
        times = self._times.get((key, address))
        since = now.timestamp() - _FAILURE_SECONDS
        return times is not None and len(times) == MOST_FAILURES and times[0] > since

    def add(self, key: str, address: str, now: datetime) -> None:
        times = self._times.setdefault((key, address), deque(maxlen=MOST_FAILURES))
        times.append(now.timestamp())
        self._times.move_to_end((key, address))
        if len(self._times) > _MOST_COUNTED:
            self._times.popitem(last=False)


def _wording_of(claim: Claim) -> Wording:
    """Returns how refusals of a call are worded."""
    call, signed_as = claim.call, claim.credential.service if claim.credential else None
    if claim.own_services is not None:
        return WORDINGS.get(call.protocol or "", JSON_WORDING)
    if (call.service.name if call.service else signed_as) in S3_NAMES:
        return S3_WORDING
    is_form = "form-urlencoded" in claim.request.headers.get("content-type", "")
    return WORDINGS.get(call.protocol or likely_protocol(call, is_form), S3_WORDING)


def _of(credential: Credential, refused: SignatureRefused) -> SignatureRefused:
    refused.access_key_id = credential.access_key_id
    return refused
