"""The claimed signer of a request (cloudtrail-format §10.1). Signatures are not verified."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from opentrail.core.event import is_region
from opentrail.core.values import value_class
from opentrail.wire.message import Request
from opentrail.wire.multipart import form_fields

#: Services whose paths are signed as they are, and whose uploads may leave bodies unsigned.
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
_HEADER = re.compile(r"Credential\s*=\s*([^,\s]+)", re.I)
_DATE = re.compile("[0-9]{8}")
_SIGV2 = re.compile(r"^AWS ([^:\s]+):")


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
    #: What is wrong with the scope, in AWS's words; AWS would refuse the call.
    flaw: str | None = None


def read_credential(request: Request) -> Credential | None:
    """Returns the claimed signer, or None for an unsigned request."""
    authorization = request.headers.get("authorization", "")
    if authorization:
        return _from_header(authorization, request)
    if "Credential=" in request.query or "AWSAccessKeyId=" in request.query:
        return _from_query(request)
    if request.body and b"AWSAccessKeyId=" in request.body[:65536]:
        return _from_form(request)
    return _from_upload_form(request) if request.method == "POST" else None


def _from_header(authorization: str, request: Request) -> Credential | None:
    scheme = authorization.partition(" ")[0].upper()
    if scheme.startswith("AWS4-"):
        match = _HEADER.search(authorization)
        return _scoped(match.group(1), scheme, request, "AuthHeader") if match else None
    match = _SIGV2.match(authorization)
    return Credential(match.group(1), None, "s3", "SigV2", "AuthHeader") if match else None


def _from_query(request: Request) -> Credential | None:
    pairs = dict(parse_qsl(request.query, keep_blank_values=True))
    if "X-Amz-Credential" in pairs:
        scheme = pairs.get("X-Amz-Algorithm", "AWS4-HMAC-SHA256").upper()
        region_set = pairs.get("X-Amz-Region-Set")
        return _scoped(pairs["X-Amz-Credential"], scheme, request, "QueryString", region_set)
    if "AWSAccessKeyId" in pairs and "Signature" in pairs:
        service = None if "Action" in pairs else "s3"
        return Credential(pairs["AWSAccessKeyId"], None, service, "SigV2", "QueryString")
    return None


def _from_form(request: Request) -> Credential | None:
    """Reads signature version 2 of the query protocol."""
    if "form-urlencoded" not in request.headers.get("content-type", ""):
        return None
    pairs = dict(parse_qsl(request.body.decode("latin-1"), keep_blank_values=True))
    if pairs.get("SignatureVersion") != "2":
        return None
    return Credential(pairs["AWSAccessKeyId"], None, None, "SigV2", "QueryString")


def _from_upload_form(request: Request) -> Credential | None:
    """Reads the signer of an S3 upload by a browser's form."""
    fields = form_fields(request.headers, request.body)
    if "x-amz-credential" in fields:
        scheme = fields.get("x-amz-algorithm", "AWS4-HMAC-SHA256").upper()
        return _scoped(fields["x-amz-credential"], scheme, request, "HTMLForm")
    if "awsaccesskeyid" in fields:
        return Credential(fields["awsaccesskeyid"], None, "s3", "SigV2", "HTMLForm")
    return None


def _scoped(
    text: str, scheme: str, request: Request, method: str, region_set: str | None = None
) -> Credential | None:
    """Parses `KEY/date/region/service/aws4_request` from the right: keys may contain slashes."""
    if "ECDSA" in scheme:
        parts = text.rsplit("/", 3)
        if len(parts) != 4:
            return None
        regions = region_set or request.headers.get("x-amz-region-set", "")
        first = regions.partition(",")[0].strip()
        region = None if first in ("", "*") else first
        flaw = _flaw(parts[1], region, parts[3])
        return Credential(parts[0], region, parts[2], "SigV4A", method, flaw)
    parts = text.rsplit("/", 4)
    if len(parts) != 5:
        return None
    flaw = _flaw(parts[1], parts[2], parts[4])
    return Credential(parts[0], parts[2] or None, parts[3] or None, "SigV4", method, flaw)


def _flaw(date: str, region: str | None, terminator: str) -> str | None:
    """Returns what is wrong with a scope, None if it has AWS's form."""
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
    for found in _SIGNATURE.finditer(request.headers.get("authorization", "")):
        yield found[1] or found[2]
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name.lower() in _SECRET_QUERY:
            yield value
