"""S3's hand-made form of parameters."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.record.resources import s3_resources
from opentrail.capture.record.s3_form import (
    as_json,
    body_is_parameters,
    s3_answer,
    s3_parameters,
)
from opentrail.core.secrets.secret_names import HIDDEN
from opentrail.wire.body_formats import parse_xml
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import NOTHING, Route
from opentrail.wire.sigv4 import read_credential
from tests.factories import ACCOUNT, HOST, an_s3_request, an_sdk_request, router

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


def route_of(request: Request) -> Route:
    return router().identify(request, read_credential(request))


def noted(request: Request) -> dict[str, Any]:
    """Returns the notes on a request's parameters."""
    notes: dict[str, Any] = {}
    s3_parameters(route_of(request), request, notes)
    return notes


def resources(operation: str, parameters: dict[str, Any]) -> list[dict[str, str]]:
    return s3_resources(operation, parameters, "s3", "us-east-1", ACCOUNT)


def shown(request: Request) -> dict[str, Any]:
    parameters = s3_parameters(route_of(request), request, {})
    assert parameters.pop("Host") == HOST
    return parameters


# XML as org.json converts it


@pytest.mark.parametrize(
    ("xml", "value"),
    [
        (b"<a>text</a>", "text"),
        (b"<a/>", ""),
        (b"<a>true</a>", True),
        (b"<a>false</a>", False),
        (b"<a>True</a>", "True"),
        (b"<a>null</a>", "null"),
        (b"<a>0</a>", 0),
        (b"<a>42</a>", 42),
        (b"<a>-7</a>", -7),
        (b"<a>-0</a>", "-0"),
        (b"<a>007</a>", "007"),
        (b"<a>1.5</a>", "1.5"),
        (b"<a>1e3</a>", "1e3"),
        (b"<a>+1</a>", "+1"),
        (b"<a> 1 </a>", " 1 "),
        (b"<a>123456789012345678</a>", 123456789012345678),
        (b"<a>99999999999999999999</a>", "99999999999999999999"),
        (b"<a>2012-10-17</a>", "2012-10-17"),
        ("<a>\u0661</a>".encode(), "\u0661"),
    ],
)
def test_only_booleans_and_whole_numbers_lose_their_quotes(xml: bytes, value: object) -> None:
    found = as_json(parse_xml(xml))
    assert found == value
    assert type(found) is type(value)


def test_single_children_are_objects_several_are_lists() -> None:
    """The same path is an object in one record and a list in the next (cloudtrail-format §4.2)."""
    one = as_json(parse_xml(b"<r><Rule><ID>a</ID></Rule></r>"))
    two = as_json(parse_xml(b"<r><Rule><ID>a</ID></Rule><Rule><ID>b</ID></Rule></r>"))
    three = as_json(parse_xml(b"<r><R>a</R><R>b</R><R>c</R></r>"))
    assert one == {"Rule": {"ID": "a"}}
    assert two == {"Rule": [{"ID": "a"}, {"ID": "b"}]}
    assert three == {"R": ["a", "b", "c"]}


def test_attributes_become_members_and_text_becomes_content() -> None:
    xml = b'<a xmlns="u" n="1">text</a>'
    assert as_json(parse_xml(xml)) == {"xmlns": "u", "n": "1", "content": "text"}
    assert as_json(parse_xml(b'<a n="1"/>')) == {"n": "1"}


def test_white_space_between_children_is_ignored() -> None:
    xml = b"<a>\n  <b>x</b>\n  <c/>\n</a>"
    assert as_json(parse_xml(xml)) == {"b": "x", "c": ""}


def test_prefixes_of_names_are_left_out() -> None:
    assert as_json(parse_xml(b'<s:a xmlns:s="u"><s:b>x</s:b></s:a>')) == {"xmlns:s": "u", "b": "x"}


# Parameters


def test_object_call_shows_bucket_host_and_key_first() -> None:
    request = an_s3_request("PUT", "/my-bucket/in%2Fa%20b.csv", "", {"x-amz-acl": "private"})
    assert list(s3_parameters(route_of(request), request, {}).items()) == [
        ("bucketName", "my-bucket"),
        ("Host", HOST),
        ("key", "in/a b.csv"),
        ("x-amz-acl", "private"),
    ]


def test_sub_resources_are_empty_strings() -> None:
    assert shown(an_s3_request("GET", "/b", "acl")) == {"bucketName": "b", "acl": ""}
    assert shown(an_s3_request("GET", "/b", "publicAccessBlock=")) == {
        "bucketName": "b",
        "publicAccessBlock": "",
    }


def test_query_names_are_raw_repeated_ones_lists() -> None:
    query = "list-type=2&prefix=in%2F&encoding-type=url&x=1&x=2&x=3"
    assert shown(an_s3_request("GET", "/b", query)) == {
        "bucketName": "b",
        "list-type": "2",
        "prefix": "in/",
        "encoding-type": "url",
        "x": ["1", "2", "3"],
    }


@pytest.mark.parametrize("name", ["bucketName", "Host", "key"])
def test_a_query_cannot_replace_bucket_host_or_key(name: str) -> None:
    """Otherwise a caller could hide a call from searches by resource."""
    plain = an_s3_request("GET", "/my-bucket/secret.csv")
    forged = an_s3_request("GET", "/my-bucket/secret.csv", f"{name}=elsewhere")
    expected = s3_parameters(route_of(plain), plain, {})
    found = s3_parameters(route_of(forged), forged, {})
    assert found["bucketName"] == "my-bucket"
    assert found["Host"] == HOST
    assert found["key"] == "secret.csv"
    assert resources("GetObject", found) == resources("GetObject", expected)


def test_repeated_prefix_of_a_list_is_recorded_once() -> None:
    request = an_s3_request("GET", "/b", "prefix=in/&prefix=out/")
    (listed, _bucket) = resources("ListObjects", s3_parameters(route_of(request), request, {}))
    assert listed["ARNPrefix"] in ("arn:aws:s3:::b/in/", "arn:aws:s3:::b/out/")


def test_key_in_a_list_query_is_no_object() -> None:
    request = an_s3_request("GET", "/b", "key=elsewhere")
    (listed, _bucket) = resources("ListObjects", s3_parameters(route_of(request), request, {}))
    assert listed == {"type": "AWS::S3::Object", "ARNPrefix": "arn:aws:s3:::b/"}


def test_form_fields_are_parameters_without_the_signature() -> None:
    fields = {
        "key": "in/a.csv",
        "acl": "private",
        "policy": "CANARY",
        "x-amz-signature": "CANARY",
        "x-amz-credential": "CANARY",
        "x-amz-security-token": "CANARY",
        "signature": "CANARY",
        "awsaccesskeyid": "CANARY",
        "bucketName": "elsewhere",
        "Host": "elsewhere",
        "file": "CANARY",
    }
    body = "".join(
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    request = an_s3_request("POST", "/b", "", headers, f"{body}--XX--".encode(), signed=False)
    found = shown(request)
    assert (found["bucketName"], found["key"], found["acl"]) == ("b", "in/a.csv", "private")
    assert "CANARY" not in str(found)
    (listed, _bucket) = resources("PostObject", found)
    assert listed["ARN"] == "arn:aws:s3:::b/in/a.csv"


@pytest.mark.parametrize("name", ["bucketName", "Host", "x-amz-acl"])
def test_a_body_cannot_replace_bucket_host_or_header(name: str) -> None:
    body = f"<{name}><TagSet/></{name}>".encode()
    headers = {"x-amz-acl": "private"}
    found = shown(an_s3_request("PUT", "/my-bucket", "tagging", headers, body))
    assert found["bucketName"] == "my-bucket"
    assert found["x-amz-acl"] == "private"


def test_signing_parts_of_urls_are_left_out() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20200101%2Fus-east-1%2Fs3%2F"
        "aws4_request&X-Amz-Date=20200101T090000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
        "&X-Amz-Security-Token=CANARY&X-Amz-Signature=CANARY"
    )
    request = an_s3_request("GET", "/b/k", query, signed=False)
    found = shown(request)
    assert "CANARY" not in str(found)
    assert found["X-Amz-Expires"] == "60"
    assert found["X-Amz-SignedHeaders"] == "host"


@pytest.mark.parametrize(
    "header",
    [
        "x-amz-security-token",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-copy-source-server-side-encryption-customer-key",
        "x-amz-mfa",
        "x-amz-s3session-token",
        "x-amz-content-sha256",
        "x-amz-date",
    ],
)
def test_secret_and_signing_headers_are_left_out(header: str) -> None:
    found = shown(an_s3_request("PUT", "/b/k", "", {header: "CANARY", "x-amz-acl": "private"}))
    assert found == {"bucketName": "b", "key": "k", "x-amz-acl": "private"}


def test_other_headers_are_not_parameters() -> None:
    headers = {"content-type": "text/plain", "cookie": "CANARY", "range": "bytes=0-1"}
    assert shown(an_s3_request("PUT", "/b/k", "", headers)) == {"bucketName": "b", "key": "k"}


def test_a_secret_sounding_header_is_hidden() -> None:
    found = shown(an_s3_request("PUT", "/b/k", "", {"x-amz-meta-password": "CANARY"}))
    assert found["x-amz-meta-password"] == HIDDEN


def test_a_configuration_is_shown_under_its_root() -> None:
    body = (
        f'<Tagging xmlns="{XMLNS}"><TagSet>'
        "<Tag><Key>team</Key><Value>audit</Value></Tag></TagSet></Tagging>"
    ).encode()
    assert shown(an_s3_request("PUT", "/b", "tagging", {}, body)) == {
        "bucketName": "b",
        "tagging": "",
        "Tagging": {"xmlns": XMLNS, "TagSet": {"Tag": {"Key": "team", "Value": "audit"}}},
    }


def test_a_bucket_policy_is_shown_as_an_object() -> None:
    body = b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow"}]}'
    assert shown(an_s3_request("PUT", "/b", "policy", {}, body)) == {
        "bucketName": "b",
        "policy": "",
        "bucketPolicy": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]},
    }


def test_an_invalid_bucket_policy_is_recorded_as_text() -> None:
    found = shown(an_s3_request("PUT", "/b", "policy", {}, b"not json \xff"))
    assert found["bucketPolicy"] == "not json \ufffd"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("PUT", "/b/k", "", {}),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", {}),
        ("POST", "/b", "delete", {}),
        ("POST", "/b/k", "uploadId=u", {}),
        ("POST", "/b", "", {"content-type": "multipart/form-data; boundary=XX"}),
    ],
    ids=["PutObject", "UploadPart", "DeleteObjects", "CompleteMultipartUpload", "PostObject"],
)
def test_body_of_a_data_event_is_not_shown(
    method: str, path: str, query: str, headers: dict[str, str]
) -> None:
    body = b"<Delete><Object><Key>CANARY</Key></Object></Delete>"
    assert "CANARY" not in str(shown(an_s3_request(method, path, query, headers, body)))


def test_a_truncated_body_is_not_parsed() -> None:
    request = an_s3_request("PUT", "/b", "tagging", {}, b"<Tagg", body_is_whole=False)
    assert shown(request) == {"bucketName": "b", "tagging": ""}


def test_an_invalid_configuration_is_noted() -> None:
    request, notes = an_s3_request("PUT", "/b", "tagging", {}, b"<Tagging>"), dict[str, Any]()
    assert s3_parameters(route_of(request), request, notes)["bucketName"] == "b"
    assert "XML" in notes["decodeError"]


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("PUT", "/b/k", "", False),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", False),
        ("GET", "/b/k", "", False),
        ("PUT", "/b", "", True),
        ("PUT", "/b", "tagging", True),
        ("PUT", "/b", "policy", True),
        ("POST", "/b", "delete", True),
    ],
)
def test_a_body_holds_parameters_or_an_object(
    method: str, path: str, query: str, expected: bool
) -> None:
    assert body_is_parameters(route_of(an_s3_request(method, path, query))) is expected


# Answers and our own block


def test_answer_shows_its_amazon_headers_without_the_ids() -> None:
    headers = {
        "x-amz-request-id": "A1",
        "x-amz-id-2": "B2",
        "x-amz-server-side-encryption": "AES256",
        "x-amz-version-id": "3",
        "etag": "e",
        "date": "today",
    }
    assert s3_answer(NOTHING, Response(200, headers)) == {
        "x-amz-server-side-encryption": "AES256",
        "x-amz-version-id": "3",
    }


def test_an_answer_without_recorded_headers_is_null() -> None:
    assert s3_answer(NOTHING, Response(204, {"x-amz-request-id": "A1", "date": "today"})) is None


def test_ranges_and_conditions_are_in_our_block() -> None:
    headers = {"range": "bytes=0-9", "if-none-match": "*", "authorization": "CANARY", "cookie": "x"}
    request = an_s3_request("GET", "/b/k", "", headers)
    assert noted(request) == {"headers": {"if-none-match": "*", "range": "bytes=0-9"}}


def test_a_call_without_details_has_no_block() -> None:
    request = an_s3_request("GET", "/b/k")
    assert noted(request) == {}


# Any input


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(
    query=st.text(max_size=20) | st.text(st.sampled_from("bucketNamekyHost=&%26acl"), max_size=30),
    headers=st.dictionaries(
        st.sampled_from(["x-amz-acl", "x-amz-meta-é", "host", "range", "content-type"]),
        st.text(max_size=8),
    ),
    body=st.binary(max_size=30) | st.text(st.sampled_from("<a/>x &;"), max_size=20).map(str.encode),
)
def test_any_request_has_parameters_or_is_refused(
    query: str, headers: dict[str, str], body: bytes
) -> None:
    for method, path in (("PUT", "/b"), ("POST", "/b"), ("PUT", "/b/k")):
        request = an_s3_request(method, path, query, headers, body)
        route = route_of(request)
        try:
            parameters = s3_parameters(route, request, {})
        except ValueError:
            continue
        assert all(isinstance(name, str) for name in parameters)


# S3 Control


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        # Parts of real records (stratus-red-team, invictus).
        ("GetPublicAccessBlock", {}, {}),
        (
            "ListAccessPoints",
            {"Bucket": "evidence", "MaxResults": 1},
            {"bucket": "evidence", "maxResults": "1"},
        ),
        ("DescribeJob", {"JobId": "a+b c"}, {"jobId": "a+b c"}),
        ("GetBucketTagging", {"Bucket": "evidence"}, {"bucketName": "evidence"}),
        (
            "PutPublicAccessBlock",
            {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}},
            {
                "PublicAccessBlockConfiguration": {
                    "xmlns": "http://awss3control.amazonaws.com/doc/2018-08-20/",
                    "BlockPublicAcls": True,
                }
            },
        ),
    ],
)
def test_s3_control_has_the_form_of_s3(
    operation: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    asked = {"AccountId": ACCOUNT, **given}
    request = an_sdk_request("s3control", operation, asked)
    route = route_of(request)
    assert (route.service and route.service.name, route.operation) == ("s3control", operation)
    parameters = s3_parameters(route, request, {})
    assert parameters.pop("Host") == request.headers["host"]
    assert {n: v for n, v in parameters.items() if "-checksum-" not in n} == expected
