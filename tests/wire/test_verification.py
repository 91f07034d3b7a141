"""Signatures are verified strictly, and refused with AWS's messages."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.signature_errors import (
    EC2_WORDING,
    JSON_WORDING,
    QUERY_WORDING,
    REST_JSON_WORDING,
    S3_WORDING,
    SignatureRefused,
    Wording,
)
from opentrail.wire.verification import (
    Place,
    SignedRequest,
    SigningSecret,
    VerifiedCaller,
    needs_body,
    verify,
    verify_form,
)
from tests.wire.signed_requests import (
    KEY,
    SECRET,
    SECRETS,
    TEMPORARY,
    TEMPORARY_KEY,
    TOKEN,
    Made,
    changed,
    signed,
    two_thousand,
)
from tests.wire.sigv4_by_hand import signed as sign

ANY = Place(JSON_WORDING)
OWN = Place(JSON_WORDING, frozenset({"cloudtrail"}), "eu-west-1", is_own=True)
S3 = Place(S3_WORDING, frozenset({"s3"}), "eu-west-1")
S3_URL = "https://bucket.s3.eu-west-1.amazonaws.com/key"
EMPTY = hashlib.sha256(b"").hexdigest()


def time_of(made: Made) -> datetime:
    stamp = made.header("x-amz-date")
    if stamp is None:
        stamp = made.request.target.decode().partition("X-Amz-Date=")[2][:16]
    return datetime.fromisoformat(stamp)


def accepted(
    made: Made,
    place: Place = ANY,
    later: float = 0,
    secrets: Mapping[str, SigningSecret] = SECRETS,
) -> VerifiedCaller:
    now = time_of(made) + timedelta(seconds=later)
    return verify(made.request, secrets.get, now, place)


def refused(made: Made, place: Place = ANY, **how: Any) -> tuple[int, str, str]:
    with pytest.raises(SignatureRefused) as caught:
        accepted(made, place, **how)
    return caught.value.status, caught.value.code, str(caught.value)


def with_header(made: Made, name: str, value: str) -> Made:
    kept = [pair for pair in made.request.headers if pair[0].lower() != name.encode()]
    return made.with_headers([*kept, (name.encode(), value.encode())])


def with_target(made: Made, old: str, new: str) -> Made:
    target = made.request.target.decode()
    assert old in target
    request = replace(made.request, target=target.replace(old, new, 1).encode())
    return replace(made, request=request)


@pytest.mark.slow
def test_two_thousand_requests_of_botocore_are_accepted() -> None:
    services = set()
    for made in two_thousand():
        services.add(accepted(made).service)
    assert len(two_thousand()) == 2000
    assert len(services) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_random_changes_are_refused(seed: int) -> None:
    choose = random.Random(seed)
    changes = set()
    for made in two_thousand():
        name, after = changed(made, choose)
        changes.add(name)
        with pytest.raises(SignatureRefused):
            verify(after.request, SECRETS.get, time_of(made), ANY)
    assert len(changes) == 10


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=300, deadline=None)
@given(
    target=st.binary(max_size=40),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"Host", b"authorization", b"x-amz-date", b"Date", b"X-Amz-Acl"]),
            st.binary(max_size=60) | st.just(b"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, x"),
        ),
        max_size=6,
    ),
    query=st.sampled_from([b"", b"?X-Amz-Signature=", b"?X-Amz-Credential=%ff&x"]),
)
def test_any_request_is_refused_without_another_error(
    target: bytes, headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    request = SignedRequest("GET", b"/" + target + query, headers, EMPTY)
    with pytest.raises(SignatureRefused):
        verify(request, SECRETS.get, datetime.now(UTC), ANY)


def test_the_verified_caller_is_described() -> None:
    made = signed()
    caller = accepted(made, OWN)
    assert (caller.access_key_id, caller.region, caller.service) == (KEY, "eu-west-1", "cloudtrail")
    assert caller.method == "AuthHeader"
    assert caller.valid_until == time_of(made) + timedelta(minutes=5)
    assert (made.header("authorization") or "").endswith(caller.signature)
    presigned = accepted(signed("GET", S3_URL, "s3", b"", expires=60), S3)
    assert presigned.method == "QueryString"


# Time.


@pytest.mark.parametrize("later", [-300, 0, 300])
def test_a_request_may_be_five_minutes_off(later: int) -> None:
    accepted(signed(), later=later)


def test_an_older_or_earlier_request_is_refused() -> None:
    made = signed()
    now = time_of(made)

    def stamp(seconds: int) -> str:
        return (now + timedelta(seconds=seconds)).strftime("%Y%m%dT%H%M%SZ")

    assert refused(made, later=301) == (
        400,
        "InvalidSignatureException",
        f"Signature expired: {stamp(0)} is now earlier than {stamp(1)} ({stamp(301)} - 5 min.)",
    )
    text = f"Signature not yet current: {stamp(0)} is still later than {stamp(-1)} "
    assert refused(made, later=-301)[2] == text + f"({stamp(-301)} + 5 min.)"
    assert refused(made, Place(QUERY_WORDING), later=301)[:2] == (403, "SignatureDoesNotMatch")
    assert refused(made, Place(EC2_WORDING), later=301) == (
        400,
        "RequestExpired",
        "Request has expired.",
    )


def test_s3_allows_a_quarter_of_an_hour() -> None:
    made = signed("GET", S3_URL, "s3", b"")
    accepted(made, S3, later=900)
    accepted(made, S3, later=-900)
    for later in (901, -901):
        assert refused(made, S3, later=later) == (
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )


def test_a_presigned_request_expires_at_its_time() -> None:
    made = signed("GET", S3_URL, "s3", b"", expires=60)
    accepted(made, S3, later=60)
    assert refused(made, S3, later=61) == (403, "AccessDenied", "Request has expired")
    assert refused(made, S3, later=-901) == (403, "AccessDenied", "Request is not valid yet")
    of_sts = signed("GET", "https://sts.amazonaws.com/", "sts", b"", expires=60)
    assert "(1 min." not in refused(of_sts, later=61)[2]
    assert "- 1 min.)" in refused(of_sts, later=61)[2]


@pytest.mark.parametrize(
    ("expires", "message"),
    [
        ("604801", "X-Amz-Expires must be less than a week (in seconds); that is, the given "),
        ("99999999999999", "X-Amz-Expires must be less than a week"),
        (5_000 * "9", "X-Amz-Expires must be less than a week"),
        ("-1", "X-Amz-Expires must be non-negative"),
        ("soon", "X-Amz-Expires should be a number"),
        ("٣", "X-Amz-Expires should be a number"),
    ],
)
def test_a_presigned_request_lasts_a_week_at_most(expires: str, message: str) -> None:
    made = signed("GET", S3_URL, "s3", b"", expires=60)
    status, code, text = refused(with_target(made, "Expires=60", f"Expires={expires}"), S3)
    assert (status, code) == (400, "AuthorizationQueryParametersError")
    assert text.startswith(message)
    accepted(signed("GET", S3_URL, "s3", b"", expires=604_800), S3, later=604_800)


# Form.


@pytest.mark.parametrize(
    ("wording", "status", "code", "message"),
    [
        (JSON_WORDING, 400, "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (
            REST_JSON_WORDING,
            403,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ),
        (
            QUERY_WORDING,
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        ),
        (S3_WORDING, 403, "AccessDenied", "Access Denied"),
    ],
)
def test_an_unsigned_request_is_refused(
    wording: Wording, status: int, code: str, message: str
) -> None:
    made = signed()
    plain = made.with_headers([p for p in made.request.headers if p[0] != b"Authorization"])
    assert refused(plain, Place(wording)) == (status, code, message)


def authorization(made: Made) -> str:
    return made.header("authorization") or ""


@pytest.mark.parametrize("lacking", ["Credential", "Signature", "SignedHeaders"])
def test_the_header_must_have_exactly_three_parts(lacking: str) -> None:
    made = signed()
    scheme, _, rest = authorization(made).partition(" ")
    parts = rest.split(", ")
    fewer = [part for part in parts if not part.startswith(f"{lacking}=")]
    after = with_header(made, "authorization", f"{scheme} {', '.join(fewer)}")
    status, code, text = refused(after)
    assert (status, code) == (400, "IncompleteSignatureException")
    assert text.startswith(f"Authorization header requires '{lacking}' parameter. (Hashed with ")
    assert refused(after, S3)[:2] == (400, "AuthorizationHeaderMalformed")
    for more in (f"{lacking}=x", "Extra=1"):
        after = with_header(made, "authorization", f"{authorization(made)}, {more}")
        assert refused(after)[1] == "IncompleteSignatureException"


def test_part_without_equals_sign_is_hashed() -> None:
    made = with_header(signed(), "authorization", "Bearer very-secret")
    status, code, text = refused(made)
    assert (status, code) == (400, "IncompleteSignatureException")
    assert text.startswith(
        "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with "
        "SHA-256 and encoded with Base64): '"
    )
    assert "very-secret" not in text


@pytest.mark.parametrize("name", ["authorization", "x-amz-date", "host", "x-amz-security-token"])
def test_duplicate_caller_headers_are_refused(name: str) -> None:
    made = signed(credentials=TEMPORARY)
    again = (name.upper().encode(), (made.header(name) or "").encode())
    assert refused(made.with_headers([*made.request.headers, again]))[:2] == (
        400,
        "IncompleteSignatureException",
    )


def test_request_has_one_signature_in_header_or_query() -> None:
    by_query = signed("GET", S3_URL, "s3", b"", expires=60)
    by_header = signed("GET", S3_URL, "s3", b"")
    both = replace(by_header, request=replace(by_header.request, target=by_query.request.target))
    assert refused(both, S3)[:2] == (400, "InvalidArgument")
    for name in ("X-Amz-Signature", "x-amz-signature", "X-Amz-Expires", "X-AMZ-SECURITY-TOKEN"):
        twice = with_target(by_query, "?", f"?{name}=1&{name}=1&")
        assert refused(twice, S3)[:2] == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"]
)
def test_a_presigned_request_needs_all_parameters(name: str) -> None:
    made = signed("GET", S3_URL, "s3", b"", expires=60)
    lacking = with_target(made, f"X-Amz-{name}=", "other=")
    with pytest.raises(SignatureRefused, match=r"^Query-string authentication") as it:
        verify(lacking.request, SECRETS.get, datetime.now(UTC), S3)
    assert (it.value.status, it.value.code) == (400, "AuthorizationQueryParametersError")


@pytest.mark.parametrize("scheme", ["", "Bearer ", "Basic,", " ", "aws4-hmac-sha256 "])
def test_another_scheme_is_refused(scheme: str) -> None:
    made = signed()
    _, _, rest = authorization(made).partition(" ")
    assert refused(with_header(made, "authorization", scheme + rest))[:2] == (
        400,
        "IncompleteSignatureException",
    )


@pytest.mark.parametrize("algorithm", ["AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA1", "AWS"])
def test_other_algorithms_are_not_supported(algorithm: str) -> None:
    made = signed()
    text = authorization(made).replace("AWS4-HMAC-SHA256", algorithm)
    after = with_header(made, "authorization", text)
    assert refused(after)[1] == "IncompleteSignatureException"
    assert refused(after, S3)[:2] == (400, "InvalidRequest")


def test_the_scope_must_fit_the_endpoint() -> None:
    made = signed(region="eu-north-1")
    code = "InvalidSignatureException"
    text = "Credential should be scoped to a valid region, not 'eu-north-1'. "
    assert refused(made, OWN) == (400, code, text)
    made = signed(service="kms")
    text = "Credential should be scoped to correct service: 'cloudtrail'. "
    assert refused(made, OWN) == (400, code, text)
    made = signed()
    changed = authorization(made).replace("aws4_request", "aws5_request")
    text = "Credential should be scoped with a valid terminator: 'aws4_request', not "
    text += "'aws5_request'. "
    assert refused(with_header(made, "authorization", changed), OWN) == (400, code, text)
    day = time_of(made).strftime("%Y%m%d")
    changed = authorization(made).replace(f"/{day}/", "/20200101/")
    assert refused(with_header(made, "authorization", changed), OWN)[2] == (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
        f"HTTP: '20200101' != '{day}', from '{made.header('x-amz-date')}'."
    )
    changed = authorization(made).replace("/aws4_request", "")
    assert refused(with_header(made, "authorization", changed), OWN)[1:] == (
        "IncompleteSignatureException",
        "Credential must have exactly 5 slash-delimited elements, e.g. "
        f"keyid/date/region/service/term, got '{KEY}/{day}/eu-west-1/cloudtrail'",
    )
    made = signed("GET", S3_URL, "s3", b"", region="us-east-1")
    assert refused(made, S3) == (
        400,
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting "
        "'eu-west-1'",
    )


def test_every_header_with_x_amz_must_be_signed() -> None:
    made = with_header(signed(), "x-amz-target", "CloudTrail_20131101.DeleteTrail")
    text = "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."
    assert refused(made, OWN) == (400, "InvalidSignatureException", text)
    made = with_header(signed("PUT", S3_URL, "s3", b"", expires=60), "x-amz-acl", "public-read")
    text = "There were headers present in the request which were not signed"
    assert refused(made, S3) == (403, "AccessDenied", text)


def test_the_host_must_be_signed() -> None:
    made = signed()
    text = authorization(made).replace("SignedHeaders=host;", "SignedHeaders=")
    assert refused(with_header(made, "authorization", text))[2] == (
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
    )


@pytest.mark.parametrize("names", ["x-amz-date;host", "host;host;x-amz-date", "Host;x-amz-date"])
def test_signed_headers_are_sorted_unique_and_lower_case(names: str) -> None:
    made = signed(body=b"")
    text = authorization(made).replace("host;x-amz-date", names)
    assert text != authorization(made)
    assert refused(with_header(made, "authorization", text))[0] == 400


@pytest.mark.parametrize("names", ["host;date", "date;date;host", "date;host;host"])
def test_names_out_of_order_or_doubled_are_refused(names: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    made = by_hand(now, f"{now:%Y%m%dT%H%M%SZ}", names)
    with pytest.raises(SignatureRefused, match="does not match the signature you provided"):
        verify(made, SECRETS.get, now, ANY)


def test_a_signed_date_header_may_date_a_request() -> None:
    made = signed()
    without = made.with_headers([p for p in made.request.headers if p[0] != b"X-Amz-Date"])
    with pytest.raises(SignatureRefused, match="existence of either a 'X-Amz-Date' or a 'Date'"):
        verify(without.request, SECRETS.get, datetime.now(UTC), ANY)
    now = datetime.now(UTC).replace(microsecond=0)
    for date in (f"{now:%a, %d %b %Y %H:%M:%S GMT}", f"{now:%Y%m%dT%H%M%SZ}"):
        accepted_now = by_hand(now, date, "date;host")
        assert verify(accepted_now, SECRETS.get, now, ANY).access_key_id == KEY
        with pytest.raises(SignatureRefused, match="'date' must be a 'SignedHeader'"):
            verify(by_hand(now, date, "host"), SECRETS.get, now, ANY)
    with pytest.raises(SignatureRefused, match="existence of either"):
        verify(by_hand(now, "yesterday", "date;host"), SECRETS.get, now, ANY)


def by_hand(now: datetime, date: str, names: str) -> SignedRequest:
    """Returns a request with a `Date` header, which botocore never signs alone."""
    headers = {"date": date, "host": "localhost"}
    lines = [f"{name}:{headers[name]}" for name in names.split(";")]
    canonical = "\n".join(("GET", "/", "", *lines, "", names, EMPTY))
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{stamp[:8]}/eu-west-1/iam/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = sign(SECRET, scope, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}")
    text = f"Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"Authorization", f"AWS4-HMAC-SHA256 {text}".encode()))
    return SignedRequest("GET", b"/", pairs, EMPTY)


@pytest.mark.parametrize("target", [b"", b"*", b"http://host/", b"/a%zz?x=1", b"/?a=%", b"/?%4"])
def test_an_invalid_target_is_refused(target: bytes) -> None:
    made = signed()
    bad = replace(made, request=replace(made.request, target=target))
    assert refused(bad)[1] == "InvalidSignatureException"


# Keys and tokens.


def test_unknown_key_is_refused_in_the_services_words() -> None:
    made = signed()
    text = "The security token included in the request is invalid."
    answers: dict[Wording, tuple[int, str, str]] = {
        JSON_WORDING: (400, "UnrecognizedClientException", text),
        REST_JSON_WORDING: (403, "UnrecognizedClientException", text),
        QUERY_WORDING: (403, "InvalidClientTokenId", text),
        EC2_WORDING: (
            401,
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
        ),
        S3_WORDING: (
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
    }
    for wording, answer in answers.items():
        assert refused(made, Place(wording), secrets={}) == answer
        disabled = {KEY: SigningSecret(SECRET, is_active=False)}
        assert refused(made, Place(wording), secrets=disabled) == answer


def test_wrong_secret_is_refused_in_the_services_words() -> None:
    wrong = {KEY: SigningSecret("another")}
    assert refused(signed(), secrets=wrong) == (
        400,
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method. Consult the service documentation for "
        "details.",
    )
    assert refused(signed(), Place(QUERY_WORDING), secrets=wrong)[:2] == (
        403,
        "SignatureDoesNotMatch",
    )
    assert refused(signed("GET", S3_URL, "s3", b""), S3, secrets=wrong) == (
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    )


def test_the_refusal_names_the_claimed_key() -> None:
    with pytest.raises(SignatureRefused) as caught:
        accepted(signed(), secrets={})
    assert caught.value.access_key_id == KEY


def test_an_unknown_key_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = signed(credentials=TEMPORARY), [0]
    plain = hmac.digest

    def counted(*args: Any) -> bytes:
        calls[0] += 1
        return plain(*args)

    monkeypatch.setattr("hmac.digest", counted)
    accepted(made)
    known, calls[0] = calls[0], 0
    refused(made, secrets={})
    assert known == calls[0] == 5


def test_holder_of_a_secret_does_not_print_it() -> None:
    assert SECRET not in repr(SECRETS[KEY])


def test_a_session_token_belongs_to_its_key() -> None:
    made = signed(credentials=TEMPORARY)
    accepted(made)
    another = SigningSecret(SECRET, hashlib.sha256(b"another").digest())
    text = "The security token included in the request is invalid."
    invalid = (400, "UnrecognizedClientException", text)
    assert refused(made, secrets={TEMPORARY_KEY: another}) == invalid
    assert refused(made, secrets={TEMPORARY_KEY: SigningSecret(SECRET)}) == invalid
    assert refused(signed(), secrets={KEY: another}) == invalid
    made = signed("GET", S3_URL, "s3", b"", TEMPORARY, expires=60)
    accepted(made, S3)
    assert refused(made, S3, secrets={TEMPORARY_KEY: another})[:2] == (400, "InvalidToken")


def test_a_session_token_expires() -> None:
    made = signed(credentials=TEMPORARY)
    digest = hashlib.sha256(TOKEN.encode()).digest()
    over = {TEMPORARY_KEY: SigningSecret(SECRET, digest, expires=time_of(made))}
    text = "The security token included in the request is expired"
    assert refused(made, secrets=over) == (400, "ExpiredTokenException", text)
    assert refused(made, Place(S3_WORDING), secrets=over) == (
        400,
        "ExpiredToken",
        "The provided token has expired.",
    )
    forged = {TEMPORARY_KEY: SigningSecret("another", digest, expires=time_of(made))}
    assert refused(made, secrets=forged)[1] == "InvalidSignatureException"


# Bodies.


def test_our_api_needs_a_signed_body() -> None:
    url = "https://cloudtrail.eu-west-1.amazonaws.com/"
    made = signed("GET", url, "cloudtrail", b"", expires=60)
    assert refused(made, OWN)[1] == "MissingAuthenticationTokenException"
    for marker in (
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        EMPTY.upper(),
        "",
    ):
        made = signed(x_amz_content_sha256=marker)
        assert refused(made, OWN)[1] == "InvalidSignatureException"


def test_a_stated_hash_must_fit_the_body() -> None:
    made = signed(x_amz_content_sha256=hashlib.sha256(b"{}").hexdigest())
    accepted(made, OWN)
    assert refused(made.with_body(b"[]"), OWN)[1] == "InvalidSignatureException"
    made = signed("PUT", S3_URL, "s3", b"content")
    accepted(made, S3)
    assert refused(made.with_body(b"Content"), S3) == (
        400,
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )


def test_later_body_is_compared_with_the_signed_hash() -> None:
    made = signed("PUT", S3_URL, "s3", b"content")
    unread = replace(made, request=replace(made.request, body_sha256=None))
    assert accepted(unread, S3).body_sha256 == hashlib.sha256(b"content").hexdigest()
    assert accepted(made, S3).body_sha256 is None
    assert not needs_body(made.request.headers, "s3")
    made = signed()
    unread = replace(made, request=replace(made.request, body_sha256=None))
    assert needs_body(made.request.headers, "cloudtrail")
    with pytest.raises(ValueError, match="hash of the body is needed"):
        accepted(unread)


def test_forwarded_uploads_may_leave_their_body_unsigned() -> None:
    made = signed("PUT", S3_URL, "s3", b"content", x_amz_content_sha256="UNSIGNED-PAYLOAD")
    assert accepted(made.with_body(b"anything"), S3).body_sha256 is None
    url = "https://lex.eu-west-1.amazonaws.com/bot"
    accepted(signed("POST", url, "lex", x_amz_content_sha256="UNSIGNED-PAYLOAD"))
    made = signed(service="dynamodb", x_amz_content_sha256="UNSIGNED-PAYLOAD")
    assert refused(made)[1] == "InvalidSignatureException"
    made = signed("PUT", S3_URL, "s3", x_amz_content_sha256="UNSIGNED")
    assert refused(made, S3)[:2] == (400, "InvalidArgument")


def test_s3_requires_the_stated_hash() -> None:
    made = signed("PUT", S3_URL, "s3")
    kept = [p for p in made.request.headers if p[0] != b"X-Amz-Content-SHA256"]
    text = authorization(made).replace("x-amz-content-sha256;", "")
    assert refused(with_header(made.with_headers(kept), "authorization", text), S3) == (
        400,
        "InvalidRequest",
        "Missing required header for this request: x-amz-content-sha256",
    )


@pytest.mark.parametrize(("stated", "code"), [(b"content", None), (b"other", "SignatureDoes")])
def test_a_presigned_upload_may_state_its_bodys_hash(stated: bytes, code: str | None) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    request = presigned(now, stated=hashlib.sha256(stated).hexdigest(), signed_as=b"content")
    if code is None:
        assert verify(request, SECRETS.get, now, S3).access_key_id == KEY
        with pytest.raises(SignatureRefused, match="x-amz-content-sha256"):
            verify(replace(request, body_sha256=EMPTY), SECRETS.get, now, S3)
        return
    with pytest.raises(SignatureRefused) as caught:
        verify(request, SECRETS.get, now, S3)
    assert caught.value.code.startswith(code)


def presigned(now: datetime, stated: str, signed_as: bytes) -> SignedRequest:
    """Returns an upload of `content` that states a hash, and is signed with another one.

    botocore's signer of URLs for S3 leaves the body unsigned.
    """
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{stamp[:8]}/eu-west-1/s3/aws4_request"
    query = "&".join(
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            f"X-Amz-Content-Sha256={stated}",
            f"X-Amz-Credential={KEY}%2F{scope.replace('/', '%2F')}",
            f"X-Amz-Date={stamp}",
            "X-Amz-Expires=60",
            "X-Amz-SignedHeaders=host",
        )
    )
    last = hashlib.sha256(signed_as).hexdigest()
    canonical = "\n".join(("PUT", "/key", query, "host:bucket", "", "host", last))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = sign(SECRET, scope, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}")
    target = f"/key?{query}&X-Amz-Signature={signature}".encode()
    content = hashlib.sha256(b"content").hexdigest()
    return SignedRequest("PUT", target, [(b"Host", b"bucket")], content)


# Forms of browsers.


def form(policy: dict[str, Any], now: datetime) -> dict[str, str]:
    """Returns the fields of a form for an upload, with a signed policy."""
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{stamp[:8]}/eu-west-1/s3/aws4_request"
    encoded = b64encode(json.dumps(policy).encode()).decode()
    return {
        "key": "evidence/a.csv",
        "policy": encoded,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{KEY}/{scope}",
        "x-amz-date": stamp,
        "x-amz-signature": sign(SECRET, scope, encoded),
    }


def refused_form(fields: dict[str, str], now: datetime) -> tuple[int, str, str]:
    with pytest.raises(SignatureRefused) as caught:
        verify_form(fields, SECRETS.get, now, S3_WORDING)
    return caught.value.status, caught.value.code, caught.value.message


def test_the_signer_of_a_form_is_described() -> None:
    now = datetime(2026, 11, 25, 8, tzinfo=UTC)
    fields = form({"expiration": "2026-11-25T09:00:00.000Z", "conditions": []}, now)
    caller = verify_form(fields, SECRETS.get, now, S3_WORDING)
    assert (caller.access_key_id, caller.region, caller.service) == (KEY, "eu-west-1", "s3")
    assert (caller.method, caller.signature) == ("HTMLForm", fields["x-amz-signature"])
    assert caller.valid_until == datetime(2026, 11, 25, 9, tzinfo=UTC)
    with pytest.raises(SignatureRefused, match="does not match the signature") as caught:
        verify_form(fields | {"policy": fields["policy"][:-4]}, SECRETS.get, now, S3_WORDING)
    assert caught.value.access_key_id == KEY


@pytest.mark.parametrize(
    "policy",
    [
        {"expiration": "2026-11-25T08:00:00Z"},
        {"expiration": "2026-11-25T09:00:00"},
        {"expiration": "tomorrow"},
        {"expiration": 1795600000},
        {},
    ],
)
def test_a_form_policy_needs_a_future_end(policy: dict[str, Any]) -> None:
    now = datetime(2026, 11, 25, 8, tzinfo=UTC)
    with pytest.raises(SignatureRefused, match="Request has expired"):
        verify_form(form(policy, now), SECRETS.get, now, S3_WORDING)


@pytest.mark.parametrize("stamp", [None, "", "2026-11-25T08:00:00Z", "20261135T080000Z"])
def test_a_form_without_a_date_is_refused(stamp: str | None) -> None:
    now = datetime(2026, 11, 25, 8, tzinfo=UTC)
    fields = form({"expiration": "2026-11-25T09:00:00Z"}, now)
    del fields["x-amz-date"]
    given = fields if stamp is None else fields | {"x-amz-date": stamp}
    status, code, _ = refused_form(given, now)
    assert (status, code) == (403, "AccessDenied")


@pytest.mark.parametrize("scope", ["20261124/eu-west-1/s3/aws4_request", "20261125/eu-west-1/s3/x"])
def test_a_form_signed_for_another_scope_is_refused(scope: str) -> None:
    now = datetime(2026, 11, 25, 8, tzinfo=UTC)
    fields = form({"expiration": "2026-11-25T09:00:00Z"}, now)
    fields["x-amz-credential"] = f"{KEY}/{scope}"
    fields["x-amz-signature"] = sign(SECRET, scope, fields["policy"])
    status, code, _ = refused_form(fields, now)
    assert (status, code) == (400, "AuthorizationHeaderMalformed")
