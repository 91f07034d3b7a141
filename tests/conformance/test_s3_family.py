"""S3 Control, S3, S3 Express, Object Lambda and outposts, as SDKs send them to any kind of host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import xform_name
from botocore.awsrequest import AWSPreparedRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.session import Session

from opentrail.capture.record.assemble import Assembler
from opentrail.wire.message import Request, fold_headers
from opentrail.wire.routing import Router
from opentrail.wire.sigv4 import read_credential
from tests.factories import KEY, REGION, an_exchange, an_identity, catalog
from tests.wire.test_routing import minimal

ACCOUNT = "123456789012"
OUTPOST = "op-01ac5d28a6a232904"
ON_OUTPOST = f"arn:aws:s3-outposts:{REGION}:{ACCOUNT}:outpost/{OUTPOST}"
OBJECT_LAMBDA = f"arn:aws:s3-object-lambda:{REGION}:{ACCOUNT}:accesspoint/point"
ACCESS_POINT = f"arn:aws:s3:{REGION}:{ACCOUNT}:accesspoint/point"
DIRECTORY = "dir--use1-az4--x-s3"

#: Destinations: AWS's own hosts, a name, an address, a name of the network.
ENDPOINTS = (
    None,
    "http://localhost:4747",
    "http://127.0.0.1:4747",
    "http://[::1]:4747",
    "http://trail.example.org:4747",
)
#: Our own names: without a name, with one name, with two.
BASE_HOSTS: tuple[tuple[str, ...], ...] = ((), ("localhost",), ("localhost", "trail.example.org"))


class Sent(Exception):  # noqa: N818 - it ends a call that is not to be sent
    """Holds a client's request before it is sent."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


@dataclass(frozen=True)
class Named:
    """A call's service and operation in a record."""

    source: str
    name: str
    category: str
    management: bool


@cache
def a_client(service: str, endpoint: str | None, style: str) -> BaseClient:
    config = Config(
        s3={"addressing_style": style, "use_arn_region": True},
        parameter_validation=False,
    )
    client = Session().create_client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key="secret",
        aws_session_token="token",
        config=config,
    )
    client.meta.events.register("before-send", send)
    return client


def send(request: AWSPreparedRequest, **_: object) -> None:
    raise Sent(request)


def a_sent_request(
    service: str, operation: str, parameters: dict[str, Any], endpoint: str | None, style: str
) -> Request:
    """Returns the bytes of botocore's client for a call."""
    client = a_client(service, endpoint, style)
    with pytest.raises(Sent) as sent:
        getattr(client, xform_name(operation))(**parameters)
    prepared = sent.value.request
    parts = urlsplit(prepared.url)
    headers = [(name.encode(), encoded(value)) for name, value in prepared.headers.items()]
    folded = {"host": parts.netloc, **fold_headers(headers)}
    body = prepared.body if isinstance(prepared.body, bytes) else b""
    return Request(prepared.method, parts.path or "/", parts.query, folded, body, bool(body))


def encoded(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def recorded(request: Request, base_hosts: tuple[str, ...]) -> dict[str, Any]:
    using = Router(catalog(), base_hosts)
    credential = read_credential(request)
    exchange = an_exchange(request)
    exchange = replace(exchange, route=using.identify(request, credential), credential=credential)
    return dict(Assembler(lambda _key: an_identity()).assemble(exchange).record)


def of(record: dict[str, Any]) -> Named:
    return Named(
        record["eventSource"].removesuffix(".amazonaws.com"),
        record["eventName"],
        record["eventCategory"],
        record["managementEvent"],
    )


def management(source: str, name: str) -> Named:
    return Named(source, name, "Management", True)


def data(source: str, name: str) -> Named:
    return Named(source, name, "Data", False)


#: S3 Control's operations with other names in records.
RENAMED = {
    "DeletePublicAccessBlock": "DeleteAccountPublicAccessBlock",
    "GetPublicAccessBlock": "GetAccountPublicAccessBlock",
    "PutPublicAccessBlock": "PutAccountPublicAccessBlock",
}
#: Members of its requests that must have AWS's form.
FORMS = {"AccountId": ACCOUNT, "OutpostId": OUTPOST, "Bucket": "my-bucket"}
ABOUT_DIRECTORIES = frozenset(
    {
        "DeleteAccessPointScope",
        "GetAccessPointScope",
        "ListAccessPointsForDirectoryBuckets",
        "PutAccessPointScope",
    }
)


def control_calls() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields each operation of S3 Control, its parameters, and its recorded source."""
    model = catalog().services["s3control"].model
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        given = minimal(shape, "some-name", deep=False)
        given = {name: FORMS.get(name, value) for name, value in given.items()}
        if operation == "CreateBucket":
            yield operation, given | {"OutpostId": OUTPOST}, "s3-outposts"
            continue
        yield operation, given, "s3express" if operation in ABOUT_DIRECTORIES else "s3"
        if "Bucket" in shape.members:
            yield operation, given | {"Bucket": f"{ON_OUTPOST}/bucket/my-bucket"}, "s3-outposts"
        if operation.endswith(("AccessPoint", "AccessPointPolicy")) and "Bucket" not in given:
            on_outpost = f"{ON_OUTPOST}/accesspoint/point"
            if "Name" in given and "MultiRegion" not in operation:
                yield operation, given | {"Name": on_outpost}, "s3-outposts"
    yield "ListRegionalBuckets", {"AccountId": ACCOUNT, "OutpostId": OUTPOST}, "s3-outposts"


def has_label_before_brackets() -> bool:
    try:
        return bool(urlsplit(f"http://{ACCOUNT}.[::1]:4747/").netloc)
    except ValueError:
        return False


def described(operation: str, endpoint: str | None, base_hosts: tuple[str, ...]) -> str:
    return f"{operation} to {endpoint or 'AWS'} as {base_hosts}"


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_s3_control_operations_are_always_management_events(
    endpoint: str | None,
) -> None:
    if endpoint is not None and "[" in endpoint and not has_label_before_brackets():
        pytest.skip("this Python, and so botocore, has no URL with a label before an IPv6 address")
    wrong, count = [], 0
    for operation, parameters, source in control_calls():
        request = a_sent_request("s3control", operation, parameters, endpoint, "auto")
        for base_hosts in BASE_HOSTS:
            count += 1
            found = of(recorded(request, base_hosts))
            if found != management(source, RENAMED.get(operation, operation)):
                wrong.append((described(operation, endpoint, base_hosts), found))
    assert wrong == []
    assert count > 3 * 97


@pytest.mark.slow
def test_s3_control_is_recognized_by_its_label() -> None:
    given = {"AccountId": ACCOUNT}
    for endpoint in ("http://s3-control.localhost:4747", "http://s3-control.trail.example.org"):
        request = a_sent_request("s3control", "GetPublicAccessBlock", given, endpoint, "auto")
        for base_hosts in BASE_HOSTS:
            assert of(recorded(request, base_hosts)).name == "GetAccountPublicAccessBlock"


#: service of S3's family -> operation, parameters, expected members.
CALLS: tuple[tuple[str, dict[str, Any], Named], ...] = (
    ("PutObject", {"Bucket": "my-bucket", "Key": "a/b"}, data("s3", "PutObject")),
    ("GetObject", {"Bucket": "my-bucket", "Key": "a/b"}, data("s3", "GetObject")),
    ("CreateBucket", {"Bucket": "my-bucket"}, management("s3", "CreateBucket")),
    ("ListObjectsV2", {"Bucket": "my-bucket"}, data("s3", "ListObjects")),
    ("HeadBucket", {"Bucket": "my-bucket"}, data("s3", "HeadBucket")),
    ("ListBuckets", {}, management("s3", "ListBuckets")),
    (
        "GetPublicAccessBlock",
        {"Bucket": "my-bucket"},
        management("s3", "GetBucketPublicAccessBlock"),
    ),
    # Buckets and keys that look like S3 Control
    (
        "PutObject",
        {"Bucket": "v20180820", "Key": "configuration/publicAccessBlock"},
        data("s3", "PutObject"),
    ),
    ("GetObject", {"Bucket": "v20180820", "Key": "jobs"}, data("s3", "GetObject")),
    (
        "PutObject",
        {"Bucket": ACCOUNT, "Key": "v20180820/configuration/publicAccessBlock"},
        data("s3", "PutObject"),
    ),
    ("DeleteObject", {"Bucket": "my-bucket", "Key": "v20180820/jobs"}, data("s3", "DeleteObject")),
    ("GetObject", {"Bucket": "s3-control", "Key": "v20180820/jobs"}, data("s3", "GetObject")),
    ("CreateBucket", {"Bucket": "v20180820"}, management("s3", "CreateBucket")),
    ("CreateBucket", {"Bucket": ACCOUNT}, management("s3", "CreateBucket")),
    ("GetObject", {"Bucket": OUTPOST, "Key": "v20180820/jobs"}, data("s3", "GetObject")),
    ("GetObject", {"Bucket": "s3outposts", "Key": "S3Outposts/x"}, data("s3", "GetObject")),
    # S3 Express
    ("CreateSession", {"Bucket": DIRECTORY}, data("s3express", "CreateSession")),
    ("ListDirectoryBuckets", {}, management("s3express", "ListDirectoryBuckets")),
)
#: The same for calls with a label in their host, whatever the addressing style.
LABELLED_CALLS: tuple[tuple[str, dict[str, Any], Named], ...] = (
    (
        "WriteGetObjectResponse",
        {"RequestRoute": "io-route", "RequestToken": "t", "Body": b"x"},
        data("s3-object-lambda", "WriteGetObjectResponse"),
    ),
    (
        "GetObject",
        {"Bucket": OBJECT_LAMBDA, "Key": "a/b"},
        data("s3-object-lambda", "GetObject"),
    ),
    (
        "HeadObject",
        {"Bucket": OBJECT_LAMBDA, "Key": "WriteGetObjectResponse"},
        data("s3-object-lambda", "HeadObject"),
    ),
    (
        "PutObject",
        {"Bucket": f"{ON_OUTPOST}/accesspoint/point", "Key": "v20180820/jobs"},
        data("s3-outposts", "PutObject"),
    ),
    (
        "GetObject",
        {"Bucket": f"{ON_OUTPOST}/accesspoint/point", "Key": "S3Outposts/ListEndpoints"},
        data("s3-outposts", "GetObject"),
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["path", "virtual", "auto"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_s3_family_calls_have_right_names(endpoint: str | None, style: str) -> None:
    wrong: list[tuple[Any, ...]] = []
    for operation, parameters, wanted in (*CALLS, *LABELLED_CALLS):
        if endpoint is not None and "[" in endpoint and (operation, parameters) in LABELLED:
            continue  # no label can come before an IPv6 address
        request = a_sent_request("s3", operation, parameters, endpoint, style)
        for base_hosts in BASE_HOSTS:
            if is_unknown(request, base_hosts):
                continue
            record = recorded(request, base_hosts)
            if of(record) != wanted:
                wrong.append((described(operation, endpoint, base_hosts), parameters, of(record)))
            elif "Key" in parameters and record["requestParameters"]["key"] != parameters["Key"]:
                wrong.append((described(operation, endpoint, base_hosts), parameters, "key"))
    assert wrong == []


LABELLED = [(operation, parameters) for operation, parameters, _ in LABELLED_CALLS]


def is_unknown(request: Request, base_hosts: tuple[str, ...]) -> bool:
    """Whether a bucket precedes a name that is not configured as the endpoint's."""
    host = request.headers["host"].rpartition(":")[0] or request.headers["host"]
    is_ours = not base_hosts or host in base_hosts
    signer = read_credential(request)
    assert signer is not None
    if signer.service in ("s3-object-lambda", "s3-outposts"):
        return False
    names = ("localhost", "trail.example.org")
    of_name = [name for name in names if host.endswith(f".{name}")]
    return bool(of_name) and of_name[0] not in base_hosts and not (is_ours and base_hosts)


@pytest.mark.parametrize("endpoint", ENDPOINTS[1:3])
def test_an_access_point_is_read_from_its_host(endpoint: str) -> None:
    given = {"Bucket": ACCESS_POINT, "Key": "v20180820/jobs"}
    request = a_sent_request("s3", "PutObject", given, endpoint, "auto")
    record = recorded(request, ("localhost",))
    assert of(record) == data("s3", "PutObject")
    assert record["requestParameters"]["bucketName"] == f"point-{ACCOUNT}"
    assert record["requestParameters"]["key"] == "v20180820/jobs"


def test_an_account_header_alone_is_not_s3_control() -> None:
    given = {"Bucket": "my-bucket", "Key": "v20180820/configuration/publicAccessBlock"}
    request = a_sent_request("s3", "PutObject", given, "http://localhost:4747", "virtual")
    request = replace(request, headers={**request.headers, "x-amz-account-id": ACCOUNT})
    assert of(recorded(request, ("localhost",))) == data("s3", "PutObject")


def test_outposts_and_object_lambda_have_their_resources() -> None:
    given = {"Bucket": OBJECT_LAMBDA, "Key": "k"}
    request = a_sent_request("s3", "GetObject", given, "http://127.0.0.1:4747", "auto")
    assert recorded(request, ())["resources"] == [
        {"accountId": ACCOUNT, "type": "AWS::S3ObjectLambda::AccessPoint", "ARN": OBJECT_LAMBDA}
    ]
    point = f"{ON_OUTPOST}/accesspoint/point"
    request = a_sent_request("s3", "GetObject", {"Bucket": point, "Key": "k"}, None, "auto")
    assert recorded(request, ())["resources"] == [
        {"accountId": ACCOUNT, "type": "AWS::S3Outposts::Object", "ARN": f"{point}/object/k"},
        {"accountId": ACCOUNT, "type": "AWS::S3Outposts::AccessPoint", "ARN": point},
    ]
