"""S3 through boto3: the objects in the bucket, and the errors of a bad endpoint."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import boto3
import pytest

from opentrail.adapters.aws.object_store import S3Access, S3Key, S3Objects, S3Reader
from opentrail.commands.sandbox import start_moto
from opentrail.core.errors import ObjectExists, ObjectMissing, ObjectStoreError
from opentrail.ports.objects import NewObject
from tests.fakes import asynchronous

pytestmark = pytest.mark.slow

Handler = Callable[[str, str, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    child = start_moto()
    yield child.url
    child.stop()


@pytest.fixture
def bucket() -> str:
    return f"bucket-{uuid4()}"


def client(url: str) -> Any:
    session = boto3.session.Session("opentrail", "opentrail", region_name="us-east-1")
    return session.client("s3", endpoint_url=url)


@asynccontextmanager
async def s3_stub(handler: Handler) -> AsyncIterator[S3Objects]:
    """Serves S3's side of HTTP by a function: (method, path, headers, body) → answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await _answer(head.decode(), reader, writer, handler)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield S3Objects(lambda: S3Access(f"http://127.0.0.1:{port}", "key", "secret"))
    finally:
        server.close()


async def _answer(
    head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> None:
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    if headers.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    status, more, content = handler(method, path, headers, body)
    fields = {"Content-Length": str(len(content)), **more}
    text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{text}\r\n".encode())
    writer.write(b"" if method == "HEAD" else content)
    await writer.drain()


def s3_error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = f"<Error><Code>{code}</Code><Message>the message</Message></Error>".encode()
    return status, {"Content-Type": "application/xml"}, body


@pytest.mark.live
@asynchronous
async def test_metadata_and_headers_arrive_in_the_bucket(moto_url: str, bucket: str) -> None:
    store = S3Objects(lambda: S3Access(moto_url, "opentrail", "opentrail"))
    await store.create_bucket(bucket)
    metadata = {"signature": "ab" * 256, "signature-algorithm": "SHA256withRSA"}
    await store.put(NewObject(bucket, "d.json.gz", b"content", metadata=metadata))
    await store.put(NewObject(bucket, "folder/", b"", content_encoding=None))
    seen = client(moto_url)
    digest = seen.get_object(Bucket=bucket, Key="d.json.gz")
    assert digest["Metadata"] == metadata
    assert digest["ContentType"] == "application/json"
    assert digest["ContentEncoding"] == "gzip"
    assert digest["Body"].read() == b"content"
    assert "ContentEncoding" not in seen.head_object(Bucket=bucket, Key="folder/")
    keys = [item["Key"] for item in seen.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["d.json.gz", "folder/"]


@pytest.mark.live
@asynchronous
async def test_foreign_objects_are_readable_and_never_overwritten(
    moto_url: str, bucket: str
) -> None:
    seen = client(moto_url)
    seen.create_bucket(Bucket=bucket)
    seen.put_object(Bucket=bucket, Key="theirs", Body=b"theirs")
    store = S3Objects(lambda: S3Access(moto_url, "opentrail", "opentrail"))
    assert await store.get(bucket, "theirs") == b"theirs"
    with pytest.raises(ObjectExists):
        await store.put(NewObject(bucket, "theirs", b"ours"))
    assert seen.get_object(Bucket=bucket, Key="theirs")["Body"].read() == b"theirs"


@asynchronous
async def test_the_bucket_owner_gets_full_control() -> None:
    asked: list[tuple[str, str, dict[str, str]]] = []

    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        asked.append((method, path, headers))
        return 200, {}, b""

    async with s3_stub(handler) as store:
        await store.put(NewObject("my-bucket", "a/b.json.gz", b"content"))
    ((method, path, headers),) = asked
    assert (method, path) == ("PUT", "/my-bucket/a/b.json.gz")
    assert headers["x-amz-acl"] == "bucket-owner-full-control"
    assert headers["if-none-match"] == "*"


@asynchronous
async def test_without_conditional_writes_the_store_looks_before_writing() -> None:
    kept: dict[str, bytes] = {}
    conditional = 0

    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        nonlocal conditional
        if method == "PUT" and "if-none-match" in headers:
            conditional += 1
            return s3_error(501, "NotImplemented")
        if method == "PUT":
            kept[path] = body
            return 200, {}, b""
        if path not in kept:
            return s3_error(404, "NoSuchKey")
        return 200, {}, kept[path]

    async with s3_stub(handler) as store:
        await store.put(NewObject("my-bucket", "key", b"first"))
        with pytest.raises(ObjectExists):
            await store.put(NewObject("my-bucket", "key", b"second"))
        assert await store.get("my-bucket", "key") == b"first"
        await store.put(NewObject("my-bucket", "other", b"other"))
    assert kept == {"/my-bucket/key": b"first", "/my-bucket/other": b"other"}
    assert conditional == 1


@asynchronous
async def test_object_is_sent_with_its_checksum() -> None:
    sent: list[str] = []

    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        sent.append(headers["content-md5"])
        return 200, {}, b""

    async with s3_stub(handler) as store:
        await store.put(NewObject("my-bucket", "key", b"content"))
    assert sent == ["mgNkuembtIDdJeHwKEyFVQ=="]


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (403, "InvalidAccessKeyId"), (400, "BadDigest")]
)
@asynchronous
async def test_refusal_has_the_stores_code_and_the_object(status: int, code: str) -> None:
    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        return s3_error(status, code)

    async with s3_stub(handler) as store:
        for attempt in (
            store.put(NewObject("my-bucket", "a/key", b"")),
            store.get("my-bucket", "a/key"),
        ):
            with pytest.raises(ObjectStoreError, match="s3://my-bucket/a/key") as refused:
                await attempt
            assert refused.value.code == code
            assert not isinstance(refused.value, ObjectMissing | ObjectExists)
        with pytest.raises(ObjectStoreError, match="my-bucket"):
            await store.check_bucket("my-bucket")


@asynchronous
async def test_a_briefly_overloaded_store_is_called_again() -> None:
    tries = 0

    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        nonlocal tries
        tries += 1
        return s3_error(503, "SlowDown") if tries == 1 else (200, {}, b"")

    async with s3_stub(handler) as store:
        await store.put(NewObject("my-bucket", "key", b""))
    assert tries == 2


@asynchronous
async def test_interrupted_answer_is_an_error_of_the_store() -> None:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = S3Objects(lambda: S3Access(f"http://127.0.0.1:{port}", "key", "secret"))
    with pytest.raises(ObjectStoreError, match="s3://my-bucket/key"):
        await store.get("my-bucket", "key")
    server.close()


@asynchronous
async def test_dead_endpoint_is_an_error_of_the_store() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        store = S3Objects(lambda: S3Access(f"http://127.0.0.1:{port}", "key", "secret"))
        dead: tuple[Awaitable[Any], ...] = (
            store.check_bucket("my-bucket"),
            store.put(NewObject("my-bucket", "key", b"x")),
            store.get("my-bucket", "key"),
        )
        for attempt in dead:
            with pytest.raises(ObjectStoreError, match="my-bucket") as failed:
                await attempt
            assert failed.value.code
            assert not isinstance(failed.value, ObjectMissing | ObjectExists)


@asynchronous
async def test_invalid_bucket_name_is_a_store_error() -> None:
    store = S3Objects(lambda: S3Access("http://127.0.0.1:9", "key", "secret"))
    with pytest.raises(ObjectStoreError):
        await store.check_bucket("not a bucket/name")


@asynchronous
async def test_proxy_settings_do_not_divert_deliveries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        return 200, {}, b"direct"

    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with s3_stub(handler) as store:
        assert await store.get("my-bucket", "key") == b"direct"


# Reading with the user's own access


@pytest.fixture
def own_access(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "opentrail")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "opentrail")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.live
@pytest.mark.usefixtures("own_access")
def test_objects_under_a_prefix_are_listed_and_read(moto_url: str, bucket: str) -> None:
    s3 = client(moto_url)
    s3.create_bucket(Bucket=bucket)
    for key in ("a/1", "a/2 ü", "b/1"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode() * 10)
    reader = S3Reader()
    assert list(reader.keys(bucket, "a/")) == [S3Key("a/1", 30), S3Key("a/2 ü", 60)]
    stream = reader.open(bucket, "a/1")
    assert stream.read(10) + stream.read(100) == b"a/1" * 10
    assert stream.read(100) == b""
    stream.close()


@pytest.mark.live
@pytest.mark.usefixtures("own_access")
def test_unreadable_entries_are_named(bucket: str) -> None:
    reader = S3Reader()
    with pytest.raises(ObjectMissing, match=f"NoSuchBucket: s3://{bucket}/x"):
        list(reader.keys(bucket, "x"))
    with pytest.raises(ObjectMissing, match=f"s3://{bucket}/x"):
        reader.open(bucket, "x")


class Pages:
    """A store that lists one object a page, and remembers the requests."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def list_objects_v2(self, **wanted: Any) -> dict[str, Any]:
        self.asked.append(wanted)
        number = len(self.asked)
        page = {"IsTruncated": number < 3, "Contents": [{"Key": f"k{number}", "Size": 1}]}
        return page | ({"NextContinuationToken": f"token {number}"} if number < 3 else {})


@pytest.mark.usefixtures("own_access")
def test_pages_follow_the_stores_token() -> None:
    reader, pages = S3Reader(), Pages()
    reader._s3 = pages
    assert [found.key for found in reader.keys("b", "p")] == ["k1", "k2", "k3"]
    assert [asked.get("ContinuationToken") for asked in pages.asked] == [None, "token 1", "token 2"]
    assert not any("StartAfter" in asked for asked in pages.asked)


@pytest.mark.parametrize("token", [{}, {"NextContinuationToken": "the same"}])
@pytest.mark.usefixtures("own_access")
def test_listing_whose_pages_lead_nowhere_is_an_error(token: dict[str, str]) -> None:
    class Endless(Pages):
        def list_objects_v2(self, **wanted: Any) -> dict[str, Any]:
            return {**super().list_objects_v2(**wanted), "IsTruncated": True, **token}

    reader, pages = S3Reader(), Endless()
    pages.asked = [{}] * 3
    reader._s3 = pages
    with pytest.raises(ObjectStoreError, match="s3://b/p: a page has no next one"):
        list(reader.keys("b", "p"))


@pytest.mark.parametrize(
    ("endpoint", "form"),
    [
        (None, "https://logs.s3.amazonaws.com/k"),
        ("http://localhost:1", "http://localhost:1/logs/k"),
    ],
)
def test_only_aws_gets_the_bucket_in_the_host(
    endpoint: str | None, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    url = S3Reader()._s3.generate_presigned_url("get_object", {"Bucket": "logs", "Key": "k"})
    assert url.partition("?")[0] == form
