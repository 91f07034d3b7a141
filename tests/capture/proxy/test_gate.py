"""The gate: accepted and refused calls, and the moment to pass the last piece of a body."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.proxy.gate import MAX_FAILURES, Admission, Claim, Gate, wording_of
from opentrail.capture.proxy.refusals import NoAnswer
from opentrail.capture.record.exchange import Signature
from opentrail.wire.message import Request, fold_headers
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog
from opentrail.wire.signature_errors import Problem, SignatureRefused
from opentrail.wire.sigv4 import ClaimRefused, Credential, read_claim
from tests.wire.signed_requests import KEY, SECRETS, Made, at_random, changed, made, signed

ROUTER = Router(ServiceCatalog(), {"localhost"})
OWN = frozenset({"cloudtrail"})
S3_URL = "https://s3.eu-west-1.amazonaws.com/bucket/key"
DYNAMODB_URL = "https://dynamodb.eu-west-1.amazonaws.com/"


def now() -> datetime:
    return datetime.now(UTC)


def gate(forwards: bool = True, unsigned: str = "forward") -> Gate:
    unknown_keys = "forward" if forwards else "refuse"
    return Gate(SECRETS.get, now, unknown_keys, unsigned, ROUTER.identify)


def claim_of(request: Made, own: frozenset[str] | None = None) -> Claim:
    """Returns the claim of a request before its body.

    Raises:
        SignatureRefused: the signer is ambiguous.
    """
    path, _, query = request.request.target.decode("latin-1").partition("?")
    folded = fold_headers(request.request.headers)
    seen = Request(request.request.method, path, query, folded, b"", False)
    target, headers = request.request.target, request.request.headers
    try:
        credential = read_claim(seen)
    except ClaimRefused as refused:
        claim = Claim(seen, target, headers, None, ROUTER.identify(seen, None), own)
        raise wording_of(claim).refusal(refused.problem, **refused.details) from refused
    return Claim(seen, target, headers, credential, ROUTER.identify(seen, credential), own)


def admitted(
    request: Made,
    own: frozenset[str] | None = None,
    forwards: bool = True,
    unsigned: str = "forward",
) -> Admission:
    """Returns the admission of a request after its body.

    Raises:
        SignatureRefused: the request is refused.
    """
    admission = gate(forwards, unsigned).admit(claim_of(request, own))
    for start in range(0, len(request.body), 7):
        admission.feed(request.body[start : start + 7])
    admission.finish()
    assert admission.is_done
    return admission


def code(request: Made, own: frozenset[str] | None = None, forwards: bool = True) -> str:
    with pytest.raises(SignatureRefused) as refused:
        admitted(request, own, forwards)
    return refused.value.code


def header(request: Made, name: bytes, value: bytes) -> Made:
    others = [pair for pair in request.request.headers if pair[0].lower() != name.lower()]
    return request.with_headers([*others, (name, value)])


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_only_unchanged_signed_requests_are_verified(seed: int) -> None:
    choose = random.Random(seed)
    request = at_random(choose)
    assert admitted(request).signature is Signature.VERIFIED
    _, other = changed(request, choose)
    try:
        admission = admitted(other)
    except SignatureRefused:
        return
    # Another key's signature, or no signature at all.
    assert admission.signature is Signature.UNVERIFIED


def test_a_body_is_verified_at_its_end() -> None:
    request = signed(url=DYNAMODB_URL, service="dynamodb", body=b'{"TableName":"t"}')
    admission = gate().admit(claim_of(request))
    assert (admission.signature, admission.is_done) == (Signature.UNVERIFIED, False)
    admission.feed(request.body)
    admission.finish()
    assert admission.signature is Signature.VERIFIED


@pytest.mark.parametrize("service", ["s3", "dynamodb"])
def test_another_body_is_refused_at_its_end(service: str) -> None:
    url = S3_URL if service == "s3" else DYNAMODB_URL
    request = signed(method="PUT", url=url, service=service, body=b"the body")
    admission = gate().admit(claim_of(request))
    admission.feed(b"another")
    with pytest.raises(SignatureRefused):
        admission.finish()
    assert admission.signature is Signature.UNVERIFIED


def test_unknown_keys_are_forwarded_or_refused() -> None:
    request = signed(url=DYNAMODB_URL, service="dynamodb", X_Amz_Target="DynamoDB_20120810.Query")
    pairs = [(n, v.replace(KEY.encode(), b"AKIAUNKNOWN")) for n, v in request.request.headers]
    unknown = request.with_headers(pairs)
    assert admitted(unknown).signature is Signature.UNVERIFIED
    assert code(unknown, forwards=False) == "UnrecognizedClientException"


def test_unsigned_calls_are_left_to_the_upstream() -> None:
    plain = made("GET", b"/bucket/key", [(b"Host", b"localhost")], b"")
    assert admitted(plain).signature is Signature.UNVERIFIED
    assert admitted(plain, forwards=False).signature is Signature.UNVERIFIED
    target = (b"X-Amz-Target", b"com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.GetTrail")
    assert code(made("POST", b"/", [target], b"{}"), OWN) == "MissingAuthenticationTokenException"


PLAIN = [(b"Host", b"localhost")]
FORM = (b"Content-Type", b"application/x-www-form-urlencoded")
SIGN_IN = b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=" + b"t" * 200_000
#: Unsigned calls, and whether AWS's models declare their operations without a signature.
UNSIGNED = {
    "object": (made("GET", b"/bucket/key", PLAIN, b""), False),
    "upload": (made("PUT", b"/bucket/key", PLAIN, b"body"), False),
    "delete": (made("POST", b"/", [*PLAIN, FORM], b"Action=DeleteUser&Version=2010-05-08"), False),
    "role": (made("POST", b"/", [*PLAIN, FORM], SIGN_IN), True),
    "role as another service": (made("PUT", b"/bucket/key", [*PLAIN, FORM], SIGN_IN), False),
    "too large": (made("POST", b"/", [*PLAIN, FORM], SIGN_IN + b"t" * 400_000), False),
    "identity": (
        made("POST", b"/", [*PLAIN, (b"X-Amz-Target", b"AWSCognitoIdentityService.GetId")], b"{}"),
        True,
    ),
    "portal": (made("GET", b"/federation/credentials?role_name=a", PLAIN, b""), True),
    "form without a signer": (
        made(
            "POST",
            b"/bucket",
            [*PLAIN, (b"Content-Type", b"multipart/form-data; boundary=b")],
            b"--b--",
        ),
        False,
    ),
    "bearer": (
        made("GET", b"/bucket/key", [*PLAIN, (b"Authorization", b"Bearer abc")], b""),
        False,
    ),
}


@pytest.mark.parametrize("name", UNSIGNED)
def test_unsigned_call_is_refused_unless_settings_forward_it(name: str) -> None:
    request, signs_in = UNSIGNED[name]
    for unsigned, passes in (("forward", True), ("refuse", False), ("sign-in", signs_in)):
        if passes:
            assert admitted(request, unsigned=unsigned).signature is Signature.UNVERIFIED
            continue
        with pytest.raises(SignatureRefused) as refused:
            admitted(request, unsigned=unsigned)
        assert refused.value.problem is Problem.MISSING


def test_only_preflights_of_s3_pass_unsigned() -> None:
    asking = [*PLAIN, (b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"PUT")]
    admitted(made("OPTIONS", b"/bucket/key", asking, b""), unsigned="refuse")
    for other in (
        made("OPTIONS", b"/bucket/key", PLAIN, b""),
        made("OPTIONS", b"/?Action=DeleteUser&Version=2010-05-08", asking, b""),
        made("OPTIONS", b"/bucket/key", [*asking, (b"Content-Length", b"1")], b"x"),
        made("OPTIONS", b"/", [*asking, (b"X-Amz-Target", b"DynamoDB_20120810.DeleteTable")], b""),
        made("DELETE", b"/bucket/key", asking, b""),
    ):
        with pytest.raises(SignatureRefused):
            admitted(other, unsigned="refuse")


def test_any_two_signers_are_refused() -> None:
    request = signed(method="GET", url=S3_URL, service="s3", body=b"")
    scope = b"?X-Amz-Credential=AKIAOTHER/20260101/eu-west-1/s3/aws4_request"
    both = made("GET", request.request.target + scope, list(request.request.headers), b"")
    assert code(both) == "InvalidArgument"


@pytest.mark.parametrize(
    "authorization",
    [
        b"AWS4-HMAC-SHA256 Credential=" + KEY.encode() + b"/20260101/eu-west-1/s3",
        b"AWS4-HMAC-SHA256 Credential=" + KEY.encode(),
        b"AWS4-HMAC-SHA256 Credential=" + KEY.encode() + b"/x/20260101/eu-west-1/s3/aws4_request, "
        b"SignedHeaders=host, Signature=0",
        b"AWS4-HMAC-SHA512 Credential=" + KEY.encode() + b"/20260101/eu-west-1/s3/aws4_request",
        b"AWS " + KEY.encode() + b":c2lnbmF0dXJl",
        b"AWS4-ECDSA-P256-SHA256 Credential=" + KEY.encode() + b"/20260101/s3/aws4_request, "
        b"SignedHeaders=host, Signature=00",
        b"AWS5",
        b"aws4-hmac-sha256 Credential=" + KEY.encode() + b"/20260101/eu-west-1/s3/aws4_request, "
        b"SignedHeaders=host, Signature=00",
    ],
)
def test_unverifiable_calls_of_known_keys_are_refused(authorization: bytes) -> None:
    request = signed(method="GET", url=S3_URL, service="s3", body=b"")
    with pytest.raises(SignatureRefused):
        admitted(header(request, b"Authorization", authorization))


@pytest.mark.parametrize("query", [b"AWSAccessKeyId=" + KEY.encode() + b"&Signature=x&Expires=9"])
def test_version_2_queries_are_refused_for_known_keys(query: bytes) -> None:
    request = made("GET", b"/bucket/key?" + query, [(b"Host", b"localhost")], b"")
    assert code(request) == "InvalidRequest"


def test_version_2_forms_are_refused_for_known_keys() -> None:
    body = f"Action=ListUsers&AWSAccessKeyId={KEY}&SignatureVersion=2&Signature=x".encode()
    form = (b"Content-Type", b"application/x-www-form-urlencoded")
    request = made("POST", b"/", [(b"Host", b"localhost"), form], body)
    assert code(request) == "IncompleteSignature"


def test_a_signature_for_another_service_is_refused_here() -> None:
    request = signed(url=DYNAMODB_URL, service="dynamodb")
    assert code(request, OWN) == "InvalidSignatureException"
    assert admitted(signed(), OWN).signature is Signature.VERIFIED


UNKNOWN = "AWS4-HMAC-SHA256 Credential=test/20260101/{}/{}/aws4_request, SignedHeaders=host"
SIGNATURE = "0f" * 32
FIELDS = f"Action=GetUser&Version=2010-05-08&AWSAccessKeyId={KEY}".encode()
PARTS = (
    f'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{"x" * 70_000}\r\n'
    f'--XX\r\nContent-Disposition: form-data; name="AWSAccessKeyId"\r\n\r\n{KEY}\r\n--XX--\r\n'
).encode()
ODD_PARTS = [
    f"--XX\nContent-Disposition: form-data; {name}\n{more}\n{KEY}\n--XX--\n"
    for name, more in (
        ('name="AWSAccessKeyId"', "X-A: 1\n" * 6),
        ('name="AWSAccessKeyId"', f"X-A: {'a' * 300}\n"),
        ('name="AWSAccessKeyId"', f"X-A: {'a' * 5_000}\n"),
        ("name*=UTF-8''AWSAccess%4BeyId", ""),
        ('name*0="AWSAccess"; name*1="KeyId"', ""),
        ('name="AWSAccess\\KeyId"', ""),
    )
]
#: Valid gzip; a server that does not unpack it reads the fields in its comment.
COMMENTED = b"\x1f\x8b\x08\x10" + bytes(6) + b"&" + FIELDS + b"&\0" + gzip.compress(b"a")[10:]
ZEROS = gzip.compress(bytes(17 * 1024 * 1024) + b"&" + FIELDS)


@pytest.mark.parametrize(
    "authorization",
    [
        f"{UNKNOWN.format(KEY, 'iam')}, Signature={SIGNATURE}",
        f"{UNKNOWN.format('eu-west-1', KEY)}, Signature={SIGNATURE}",
        f"{UNKNOWN.format('eu-west-1', 'iam')};{KEY}, Signature={SIGNATURE}",
        f"{UNKNOWN.format('eu-west-1', 'x' + KEY)}, Signature={SIGNATURE}",
        f"{UNKNOWN.format('eu-west-1', 'iam')}, Credential={KEY}/20260101/r/iam/aws4_request"
        f", Signature={SIGNATURE}",
        f"AWS AKIAOTHER:{KEY}/",
        f"Bearer AWS.{KEY}/",
        f"x {KEY}",
    ],
)
def test_known_key_next_to_another_signer_is_refused(authorization: str) -> None:
    """An upstream that reads the last key in the header would act for its owner."""
    headers = [(b"Host", b"localhost"), (b"Authorization", authorization.encode())]
    code(made("GET", b"/", headers, b""))
    harmless = authorization.replace(KEY, "AKIAUNKNOWN")
    if "Credential=AKIA" not in harmless:
        headers[1] = (b"Authorization", harmless.encode())
        assert admitted(made("GET", b"/", headers, b"")).signature is Signature.UNVERIFIED


@pytest.mark.slow
@pytest.mark.parametrize("authorization", [None, UNKNOWN.format("eu-west-1", "iam")])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, FIELDS),
        ({"Content-Type": "application/x-www-form-urlencoded"}, FIELDS),
        ({"Content-Type": "text/plain"}, FIELDS.replace(b"AWSAccess", b"%41WSAccess")),
        ({"Content-Type": "text/plain"}, FIELDS.replace(b"AWSAccess", b"%61w%53aCCess")),
        ({"Content-Type": "application/json"}, b"{}&" + FIELDS + b"&"),
        ({}, b"a=" + bytes(100_000) + b"&" + FIELDS),
        ({}, f"X-Amz-Credential={KEY}%2F20260101%2Fr%2Fs%2Faws4_request".encode()),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"a=b&") + gzip.compress(FIELDS)),
        ({"Content-Encoding": "gzip"}, FIELDS),
        ({"Content-Encoding": "gzip"}, COMMENTED),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(256 * 1024 - 9) + b"&" + FIELDS)),
        ({"Content-Encoding": "gzip"}, ZEROS),
        ({"Content-Type": "multipart/form-data; boundary=XX"}, PARTS),
        ({"Content-Type": "text/plain; a=multipart/form-data"}, FIELDS),
        *(
            ({"Content-Type": "multipart/form-data; boundary=XX"}, head.replace("\n", end).encode())
            for end in ("\n", "\r\n", "\r")
            for head in ODD_PARTS
        ),
    ],
)
def test_a_known_key_in_the_body_is_refused(
    authorization: str | None, headers: dict[str, str], body: bytes
) -> None:
    pairs = [(b"Host", b"localhost"), *((n.encode(), v.encode()) for n, v in headers.items())]
    if authorization is not None:
        pairs.append((b"Authorization", f"{authorization}, Signature={SIGNATURE}".encode()))
    code(made("POST", b"/", pairs, body))
    if body is not ZEROS and "Content-Encoding" not in headers:
        harmless = made("POST", b"/", pairs, body.replace(KEY.encode(), b"AKIAUNKNOWN"))
        assert admitted(harmless).signature is Signature.UNVERIFIED


def test_a_verified_body_may_name_only_its_signer() -> None:
    url, other = "https://iam.amazonaws.com/", next(key for key in SECRETS if key != KEY)
    own = signed(url=url, service="iam", body=f"AWSAccessKeyId={KEY}".encode())
    assert admitted(own).signature is Signature.VERIFIED
    code(signed(url=url, service="iam", body=f"AWSAccessKeyId={other}".encode()))


def test_an_object_may_contain_a_form() -> None:
    request = signed(method="PUT", url=S3_URL, service="s3", body=b"a=b&" + FIELDS)
    assert admitted(request).signature is Signature.VERIFIED


def test_failures_are_counted_by_key_and_address() -> None:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    guarded = Gate(SECRETS.get, lambda: clock[0], "forward", "forward", ROUTER.identify)
    known = Credential(KEY, "eu-west-1", "s3", "SigV4", "AuthHeader")
    for _ in range(MAX_FAILURES):
        assert not guarded.is_closed_to(known, "192.0.2.1")
        guarded.count_failure(KEY, "192.0.2.1")
    assert guarded.is_closed_to(known, "192.0.2.1")
    assert not guarded.is_closed_to(known, "192.0.2.2")
    assert not guarded.is_closed_to(None, "192.0.2.1")
    clock[0] += timedelta(seconds=61)
    assert not guarded.is_closed_to(known, "192.0.2.1")


def test_unknown_keys_share_one_count() -> None:
    guarded = gate()
    for number in range(MAX_FAILURES):
        guarded.count_failure(f"AKIA{number}", "::1")
    other = Credential("AKIAOTHER", None, "s3", "SigV4", "AuthHeader")
    assert guarded.is_closed_to(other, "::1")
    assert not guarded.is_closed_to(None, "::1")
    assert not guarded.is_closed_to(Credential(KEY, None, "s3", "SigV4", "AuthHeader"), "::1")


def test_too_many_failures_lock_late_signers() -> None:
    parts = [
        _FORM % (b"x-amz-credential", f"{KEY}/20260101/eu-west-1/s3/aws4_request".encode()),
        _FORM % (b"x-amz-algorithm", b"AWS4-HMAC-SHA256"),
        _FORM % (b"x-amz-date", b"20260101T000000Z"),
        _FORM % (b"x-amz-signature", b"0" * 64),
    ]
    headers = [(b"Host", b"localhost"), (b"Content-Type", b"multipart/form-data; boundary=b")]
    request = made("POST", b"/bucket", headers, b"".join(parts) + b"--b--\r\n")
    guarded, claim = gate(), replace(claim_of(request), source_ip="192.0.2.1")

    def refused() -> SignatureRefused:
        admission = guarded.admit(claim)
        admission.feed(request.body)
        with pytest.raises(SignatureRefused) as error:
            admission.finish()
        return error.value

    for _ in range(MAX_FAILURES):
        error = refused()
        assert error.access_key_id == KEY
        guarded.count_failure(error.access_key_id, "192.0.2.1")
    with pytest.raises(NoAnswer) as closed:
        refused()
    assert closed.value.refusal.status == 429


_FORM = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["policy", "x-amz-date", "x-amz-credential", "x-amz-signature", "x-amz-algorithm"]
        ),
        st.sampled_from(
            [
                *("", "AWS4-HMAC-SHA256", "20260101T000000Z", "\u20ac", "\xff", "W10=", "e30="),
                f"{KEY}/20260101/eu-west-1/s3/aws4_request",
            ]
        )
        | st.text(max_size=20),
    )
)
def test_an_unsigned_form_is_never_verified(fields: dict[str, str]) -> None:
    parts = [_FORM % (name.encode(), value.encode()) for name, value in fields.items()]
    headers = [(b"Host", b"localhost"), (b"Content-Type", b"multipart/form-data; boundary=b")]
    request = made("POST", b"/bucket", headers, b"".join(parts) + b"--b--\r\n")
    try:
        admission = admitted(request)
    except SignatureRefused:
        return
    assert admission.signature is Signature.UNVERIFIED


def test_scope_of_six_parts_is_named() -> None:
    request = signed()
    given = f"{KEY}/x/20260101/eu-west-1/cloudtrail/aws4_request"
    value = f"AWS4-HMAC-SHA256 Credential={given}, SignedHeaders=host, Signature={'0' * 64}"
    with pytest.raises(SignatureRefused, match="exactly 5 slash-delimited elements") as refused:
        admitted(header(request, b"Authorization", value.encode()))
    assert given in str(refused.value)
