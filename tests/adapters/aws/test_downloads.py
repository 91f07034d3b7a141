"""Cheap reads of objects: signed correctly, and left to botocore in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import boto3
import pytest

from opentrail.adapters.aws.downloads import S3Gets
from opentrail.adapters.aws.object_store import S3Key, S3Stream
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_moto, start_seaweedfs
from opentrail.core.errors import ObjectMissing, ObjectStoreError
from tests.wire import sigv4_by_hand

pytestmark = pytest.mark.slow

Answer = Callable[[BaseHTTPRequestHandler], None]


def read(stream: S3Stream, size: int = 1000) -> bytes:
    pieces = list(iter(lambda: stream.read(size), b""))
    stream.close()
    return b"".join(pieces)


@contextmanager
def store(answer: Answer) -> Iterator[list[BaseHTTPRequestHandler]]:
    """Runs a store; yields the received requests."""
    came: list[BaseHTTPRequestHandler] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            came.append(self)
            answer(self)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, f"http://127.0.0.1:{server.server_port}")
        try:
            yield came
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def own_environment(patch: pytest.MonkeyPatch, url: str, token: str = "") -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", ADMIN_KEY_ID)
    patch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN_SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_MAX_ATTEMPTS", "1")
    if token:
        patch.setenv("AWS_SESSION_TOKEN", token)


def say(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("token", ["", "a/token+=="])
@pytest.mark.parametrize("key", ["a", "a b+c%20d/ü", "a'(b)*!", "x=y&z?"])
def test_every_get_is_signed(key: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with store(lambda handler: say(handler, 200, b"content")) as came:
        if token:
            monkeypatch.setenv("AWS_SESSION_TOKEN", token)
        assert read(S3Gets().open("bucket", key)) == b"content"
        (handler,) = came
        headers = [(n.lower().encode(), v.encode()) for n, v in handler.headers.items()]
        body_hash = handler.headers["x-amz-content-sha256"]
        signer = sigv4_by_hand.verify("GET", handler.path, headers, body_hash, ADMIN_SECRET)
        assert signer == ADMIN_KEY_ID
        assert handler.headers.get("x-amz-security-token", "") == token


def test_object_has_metadata_and_its_connection_is_reused() -> None:
    with store(lambda h: say(h, 200, b"content", X_Amz_Meta_Signature="00ff")) as came:
        gets = S3Gets()
        for _ in range(3):
            stream = gets.open("bucket", "key")
            assert stream.metadata == {"signature": "00ff"}
            assert read(stream, 2) == b"content"
        assert len({handler.client_address for handler in came}) == 1


def test_a_partly_read_object_keeps_its_connection() -> None:
    with store(lambda handler: say(handler, 200, bytes(100_000))) as came:
        gets = S3Gets()
        stream = gets.open("bucket", "key")
        assert stream.read(10) == bytes(10)
        stream.close()
        assert read(gets.open("bucket", "key")) == bytes(100_000)
        assert len({handler.client_address for handler in came}) == 2


def test_a_cut_answer_is_an_error() -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True

    with store(cut):
        stream = S3Gets().open("bucket", "key")
        with pytest.raises(ObjectStoreError, match="cut"):
            read(stream)
        stream.close()


def test_kept_connection_closed_by_the_store_is_replaced() -> None:
    def once(handler: BaseHTTPRequestHandler) -> None:
        say(handler, 200, b"content")
        handler.close_connection = True

    with store(once) as came:
        gets = S3Gets()
        for _ in range(3):
            assert read(gets.open("bucket", "key")) == b"content"
        assert len(came) >= 3


def test_answer_without_the_object_is_left_to_botocore() -> None:
    error = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    with store(lambda handler: say(handler, 403, error)) as came:
        with pytest.raises(ObjectStoreError, match="AccessDenied: s3://bucket/key: no"):
            S3Gets().open("bucket", "key")
        assert len(came) == 2


def test_reads_behind_a_proxy_use_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:8")
    assert S3Gets()._place("bucket") is None


def test_reads_without_credentials_use_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, "http://127.0.0.1:9")
    gets = S3Gets()
    gets._credentials = None
    assert gets._place("bucket") is None


def _round_trip(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, url)
        bucket = f"bucket-{uuid4()}"
        s3 = boto3.session.Session().client("s3", endpoint_url=url)
        s3.create_bucket(Bucket=bucket)
        keys = ["a/1", "a b+c%20d", "ü"]
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"signature": "00"})
        gets = S3Gets()
        assert sorted(gets.keys(bucket, ""), key=lambda k: k.key) == sorted(
            (S3Key(key, len(key.encode())) for key in keys), key=lambda k: k.key
        )
        for key in keys * 2:
            stream = gets.open(bucket, key)
            assert stream.metadata["signature"] == "00"
            assert read(stream) == key.encode()
        with pytest.raises(ObjectMissing, match="NoSuchKey"):
            gets.open(bucket, "none")
        with pytest.raises(ObjectMissing, match="NoSuchBucket"):
            gets.open("no-such-bucket", "none")


@pytest.mark.live
def test_objects_of_moto_are_read() -> None:
    child = start_moto()
    try:
        _round_trip(child.url)
    finally:
        child.stop()


@pytest.mark.campaign
@pytest.mark.live
@pytest.mark.slow
def test_a_store_that_checks_signatures_accepts_them(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    child = start_seaweedfs(tmp_path_factory.mktemp("weed"))
    try:
        _round_trip(child.url)
    finally:
        child.stop()
