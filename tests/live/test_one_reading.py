"""Requests that upstreams could read in several ways: the record names the bucket that changed.

Each call is sent raw, signed for any host and service, to opentrail before a real upstream. The
upstream's objects before and after the call tell its effect.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from tests.live.processes import Opentrail, moto_server, opentrail_server
from tests.live.test_record_setting import MANAGEMENT

pytestmark = [pytest.mark.live, pytest.mark.slow]

DOMAIN = "s3.example.org"
SECRET_CONTENT = b"content of the vault"
#: `--record` leaves out calls to objects in this bucket.
LEFT_OUT = "innocent"
BUCKETS = ("vault", LEFT_OUT)
FORM = "application/x-www-form-urlencoded; charset=utf-8"
#: The example of docs/howto/record-fewer-calls.md.
FEWER = [
    MANAGEMENT,
    {
        "Name": "all data events but S3's",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "eventSource", "NotEquals": ["s3.amazonaws.com", "dynamodb.amazonaws.com"]},
        ],
    },
    {
        "Name": "S3 outside of the bucket innocent",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            {"Field": "resources.ARN", "NotStartsWith": ["arn:aws:s3:::innocent/"]},
        ],
    },
]


@dataclass(frozen=True)
class Sent:
    """A request, and what its signature says."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    host: str | None = None
    service: str = "s3"
    region: str = "us-east-1"
    key: str = ADMIN_KEY_ID
    is_presigned: bool = False
    credential_last: bool = False


PUT = Sent("PUT", "/vault/new", body=b"x")
DELETE = Sent("DELETE", "/vault/old")
_LIST = b"<Delete><Object><Key>old</Key></Object></Delete>"
DELETE_OBJECTS = Sent(
    "POST",
    "/vault",
    "delete=",
    _LIST,
    {"content-md5": b64encode(hashlib.md5(_LIST, usedforsecurity=False).digest()).decode()},
)
GET = Sent("GET", "/vault/secret")
CREATE = Sent("PUT", "/fresh")
EFFECTS = (PUT, DELETE, DELETE_OBJECTS, GET, CREATE)

TARGETS = (
    "DynamoDB_20120810.GetItem",
    "Kinesis_20131202.GetRecords",
    "DynamoDBStreams_20120810.GetRecords",
)
SCOPES = (
    *("s3express", "s3-object-lambda", "s3-outposts", "s3control", "S3", " s3", "s3files"),
    *("dynamodb", "lambda", "mediastore", "polly", "iam", "sts", "foo", "xs3"),
)


def misleading_calls() -> Iterator[Sent]:
    """Yields calls with an effect in S3 whose other parts name another service."""
    for effect in EFFECTS:
        for target in TARGETS:
            headers = {**effect.headers, "x-amz-target": target}
            yield replace(effect, headers=headers)
            yield replace(effect, headers=headers, is_presigned=True, service="dynamodb")
        for scope in SCOPES:
            yield replace(effect, service=scope)
            yield replace(effect, service=scope, is_presigned=True)
        query = "&".join(filter(None, (effect.query, "Action=GetUser", "Version=2010-05-08")))
        for scope in ("s3", "iam", "lambda"):
            yield replace(effect, query=query, service=scope)
        yield replace(effect, service="sns", region="s3")
        yield replace(effect, service="lambda", key=f"{ADMIN_KEY_ID}/x")
        yield replace(effect, service="lambda", credential_last=True)
    cbor = {"smithy-protocol": "rpc-v2-cbor"}
    path = "/vault/k/service/DynamoDB_20120810/operation/GetItem"
    for scope in ("s3", "dynamodb", "lambda"):
        yield replace(PUT, path=path, headers=cbor, service=scope)
        yield replace(PUT, path=path.removeprefix("/vault/k"), headers=cbor, service=scope)


def hosts(port: int) -> list[str]:
    """Returns spellings of hosts, for a path-style call to another bucket."""
    names = [
        "localhost",
        "innocent.localhost",
        "innocent.LOCALHOST",
        "innocent.localhost.",
        "innocent.s3.localhost",
        "s3.localhost",
        "innocent.127.0.0.1",
        "innocent.127.0.0.1.nip.io",
        "innocent.s3.amazonaws.com",
        "innocent.s3.us-east-1.amazonaws.com",
        "s3.us-east-1.amazonaws.com",
        "innocent.s3.localhost.localstack.cloud",
        f"innocent.{DOMAIN}",
        f"INNOCENT.{DOMAIN}",
        f"innocent.{DOMAIN}.",
        DOMAIN,
        f"{DOMAIN}.",
        "innocent.other.example.com",
        "innocent.svc.cluster.local",
        "innocent",
        "[::1]",
        "",
    ]
    return [*names, *(f"{name}:{port}" for name in names if name), f"innocent.{DOMAIN}:abc"]


def signed(sent: Sent, address: str) -> dict[str, str]:
    """Returns the headers of a signed request; a presigned one has its query in `:query`."""
    host = address if sent.host is None else sent.host
    url = f"http://{host or 'x'}{sent.path}" + (f"?{sent.query}" if sent.query else "")
    credentials = Credentials(sent.key, ADMIN_SECRET)
    if sent.is_presigned:
        request = AWSRequest(sent.method, url)
        S3SigV4QueryAuth(credentials, sent.service, sent.region).add_auth(request)
        return {**sent.headers, "host": host, ":query": request.url.partition("?")[2]}
    request = AWSRequest(sent.method, url, dict(sent.headers), sent.body)
    request.headers["Host"] = host
    auth = S3SigV4Auth if sent.service.startswith("s3") else SigV4Auth
    auth(credentials, sent.service, sent.region).add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers.setdefault("x-amz-content-sha256", hashlib.sha256(sent.body).hexdigest())
    if sent.credential_last:
        start, _, rest = headers["authorization"].partition("Credential=")
        scope, _, end = rest.partition(", ")
        headers["authorization"] = f"{start}{end}, Credential={scope}"
    return headers


def send(sent: Sent, url: str, agent: str) -> tuple[int, bytes]:
    """Sends an unchanged request; returns status and body of the answer."""
    address = url.removeprefix("http://")
    headers = {**signed(sent, address), "user-agent": agent}
    query = headers.pop(":query", sent.query)
    connection = http.client.HTTPConnection(address, timeout=60)
    target = f"{sent.path}?{query}" if query else sent.path
    connection.putrequest(sent.method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("content-length", str(len(sent.body)))
    connection.endheaders(sent.body)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


class Store:
    """The upstream's S3, asked directly."""

    def __init__(self, url: str) -> None:
        self._s3 = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=ADMIN_KEY_ID,
            aws_secret_access_key=ADMIN_SECRET,
        )

    def reset(self) -> None:
        """Restores the buckets and objects that calls change."""
        for bucket, keys in self.content().items():
            for key in keys:
                if bucket not in BUCKETS or key not in ("old", "secret"):
                    self._s3.delete_object(Bucket=bucket, Key=key)
            if bucket not in BUCKETS:
                self._s3.delete_bucket(Bucket=bucket)
        present = self.content()
        for bucket in BUCKETS:
            if bucket not in present:
                self._s3.create_bucket(Bucket=bucket)
            for key in {"old", "secret"} - present.get(bucket, set()):
                content = SECRET_CONTENT if (bucket, key) == ("vault", "secret") else b"old"
                self._s3.put_object(Bucket=bucket, Key=key, Body=content)

    def content(self) -> dict[str, set[str]]:
        """Returns the keys by bucket."""
        names = [bucket["Name"] for bucket in self._s3.list_buckets()["Buckets"]]
        return {
            name: {o["Key"] for o in self._s3.list_objects_v2(Bucket=name).get("Contents", [])}
            for name in names
        }


@contextmanager
def upstream_of(kind: str, folder: Path) -> Iterator[str]:
    if kind == "moto":
        with moto_server() as url:
            yield url
        return
    flags = [f"-s3.domainName={DOMAIN}"] if kind == "seaweedfs with a domain" else []
    child = start_seaweedfs(folder / "seaweedfs", *flags)
    try:
        yield child.url
    finally:
        child.stop()


@dataclass(frozen=True)
class Scene:
    """A server, its upstream's store, and whether both know the domain."""

    server: Opentrail
    store: Store
    has_domain: bool

    def wrong_records(self, calls: list[Sent]) -> list[str]:
        """Sends calls; returns those with an effect that their record does not name."""
        changes: list[set[str]] = []
        name = secrets.token_hex(4)
        self.store.reset()
        before = self.store.content()
        for number, sent in enumerate(calls):
            _, body = send(sent, self.server.url, f"{name}-{number}")
            after = self.store.content()
            changed = {
                bucket
                for bucket in before.keys() | after.keys()
                if before.get(bucket) != after.get(bucket)
            }
            changes.append(changed | ({"vault"} if SECRET_CONTENT in body else set()))
            if before != after:
                self.store.reset()
                before = self.store.content()
        assert any(changes)
        by_agent: dict[str, list[Any]] = {}
        for record in self.server.records():
            by_agent.setdefault(record.get("userAgent", "").strip("[]"), []).append(record)
        wrong = []
        for number, (sent, changed) in enumerate(zip(calls, changes, strict=True)):
            records = by_agent.get(f"{name}-{number}", [])
            is_left_out = changed == {LEFT_OUT} and not records
            if changed and not is_left_out and not any(_names(r, changed) for r in records):
                wrong.append(f"{sent} changed {changed}: {[_summary(r) for r in records]}")
        return wrong


def _names(record: dict[str, Any], buckets: set[str]) -> bool:
    parameters = record["requestParameters"] or {}
    return record["eventSource"] == "s3.amazonaws.com" and {parameters.get("bucketName")} == buckets


def _summary(record: dict[str, Any]) -> str:
    return json.dumps({n: record.get(n) for n in ("eventSource", "eventName", "requestParameters")})


@pytest.fixture(scope="module", params=["moto", "seaweedfs", "seaweedfs with a domain"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("readings")
    file = folder / "record.json"
    file.write_text(json.dumps(FEWER))
    flags = ["--domain", DOMAIN] if request.param.endswith("domain") else []
    with (
        upstream_of(request.param, folder) as upstream,
        opentrail_server(
            folder / "data",
            *("--upstream", upstream, "--upstream-check", "on", "--record", str(file)),
            *flags,
        ) as server,
    ):
        yield Scene(server, Store(upstream), bool(flags))


def test_every_effect_is_recorded_as_its_service(scene: Scene) -> None:
    assert scene.wrong_records(list(misleading_calls())) == []


def test_every_host_names_the_changed_bucket(scene: Scene) -> None:
    port = int(scene.server.url.rpartition(":")[2])
    calls = [
        replace(effect, host=host, path=path)
        for host in hosts(port)
        for effect in EFFECTS
        for path in {effect.path, effect.path.removeprefix("/vault") or "/"}
    ]
    assert scene.wrong_records(calls) == []


class _Raw(io.BytesIO):
    """An answer's body in the form that botocore reads."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def client_of(scene: Scene, style: str) -> Any:
    """Returns a client that calls the domain, and connects to the server."""
    config = Config(s3={"addressing_style": style}, retries={"total_max_attempts": 1})
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{DOMAIN}",
        region_name="us-east-1",
        aws_access_key_id=ADMIN_KEY_ID,
        aws_secret_access_key=ADMIN_SECRET,
        config=config,
    )

    def ask(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        parts = urlsplit(request.url)
        connection = http.client.HTTPConnection(
            scene.server.url.removeprefix("http://"), timeout=60
        )
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        body = request.body.read() if hasattr(request.body, "read") else request.body
        connection.request(request.method, target, body, {**request.headers, "Host": parts.netloc})
        answer = connection.getresponse()
        content = _Raw(answer.read())
        connection.close()
        return AWSResponse(request.url, answer.status, answer.headers, content)

    client.meta.events.register("before-send.s3", ask)
    return client


def test_virtual_hosts_of_the_domain_are_recorded(scene: Scene) -> None:
    if not scene.has_domain:
        pytest.skip("the upstream has no domain")
    for style in ("virtual", "path"):
        s3, bucket = client_of(scene, style), f"bucket-{style}"
        of_key = {"Bucket": bucket, "Key": "k"}
        tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
        s3.create_bucket(Bucket=bucket)
        s3.head_bucket(Bucket=bucket)
        s3.get_bucket_location(Bucket=bucket)
        s3.put_bucket_tagging(Bucket=bucket, Tagging=tags)
        s3.get_bucket_tagging(Bucket=bucket)
        s3.delete_bucket_tagging(Bucket=bucket)
        s3.put_object(**of_key, Body=b"content")
        assert s3.get_object(**of_key)["Body"].read() == b"content"
        s3.head_object(**of_key)
        s3.put_object_tagging(**of_key, Tagging=tags)
        s3.get_object_tagging(**of_key)
        s3.delete_object_tagging(**of_key)
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
        s3.list_objects(Bucket=bucket)
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
        upload = {"Bucket": bucket, "Key": "big"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        part = s3.upload_part(**upload, PartNumber=1, Body=b"x")
        s3.list_parts(**upload)
        s3.list_multipart_uploads(Bucket=bucket)
        parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        upload["UploadId"] = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
        s3.abort_multipart_upload(**upload)
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}, {"Key": "copy"}]})
        s3.delete_object(Bucket=bucket, Key="big")
        s3.delete_bucket(Bucket=bucket)
    names = [
        Counter(
            record["eventName"]
            for record in scene.server.records()
            if (record["requestParameters"] or {}).get("bucketName") == f"bucket-{style}"
        )
        for style in ("virtual", "path")
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 23
    assert "UnknownOperation" not in names[0]
