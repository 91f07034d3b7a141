"""Re-signed calls: an upstream that knows only our key accepts them under its own name."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.wire.message import Request, fold_headers
from opentrail.wire.resign import (
    CannotResign,
    Original,
    UpstreamCredentials,
    needs_body,
    resign,
    with_host,
)
from opentrail.wire.sigv4 import read_credential
from tests.wire.sigv4_by_hand import verify

OURS = UpstreamCredentials("AKIAOURS", "our-secret")
THEIRS = Credentials("AKIATHEIRS", "their-secret", "their-token")
HOST = "store.example.com"
EMPTY = hashlib.sha256(b"").hexdigest()
NOW = datetime.now(UTC)


def original(
    method: str = "GET",
    url: str = "http://127.0.0.1:4747/",
    service: str = "s3",
    body: bytes = b"",
    presigned: bool = False,
    bucket: str | None = None,
    **headers: str,
) -> Original:
    """Returns a call signed by botocore for the endpoint."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, url, headers=named, data=body)
    if presigned:
        S3SigV4QueryAuth(THEIRS, service, "eu-west-1", expires=60).add_auth(request)
    elif service == "s3":
        S3SigV4Auth(THEIRS, service, "eu-west-1").add_auth(request)
    else:
        SigV4Auth(THEIRS, service, "eu-west-1").add_auth(request)
    path, _, query = request.url.partition("/")[2].partition("/")[2].partition("?")
    path = "/" + path.partition("/")[2]
    sent = [(b"Host", b"127.0.0.1:4747")]
    sent += [(name.encode(), str(value).encode()) for name, value in request.headers.items()]
    folded = fold_headers(sent)
    credential = read_credential(Request(method, path, query, folded))
    return Original(method, path, query, sent, folded, credential, HOST, bucket)


def names(headers: list[tuple[bytes, bytes]]) -> list[str]:
    return [name.decode().lower() for name, _ in headers]


@pytest.mark.parametrize(
    "path",
    [
        "/bucket/plain",
        "/bucket/a%20b/%C3%BC+%2F",
        "/bucket//x/../y",
        "/bucket/k?acl",
        "/b?a=1&b=%2F&prefix=a+b",
    ],
)
def test_s3_call_is_signed_for_the_stores_name(path: str) -> None:
    given_ = original("PUT", f"http://127.0.0.1:4747{path}", body=b"hello", x_amz_acl="private")
    assert not needs_body(given_)
    done = resign(given_, OURS, None, NOW)
    assert done.target.decode() == path, "the target is forwarded unchanged"
    digest = hashlib.sha256(b"hello").hexdigest()
    assert (
        verify(
            "PUT",
            path.replace("+", "%20") if "?" in path else path,
            done.headers,
            digest,
            "our-secret",
        )
        == "AKIAOURS"
    )
    assert names(done.headers).count("host") == 1
    assert dict(done.headers)[b"Host"] == HOST.encode()
    assert "x-amz-security-token" not in names(done.headers), "their session is not ours"
    assert "their" not in str(done.headers).lower()


def test_other_services_calls_are_signed_over_the_body() -> None:
    body = b"Action=ListUsers&Version=2010-05-08"
    form = "application/x-www-form-urlencoded"
    given_ = original("POST", service="iam", body=body, content_type=form)
    assert needs_body(given_)
    key = replace(OURS, region="eu-north-1", session_token="our-token")
    done = resign(given_, key, body, NOW)
    digest = hashlib.sha256(body).hexdigest()
    assert verify("POST", "/", done.headers, digest, "our-secret") == "AKIAOURS"
    shown = {name.decode().lower(): value.decode() for name, value in done.headers}
    assert "/eu-north-1/iam/aws4_request" in shown["authorization"]
    assert shown["x-amz-security-token"] == "our-token"
    assert shown["content-type"] == form


def test_without_a_region_the_callers_is_signed_for() -> None:
    done = resign(original(), OURS, None, NOW)
    assert b"/eu-west-1/s3/aws4_request" in dict(done.headers)[b"Authorization"]


def test_a_presigned_call_gets_a_header_signature() -> None:
    given_ = original(url="http://127.0.0.1:4747/bucket/k?versionId=3", presigned=True)
    assert "X-Amz-Signature" in given_.query
    done = resign(given_, OURS, None, NOW)
    assert done.target == b"/bucket/k?versionId=3"
    assert verify("GET", "/bucket/k?versionId=3", done.headers, "UNSIGNED-PAYLOAD", "our-secret")


def test_a_presigned_call_does_not_outlive_its_expiry() -> None:
    given_, now = original(presigned=True), datetime.now(UTC)
    resign(given_, OURS, None, now + timedelta(seconds=50))
    with pytest.raises(CannotResign, match="expired") as caught:
        resign(given_, OURS, None, now + timedelta(seconds=70))
    assert (caught.value.status, caught.value.code) == (403, "AccessDenied")
    old = "AWSAccessKeyId=AKIA&Signature=x&Expires="
    for when, fits in ((now + timedelta(hours=1), True), (now - timedelta(hours=1), False)):
        query = f"{old}{int(when.timestamp())}"
        credential = read_credential(Request("GET", "/b/k", query, {}))
        given_ = Original("GET", "/b/k", query, [], {}, credential, HOST)
        if fits:
            assert resign(given_, OURS, None, now).target == b"/b/k"
        else:
            with pytest.raises(CannotResign, match="expired"):
                resign(given_, OURS, None, now)


PRESIGNED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20200101/us-east-1/s3/aws4_request"
    f"&X-Amz-Date=20200101T000000Z&X-Amz-Signature={'0' * 64}"
)


@pytest.mark.parametrize(
    "query",
    [
        "AWSAccessKeyId=A&Signature=x&Expires=99999999999999999",
        PRESIGNED,
        f"{PRESIGNED}&X-Amz-Expires=",
        f"{PRESIGNED}&X-Amz-Expires=60s",
    ],
)
def test_a_missing_or_impossible_expiry_is_refused(query: str) -> None:
    credential = read_credential(Request("GET", "/b/k", query, {}))
    given_ = Original("GET", "/b/k", query, [], {}, credential, HOST)
    with pytest.raises(CannotResign, match="no valid date"):
        resign(given_, OURS, None, NOW)


def test_an_odd_bucket_in_the_host_is_quoted() -> None:
    assert with_host(original(bucket="\u2603")).target == b"/%E2%98%83/"


@pytest.mark.parametrize("expiry", ["X-Amz-Expires=soon", "X-Amz-Expires=99999999999999999"])
def test_an_invalid_expiry_is_refused(expiry: str) -> None:
    given_ = original(presigned=True)
    given_ = replace(given_, query=given_.query.replace("X-Amz-Expires=60", expiry))
    with pytest.raises(CannotResign, match="no valid date") as caught:
        resign(given_, OURS, None, NOW)
    assert caught.value.status == 400


def test_bucket_in_the_host_moves_to_the_path() -> None:
    given_ = original("GET", "http://127.0.0.1:4747/k%20k?acl", bucket="logs")
    done = resign(given_, OURS, None, NOW)
    assert done.target == b"/logs/k%20k?acl"
    assert verify("GET", "/logs/k%20k?acl", done.headers, EMPTY, "our-secret")
    plain = with_host(given_)
    assert plain.target == b"/logs/k%20k?acl"
    assert names(plain.headers).count("host") == 1


def test_elliptic_curves_in_chunks_are_refused_by_name() -> None:
    name = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
    given_ = original()
    given_ = replace(given_, folded={**given_.folded, "x-amz-content-sha256": name})
    with pytest.raises(CannotResign, match=name) as caught:
        resign(given_, OURS, None, NOW)
    assert caught.value.status == 501
