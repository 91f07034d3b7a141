"""The claimed signer of a request: every form of cloudtrail-format §10.1."""

import contextlib
from urllib.parse import quote

import pytest
from botocore.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.event import is_region
from opentrail.wire.message import Request
from opentrail.wire.signature_errors import Problem
from opentrail.wire.sigv4 import (
    ClaimRefused,
    Credential,
    parse_authorization,
    read_claim,
    read_credential,
    read_signer_in_body,
    signing_texts,
)

SIGNATURE = "0f" * 32
SCOPE = "AKIAEXAMPLE/20200101/eu-central-1/iam/aws4_request"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


def signed_by_header(value: str, **headers: str) -> Credential | None:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return read_credential(Request("POST", "/", "", {"authorization": value, **named}))


def signed_by_query(query: str, **headers: str) -> Credential | None:
    return read_credential(Request("GET", "/bucket/key", query, headers))


def signed_by_body(body: str, content_type: str = FORM) -> Credential | None:
    return read_credential(Request("POST", "/", "", {"content-type": content_type}, body.encode()))


# Signature version 4 in a header


@pytest.mark.parametrize(
    "value",
    [
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host;range, Signature={SIGNATURE}",
        f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders=host;x-amz-date,Signature={SIGNATURE}",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, Signature={SIGNATURE}, SignedHeaders=host",
    ],
)
def test_version_4_header_has_any_spacing(value: str) -> None:
    assert signed_by_header(value) == Credential(
        "AKIAEXAMPLE", "eu-central-1", "iam", "SigV4", "AuthHeader"
    )


def test_credential_must_be_first() -> None:
    value = f"AWS4-HMAC-SHA256 SignedHeaders=host, Credential={SCOPE}, Signature={SIGNATURE}"
    with pytest.raises(ClaimRefused):
        read_claim(Request("POST", "/", "", {"authorization": value}))


def test_a_second_signature_is_refused() -> None:
    start = f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE}"
    assert signed_by_header(start) is not None
    assert signed_by_header(f"{start}, Signature={SIGNATURE}") is None


def test_a_streaming_upload_is_signed_like_any_other() -> None:
    found = signed_by_header(
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE}",
        x_amz_content_sha256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    )
    assert found is not None
    assert found.version == "SigV4"


def test_a_key_of_odd_characters_is_kept_whole() -> None:
    found = signed_by_header(
        "AWS4-HMAC-SHA256 Credential=tenant/alice@ex.org/20200101/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host, Signature={SIGNATURE}"
    )
    assert found is not None
    assert found.access_key_id == "tenant/alice@ex.org"
    assert (found.region, found.service) == ("us-east-1", "s3")


def test_an_empty_region_is_none() -> None:
    """SDKs sign for some S3-like stores without a Region."""
    found = signed_by_header(
        "AWS4-HMAC-SHA256 Credential=K/20200101//s3/aws4_request, "
        f"SignedHeaders=host, Signature={SIGNATURE}"
    )
    flaw = "Credential should be scoped to a valid region."
    assert found == Credential("K", None, "s3", "SigV4", "AuthHeader", flaw)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None)
@given(
    key=st.text(
        st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters=",")
    ).filter(bool),
    region=st.from_regex(r"[a-z]{2}-[a-z]{1,20}-[0-9]", fullmatch=True),
    service=st.from_regex(r"[a-z0-9-]+", fullmatch=True),
)
def test_any_key_of_printable_text_is_read_back(key: str, region: str, service: str) -> None:
    scope = f"{key}/20200101/{region}/{service}/aws4_request"
    value = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={SIGNATURE}"
    assert signed_by_header(value) == Credential(key, region, service, "SigV4", "AuthHeader")


# Version 4a: many Regions


@pytest.mark.parametrize(
    ("regions", "region"),
    [("*", None), ("us-east-1", "us-east-1"), ("eu-west-1, us-east-1", "eu-west-1")],
)
def test_version_4a_has_its_region_in_a_header(regions: str, region: str | None) -> None:
    found = signed_by_header(
        "AWS4-ECDSA-P256-SHA256 Credential=AKIAEXAMPLE/20200101/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-region-set, Signature={SIGNATURE}",
        x_amz_region_set=regions,
    )
    assert found == Credential("AKIAEXAMPLE", region, "s3", "SigV4A", "AuthHeader")


def test_a_presigned_version_4a_request_has_its_region() -> None:
    scope = quote("AKIAEXAMPLE/20200101/s3/aws4_request", safe="")
    found = signed_by_query(
        "X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Region-Set=us-west-2"
        f"&X-Amz-Credential={scope}&X-Amz-Signature={SIGNATURE}"
    )
    assert found == Credential("AKIAEXAMPLE", "us-west-2", "s3", "SigV4A", "QueryString")


# Presigned


@pytest.mark.parametrize("scope", [SCOPE, quote(SCOPE, safe=""), quote(SCOPE)])
def test_a_presigned_request_is_signed_by_its_query(scope: str) -> None:
    found = signed_by_query(
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Expires=60"
        f"&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
    )
    assert found == Credential("AKIAEXAMPLE", "eu-central-1", "iam", "SigV4", "QueryString")


def test_a_presigned_version_2_request_is_s3() -> None:
    """botocore still makes these in us-east-1."""
    found = signed_by_query("AWSAccessKeyId=AKIAEXAMPLE&Signature=a%2Fb%3D&Expires=1577872800")
    assert found == Credential("AKIAEXAMPLE", None, "s3", "SigV2", "QueryString")


def test_a_version_2_query_call_is_not_s3() -> None:
    found = signed_by_query("Action=ListQueues&AWSAccessKeyId=AKIAEXAMPLE&Signature=x&Version=1")
    assert found == Credential("AKIAEXAMPLE", None, None, "SigV2", "QueryString")


# Version 2 in header and form


def test_header_of_version_2_is_one_of_s3() -> None:
    assert signed_by_header("AWS AKIAEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=") == Credential(
        "AKIAEXAMPLE", None, "s3", "SigV2", "AuthHeader"
    )


def test_a_form_of_version_2_has_its_key() -> None:
    found = signed_by_body(
        "Action=ListQueues&Version=2012-11-05&SignatureVersion=2&AWSAccessKeyId=AKIAEXAMPLE"
        "&SignatureMethod=HmacSHA256&Signature=x"
    )
    assert found is not None
    assert (found.access_key_id, found.version, found.service) == ("AKIAEXAMPLE", "SigV2", None)


@pytest.mark.parametrize(
    ("field", "version"), [("x-amz-credential", "SigV4"), ("AWSAccessKeyId", "SigV2")]
)
def test_a_browsers_upload_is_signed_by_its_fields(field: str, version: str) -> None:
    value = SCOPE.replace("/iam/", "/s3/") if field.startswith("x") else "AKIAEXAMPLE"
    parts = {"key": "in/${filename}", "policy": "eyJ9", field: value, "file": "the object"}
    body = "".join(
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in parts.items()
    )
    found = signed_by_body(f"{body}--XX--\r\n", "multipart/form-data; boundary=XX")
    assert found is not None
    assert (found.access_key_id, found.service) == ("AKIAEXAMPLE", "s3")
    assert found.version == version
    assert found.method == "HTMLForm", "AWS's word (cloudtrail-format §2.7)"


# Unsigned and malformed


def test_a_request_without_a_signature_is_unsigned() -> None:
    assert read_credential(Request("GET", "/bucket/key", "", {"host": "x"})) is None


@pytest.mark.parametrize(
    "value",
    [
        "Bearer eyJhbGciOi.eyJzdWIi.SflKxwRJ",
        "Basic QUxBRERJTjpPUEVO",
        "Digest username=AWS",
        "",
        # Quadratic reading, following each AWS to the end, would take ten seconds.
        pytest.param("Bearer " + "AWS" * 21_000, id="long"),
    ],
)
def test_a_header_of_another_scheme_has_no_signer(value: str) -> None:
    request = Request("GET", "/", "", {"authorization": value})
    assert read_claim(request) is None


@pytest.mark.parametrize(
    "value",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        f"AWS4-HMAC-SHA256 Signature={SIGNATURE}",
        "AWS4-HMAC-SHA256 Credential=",
        "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE",
        "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20200101/us-east-1/iam",
        "AWS4-ECDSA-P256-SHA256 Credential=AKIAEXAMPLE/20200101/s3",
        "AWS AKIAEXAMPLE",
        "AWS :signature",
        "AWS",
        "AWS5",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE}, a=b",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE},",
        f"AWS4-HMAC-SHA256 Credential=A/1/r/s/aws4_request, Credential={SCOPE}, "
        f"SignedHeaders=host, Signature={SIGNATURE}",
        f"AWS4-HMAC-SHA256 {SCOPE}, SignedHeaders=host, Signature={SIGNATURE}",
        f"AWS4-HMAC-SHA256  Credential={SCOPE}; SignedHeaders=host; Signature={SIGNATURE}",
        f"AWS4-HMAC-SHA256 credential={SCOPE}, signedheaders=host, signature={SIGNATURE}",
        f"AWS4-HMAC-SHA256 Credential = {SCOPE}, SignedHeaders=host, Signature={SIGNATURE}",
        f"aws4-hmac-sha256 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE}",
        f"AWS4-HMAC-SHA512 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE}",
        f"x AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature={SIGNATURE}",
        f"Bearer x, Credential={SCOPE}",
        "AWS AKIAEXAMPLE:AKIAOTHER:frJIUN8DYpKDtOLCwo//yllqDzg=",
        "AWS AKIAEXAMPLE:x AKIAOTHER/",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, Signature=x Credential=AKIAOTHER/",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature=AKIAOTHER/",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, Signature=x, Signature=y",
    ],
)
def test_a_header_almost_like_awss_is_refused(value: str) -> None:
    with pytest.raises(ClaimRefused):
        read_claim(Request("GET", "/", "", {"authorization": value}))
    assert signed_by_header(value) is None


@pytest.mark.parametrize(
    "rest",
    [
        ", SignedHeaders=host, Signature=abc",
        ", SignedHeaders=host, Signature=placeholder-signature_0+==",
        f", SignedHeaders=host, Signature={SIGNATURE}0",
        ", SignedHeaders=, Signature=",
        ", Signature=x",
        "",
    ],
)
def test_claim_needs_no_real_signature_to_be_read(rest: str) -> None:
    header = f"AWS4-HMAC-SHA256 Credential={SCOPE}{rest}"
    found = read_claim(Request("GET", "/", "", {"authorization": header}))
    assert found == Credential("AKIAEXAMPLE", "eu-central-1", "iam", "SigV4", "AuthHeader")
    with pytest.raises(ClaimRefused):  # only to be verified
        parse_authorization(header)


@pytest.mark.parametrize(
    "query",
    [
        f"X-Amz-Credential={SCOPE}",
        f"X-Amz-Credential={SCOPE}&X-Amz-Signature=abc",
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE}&X-Amz-Signature={SIGNATURE}0",
        "AWSAccessKeyId=AKIAEXAMPLE",
    ],
)
def test_querys_claim_is_read_without_a_real_signature(query: str) -> None:
    found = read_claim(Request("GET", "/", query, {}))
    assert found is not None
    assert found.access_key_id == "AKIAEXAMPLE"


PRESIGNED = (
    f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE}&X-Amz-Expires=60"
    f"&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
)


@pytest.mark.parametrize("query", ["", "prefix=Credential=x", "note=AWSAccessKeyId=x"])
def test_a_query_without_a_claim_has_no_signer(query: str) -> None:
    assert read_claim(Request("GET", "/", query, {})) is None


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Credential=",
        "X-Amz-Credential=AKIAEXAMPLE",
        "X-Amz-Credentia%6C=AKIAEXAMPLE",
        f"{PRESIGNED}&X-Amz-Credential=AKIAOTHER/20200101/us-east-1/s3/aws4_request",
        f"{PRESIGNED}&x-amz-credential=AKIAOTHER/20200101/us-east-1/s3/aws4_request",
        f"{PRESIGNED}&X-Amz-Security-Token=a&X-Amz-Security-Token=b",
        f"{PRESIGNED}&AWSAccessKeyId=AKIAOTHER&Signature=x",
        PRESIGNED.replace("X-Amz-Algorithm", "x-amz-algorithm"),
        PRESIGNED.replace("HMAC", "ROT"),
        PRESIGNED.replace("/aws4_request", ""),
        "AWSAccessKeyId=AKIAEXAMPLE&AWSAccessKeyId=AKIAOTHER&Signature=x",
        "awsaccesskeyid=AKIAEXAMPLE&Signature=x",
    ],
)
def test_an_almost_presigned_query_is_refused(query: str) -> None:
    with pytest.raises(ClaimRefused):
        read_claim(Request("GET", "/", query, {}))
    assert signed_by_query(query) is None


@pytest.mark.parametrize("authorization", [f"AWS4-HMAC-SHA256 Credential={SCOPE}", "Bearer x"])
def test_a_claim_in_header_and_query_is_refused(authorization: str) -> None:
    with pytest.raises(ClaimRefused) as refused:
        read_claim(Request("GET", "/", PRESIGNED, {"authorization": authorization}))
    assert refused.value.problem is Problem.TWICE


def test_object_like_a_signed_form_has_no_signer() -> None:
    body = "AWSAccessKeyId=AKIAEXAMPLE&SignatureVersion=2"
    assert signed_by_body(body, "text/plain") is None
    assert signed_by_body("AWSAccessKeyId=AKIAEXAMPLE&Action=x") is None


@pytest.mark.hypothesis
@settings(deadline=None)
@given(
    header=st.text(max_size=60)
    | st.from_regex(r"AWS4-(HMAC|ECDSA)[A-Z0-9-]* Credential=[A-Za-z0-9/=, ]*", fullmatch=True),
    query=st.text(st.sampled_from("X-AmzCredentialKId=&/%2Fab"), max_size=60),
    body=st.binary(max_size=60),
)
def test_any_string_can_be_read_as_a_signature(header: str, query: str, body: bytes) -> None:
    for headers in ({"authorization": header}, {"content-type": FORM}, {}):
        found = read_credential(Request("POST", "/", query, headers, b"AWSAccessKeyId=" + body))
        assert found is None or isinstance(found.access_key_id, str)


# Scopes


@pytest.mark.parametrize(
    ("scope", "flaw"),
    [
        ("AKIA/20200101/us-east-1/iam/aws4_request", None),
        ("AKIA/20200101/us-gov-west-1/iam/aws4_request", None),
        ("AKIA/20200101/eusc-de-east-1/iam/aws4_request", None),
        ("AKIA/20200101/x/iam/aws4_request", "a valid region"),
        ("AKIA/20200101/../iam/aws4_request", "a valid region"),
        ("AKIA/20200101//iam/aws4_request", "a valid region"),
        ("AKIA/20200101/../x/cloudtrail/aws4_request", "YYYYMMDD"),
        ("AKIA/2020-01-01/us-east-1/iam/aws4_request", "YYYYMMDD"),
        ("AKIA/20200101/us-east-1/iam/aws5_request", "terminator"),
    ],
)
def test_a_malformed_scope_has_a_flaw(scope: str, flaw: str | None) -> None:
    found = signed_by_header(
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={SIGNATURE}"
    )
    assert found is not None
    assert (found.flaw is None) if flaw is None else (flaw in (found.flaw or ""))


def test_every_botocore_region_has_the_form_of_one() -> None:
    session = Session()
    regions = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition)
    }
    assert len(regions) > 30
    assert [region for region in regions if not is_region(region)] == []


# Any input

_NAMES = ("AWSAccessKeyId", "ZAWSAccessKeyId", "SignatureVersion", "X-Amz-Credential", "Signature")
_TEXTS = st.sampled_from(
    ["", "2", "x", SCOPE, SIGNATURE, "/", "%", "%ff", "\ud800", "AWS4-HMAC-SHA256"]
)
_PAIRS = st.lists(st.tuples(st.sampled_from(_NAMES) | st.text(max_size=5), _TEXTS), max_size=5).map(
    lambda pairs: "&".join(f"{name}={text}" for name, text in pairs)
)
_TYPES = st.sampled_from([FORM, "multipart/form-data; boundary=b", "application/json", ""])


def _part(pair: tuple[str, str]) -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{pair[0]}"\r\n\r\n{pair[1]}\r\n'


_PARTS = st.lists(st.tuples(st.sampled_from(_NAMES), _TEXTS), max_size=4).map(
    lambda pairs: "".join(map(_part, pairs))
)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=500)
@given(
    body=st.binary(max_size=80)
    | (_PAIRS | _PARTS).map(lambda text: text.encode("utf-8", "surrogatepass")),
    query=_PAIRS | st.text(max_size=40),
    authorization=st.text(max_size=60)
    | st.tuples(_TEXTS, _PAIRS).map(lambda parts: f"{parts[0]} {parts[1].replace('&', ', ')}"),
    content_type=_TYPES | st.text(max_size=40).map("multipart/form-data; boundary={}".format),
)
def test_no_input_crashes_the_reader(
    body: bytes, query: str, authorization: str, content_type: str
) -> None:
    for headers in (
        {"content-type": content_type},
        {"content-type": content_type, "authorization": authorization},
    ):
        request = Request("POST", "/", query, headers, body)
        read_credential(request)
        read_signer_in_body(request)
        list(signing_texts(request))
        with contextlib.suppress(ClaimRefused):
            read_claim(request)


@pytest.mark.parametrize("name", ["ZAWSAccessKeyId=x", "AWSAccessKeyId="])
def test_version_2_form_without_key_has_no_signer(name: str) -> None:
    assert signed_by_body(f"Action=CreateUser&SignatureVersion=2&{name}") is None
