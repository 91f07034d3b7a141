"""The claimed signer of a request (cloudtrail-format §10.1). Signatures are not verified.

A claim has exactly one reading, or opentrail refuses it: servers might read it differently. A
placeholder for a signature is not in doubt, so it passes; `verification` needs a whole signature.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qsl

from opentrail.core.event import is_region
from opentrail.core.text import cached_if_short
from opentrail.core.value_class import value_class
from opentrail.wire.form_fields import form_fields, last_value
from opentrail.wire.message import Request
from opentrail.wire.signature_errors import Problem

#: Services whose paths are signed unchanged, and whose uploads may leave bodies unsigned.
S3_NAMES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})
#: Parts of a query that sign it.
SIGNING_QUERY = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
        "x-amz-region-set",
    }
)
_SECRET_QUERY = frozenset({"x-amz-signature", "x-amz-security-token", "signature"})
_SIGNATURE = re.compile(r"Signature\s*=\s*([^,\s]+)|^AWS [^:\s]+:(\S+)", re.I)
#: The message for a malformed credential in the query.
MALFORMED_CREDENTIAL = (
    "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; "
    'expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
)
_DATE = re.compile("[0-9]{8}")
_SIGV4, _SIGV4A = "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"
_ALGORITHMS = (_SIGV4, _SIGV4A)
#: A signature of version 4. Verification requires this form; mere reading does not.
_DIGITS = re.compile("[0-9A-Fa-f]{64}")
#: A signature that is not verified, such as the `abc` of clients of emulators: one word, in which
#: no server finds another key.
_ANY_SIGNATURE = re.compile(r"[\w.~+-]+={0,2}", re.ASCII)
_SIGNATURE_PART = ", Signature="
_SEPARATOR = re.compile(r"[\s;]")
_SIGV2 = re.compile(r"AWS ([^:/,=\s]+):[A-Za-z0-9+/_-]+={0,2}")
#: Marks in another scheme's `Authorization` that let a server read it as AWS's.
_LIKE_AWS = re.compile(r"AWS\S{0,30}\s|AWS4-|Credential\s*=", re.I)
_PARTS = ("Credential", "Signature", "SignedHeaders")
_CLAIMING_QUERY = {
    name.lower(): name
    for name in (
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "AWSAccessKeyId",
    )
}


class ClaimRefused(ValueError):  # noqa: N818 - it is an answer as much as an error
    """A claim that can be read in two ways, or in none; `details` fill the text of the problem."""

    def __init__(self, problem: Problem, **details: str) -> None:
        super().__init__(problem.name)
        self.problem = problem
        self.details = details


@value_class(frozen=True, slots=True)
class SignedHeader:
    """The parts of an `Authorization` header of version 4."""

    algorithm: str
    credential: str
    signed_headers: str
    signature: str


@value_class(frozen=True, slots=True)
class Credential:
    """The claimed signer of a request."""

    access_key_id: str
    region: str | None
    service: str | None
    #: `SigV4`, `SigV4A` or `SigV2`.
    version: str
    #: CloudTrail's `AuthenticationMethod`: `AuthHeader`, `QueryString`, `HTMLForm`.
    method: str
    #: The flaw of the scope, in AWS's words; AWS would refuse the call.
    flaw: str | None = None


def read_credential(request: Request) -> Credential | None:
    """Returns the claimed signer; None for an unsigned request, or a claim that is refused."""
    try:
        credential = read_claim(request)
    except ClaimRefused:
        return None
    if credential is not None or request.headers.get("authorization"):
        return credential
    return read_signer_in_body(request)


def read_signer_in_body(request: Request) -> Credential | None:
    """Returns the signer that a form in the body names, or None."""
    if request.body and b"AWSAccessKeyId=" in request.body[:65536]:
        return _from_form(request)
    return _from_upload_form(request) if request.method == "POST" else None


def read_claim(request: Request) -> Credential | None:
    """Returns the signer that header or query of a request claim; None for neither.

    The body is not read.

    Raises:
        ClaimRefused: the request has two claims, or a claim that does not have AWS's form.
    """
    authorization = request.headers.get("authorization", "").strip()
    pairs = _claims_of_query(request.query) if request.query else None
    if pairs and authorization:
        raise ClaimRefused(Problem.TWICE, given="Authorization")
    if pairs:
        return _from_query(pairs)
    return _from_header(authorization, request) if authorization else None


def parse_authorization(text: str) -> SignedHeader:
    """Parses an `Authorization` header with a signature to verify.

    Raises:
        ClaimRefused: it has not exactly the algorithm and the three parts, each of its form.
    """
    algorithm, parts = _parts_of(text)
    reasons = [
        f"Authorization header requires '{name}' parameter."
        for name in _PARTS
        if not parts.get(name)
    ]
    if not reasons and algorithm == _SIGV4 and not _DIGITS.fullmatch(parts["Signature"]):
        reasons = ["Authorization header requires a 'Signature' of 64 hexadecimal digits."]
    if reasons:
        raise _incomplete(text, reasons)
    return SignedHeader(algorithm, parts["Credential"], parts["SignedHeaders"], parts["Signature"])


def _parts_of(text: str) -> tuple[str, dict[str, str]]:
    """Returns algorithm and parts of an `Authorization` header of version 4; some may be missing.

    Raises:
        ClaimRefused: servers could read it in different ways.
    """
    algorithm, _, rest = text.partition(" ")
    is_known = algorithm in _ALGORITHMS
    if not is_known and algorithm.startswith("AWS"):
        raise ClaimRefused(Problem.UNSUPPORTED, given=algorithm)
    parts: dict[str, str] = {}
    for part in (rest if is_known else text).split(","):
        name, equals, value = part.strip(" ").partition("=")
        if not equals:
            reason = (
                "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with "
                f"SHA-256 and encoded with Base64): '{_hashed(part)}'."
            )
            raise ClaimRefused(Problem.INCOMPLETE, reason=reason)
        if name in parts:
            raise ClaimRefused(Problem.TWICE, given=name)
        parts[name] = value
    if not parts.get("Credential"):
        raise _incomplete(text, ["Authorization header requires 'Credential' parameter."])
    if next(iter(parts)) != "Credential":
        # moto reads the scope from the first part, and S3 without one.
        raise _incomplete(text, ["Authorization header requires 'Credential' to be first."])
    if _SEPARATOR.search(parts["Credential"].rpartition("/")[2]):
        raise _incomplete(text, ["Authorization header requires commas between its parts."])
    if not is_known or not parts.keys() <= set(_PARTS):
        raise _incomplete(text, [f"Authorization header requires '{_SIGV4}' and no more."])
    if (signature := parts.get("Signature")) and not _ANY_SIGNATURE.fullmatch(signature):
        raise _incomplete(text, ["Authorization header requires a 'Signature' of one word."])
    return algorithm, parts


def _incomplete(text: str, reasons: list[str]) -> ClaimRefused:
    hashed = f"(Hashed with SHA-256 and encoded with Base64) Authorization={_hashed(text)}"
    return ClaimRefused(Problem.INCOMPLETE, reason=" ".join([*reasons, hashed]))


def _from_header(text: str, request: Request) -> Credential | None:
    if text.startswith("AWS "):
        match = _SIGV2.fullmatch(text)
        if match is None:
            reason = "Authorization header requires 'AWS', a key, a colon and a signature."
            raise ClaimRefused(Problem.INCOMPLETE, reason=reason)
        return Credential(match[1], None, "s3", "SigV2", "AuthHeader")
    if not text.startswith("AWS") and not _LIKE_AWS.search(text):
        return None
    regions = request.headers.get("x-amz-region-set")
    # A client's calls of a day mostly differ in the signature only.
    start, end, signature = text.rpartition(_SIGNATURE_PART)
    if end and regions is None and _ANY_SIGNATURE.fullmatch(signature):
        with suppress(ClaimRefused):
            return _claimed_before(start)
    algorithm, parts = _parts_of(text)
    return _scoped(parts["Credential"], algorithm, regions)


@cached_if_short(400, 1_024)
def _claimed_before(signature_start: str) -> Credential:
    """Returns the signer of a header from the part before its signature."""
    algorithm, parts = _parts_of(f"{signature_start}{_SIGNATURE_PART}0")
    return _scoped(parts["Credential"], algorithm, None)


def _claims_of_query(query: str) -> dict[str, str] | None:
    """Returns the query's parameters if one of them claims a signer."""
    pairs = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in pairs if name.lower() in _CLAIMING_QUERY]
    if not names:
        return None
    for name in names:
        if names.count(name) > 1:
            raise ClaimRefused(Problem.TWICE, given=name)
        if (expected := _CLAIMING_QUERY[name.lower()]) != name:
            reason = f"Query-string authentication requires '{expected}', not '{name}'."
            raise ClaimRefused(Problem.QUERY, reason=reason)
    return dict(pairs)


def _from_query(pairs: dict[str, str]) -> Credential | None:
    if "AWSAccessKeyId" in pairs:
        if "X-Amz-Credential" in pairs:
            raise ClaimRefused(Problem.TWICE, given="AWSAccessKeyId")
        service = None if "Action" in pairs else "s3"
        return Credential(pairs["AWSAccessKeyId"], None, service, "SigV2", "QueryString")
    algorithm = pairs.get("X-Amz-Algorithm", _SIGV4)
    if algorithm not in _ALGORITHMS:
        reason = f'X-Amz-Algorithm only supports "{_SIGV4}"'
        raise ClaimRefused(Problem.QUERY, reason=reason)
    credential = pairs.get("X-Amz-Credential", "")
    return _scoped(credential, algorithm, pairs.get("X-Amz-Region-Set"), "QueryString")


def _from_form(request: Request) -> Credential | None:
    """Reads signature version 2 of the query protocol."""
    key_id = last_value(request, "AWSAccessKeyId")
    if last_value(request, "SignatureVersion") != "2" or not key_id:
        return None
    return Credential(key_id, None, None, "SigV2", "QueryString")


def _from_upload_form(request: Request) -> Credential | None:
    """Reads the signer of an S3 upload by a browser's form."""
    fields = form_fields(request.headers, request.body)
    if "x-amz-credential" in fields:
        algorithm = fields.get("x-amz-algorithm", _SIGV4)
        try:
            return _scoped(fields["x-amz-credential"], algorithm, None, "HTMLForm")
        except ClaimRefused:
            return None
    if "awsaccesskeyid" in fields:
        return Credential(fields["awsaccesskeyid"], None, "s3", "SigV2", "HTMLForm")
    return None


def _scoped(
    text: str, algorithm: str, region_set: str | None, method: str = "AuthHeader"
) -> Credential:
    """Parses `KEY/date/region/service/aws4_request` from the right: keys may contain slashes."""
    has_region = algorithm != _SIGV4A
    parts = text.rsplit("/", 4 if has_region else 3)
    if len(parts) != (5 if has_region else 4) or not parts[0]:
        raise ClaimRefused(
            Problem.CREDENTIAL if method == "AuthHeader" else Problem.QUERY,
            given=text,
            reason=MALFORMED_CREDENTIAL,
        )
    if not has_region:
        first = (region_set or "").partition(",")[0].strip()
        region = None if first in ("", "*") else first
        flaw = _flaw(parts[1], region, parts[3])
        return Credential(parts[0], region, parts[2], "SigV4A", method, flaw)
    flaw = _flaw(parts[1], parts[2], parts[4])
    return Credential(parts[0], parts[2] or None, parts[3] or None, "SigV4", method, flaw)


def _flaw(date: str, region: str | None, terminator: str) -> str | None:
    """Returns the flaw of a scope, None if it has AWS's form."""
    if terminator != "aws4_request":
        return "Credential should be scoped with a valid terminator: 'aws4_request'."
    if not _DATE.fullmatch(date):
        return "Credential should be scoped with a date of the form YYYYMMDD."
    if region is not None and not is_region(region):
        return "Credential should be scoped to a valid region."
    return None


def signing_texts(request: Request) -> Iterator[str]:
    """Yields signature, session token and other secret credentials of a request."""
    yield request.headers.get("x-amz-security-token", "")
    yield request.headers.get("x-api-key", "")
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "basic"):
        yield credentials.strip()
    for match in _SIGNATURE.finditer(request.headers.get("authorization", "")):
        yield match[1] or match[2]
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name.lower() in _SECRET_QUERY:
            yield value


def _hashed(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode("utf-8", "replace")).digest()).decode()
