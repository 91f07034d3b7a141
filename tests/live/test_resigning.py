"""Re-signed calls for a real SeaweedFS that knows our key only, under another host name."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from opentrail.core.identity import key_for_account
from tests.capture.proxy.wires import Wire
from tests.live.processes import Opentrail, opentrail_server
from tests.wire.sigv4_by_hand import chunked

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

MEGABYTE = 1024 * 1024
DATA = random.Random(8).randbytes(12 * MEGABYTE)
#: The caller's own key, unknown to the store.
KEY, SECRET = key_for_account("210987654321"), "nobody-else-knows"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder: Path = tmp_path_factory.mktemp("resigning")
    store = start_seaweedfs(folder / "store")
    try:
        port = store.url.rpartition(":")[2]
        config = folder / "opentrail.toml"
        config.write_text(
            f'[upstream.s3]\nurl = "http://localhost:{port}"\nresign = true\n'
            f'access_key_id = "{ADMIN_KEY_ID}"\nsecret_access_key = "{ADMIN_SECRET}"\n'
        )
        with opentrail_server(folder / "data", "--config", str(config)) as running:
            running.boto("s3", KEY, SECRET).create_bucket(Bucket="other")
            yield running
    finally:
        store.stop()


def test_the_record_has_the_original_caller(server: Opentrail) -> None:
    s3 = server.boto("s3", KEY, SECRET)
    for key in ("plain", "a b/ü+%2F&=?#'\"", "deep/x.y"):
        s3.put_object(Bucket="other", Key=key, Body=b"hello", Metadata={"a": "b  c"})
        assert s3.get_object(Bucket="other", Key=key)["Body"].read() == b"hello"
    listed = s3.list_objects_v2(Bucket="other", Prefix="a b/", Delimiter="/")["Contents"]
    assert [item["Key"] for item in listed] == ["a b/ü+%2F&=?#'\""]
    records = server.records("EventName=PutObject")
    assert {r["userIdentity"]["accessKeyId"] for r in records} == {KEY}
    assert {r["recipientAccountId"] for r in records} == {"210987654321"}
    assert ADMIN_KEY_ID not in str(records)


def test_multipart_uploads_and_ranges_are_byte_equal(server: Opentrail) -> None:
    s3 = server.boto("s3", KEY, SECRET)
    config = TransferConfig(multipart_threshold=5 * MEGABYTE, multipart_chunksize=5 * MEGABYTE)
    s3.upload_fileobj(io.BytesIO(DATA), "other", "big", Config=config)
    s3.copy_object(Bucket="other", Key="copy", CopySource="other/big")
    assert s3.get_object(Bucket="other", Key="copy")["Body"].read() == DATA
    part = s3.get_object(Bucket="other", Key="big", Range="bytes=5242870-5242999")
    assert part["Body"].read() == DATA[5242870:5243000]


def test_presigned_urls_of_either_version_work(server: Opentrail) -> None:
    for version in ("s3v4", "s3"):
        s3 = server.boto("s3", KEY, SECRET, signature_version=version)
        params = {"Bucket": "other", "Key": f"signed-{version}"}
        put = s3.generate_presigned_url("put_object", Params=params)
        request = urllib.request.Request(put, data=DATA[:5000], method="PUT")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310
        get = s3.generate_presigned_url("get_object", Params=params)
        assert urllib.request.urlopen(get).read() == DATA[:5000]  # noqa: S310


def test_an_unsigned_call_does_not_get_our_rights(server: Opentrail) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.url}/other/plain")  # noqa: S310
    assert caught.value.code == 403
    record = next(r for r in server.records() if r.get("errorCode"))
    assert record["userIdentity"]["accountId"] == "ANONYMOUS_PRINCIPAL"


@pytest.mark.parametrize("trailer", [False, True])
def test_uploads_in_signed_chunks_are_re_signed(server: Opentrail, trailer: bool) -> None:
    pieces = [DATA[:65536], DATA[65536:131072], DATA[131072:140000]]
    key = f"chunked-{trailer}"
    status, body = put_chunked(server, key, pieces, trailer)
    assert status == 200, body
    got = server.boto("s3", KEY, SECRET).get_object(Bucket="other", Key=key)
    assert got["Body"].read() == DATA[:140000]


def put_chunked(
    server: Opentrail, key: str, pieces: list[bytes], trailer: bool
) -> tuple[int, bytes]:
    """Uploads as the Java and Go SDKs do over plain HTTP."""
    length = sum(len(piece) for piece in pieces)
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    host = server.url.removeprefix("http://")
    headers = {
        "Host": host,
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(length),
    }
    last = b""
    if trailer:
        digest = hashlib.sha256(b"".join(pieces)).digest()
        headers["X-Amz-Trailer"] = "x-amz-checksum-sha256"
        last = b"x-amz-checksum-sha256:" + base64.b64encode(digest)
    request = AWSRequest("PUT", f"{server.url}/other/{key}", headers=headers)

    class Signer(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, _request: AWSRequest) -> str:
            return kind

    Signer(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    stamp = request.headers["X-Amz-Date"]
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    seed = request.headers["Authorization"].rpartition("Signature=")[2]
    body = chunked(pieces, SECRET, scope, stamp, seed, last)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join([f"PUT /other/{key} HTTP/1.1", *lines, f"Content-Length: {len(body)}"])
    wire = Wire.to(server.url).send(head + "\r\n\r\n").send(body)
    status, _, answer = wire.answer()
    return status, answer


def test_an_invalid_chunk_breaks_the_upload(server: Opentrail) -> None:
    status, _ = put_chunked(server, "good", [b"x" * 10], False)
    assert status == 200
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    head = (
        f"PUT /other/bad HTTP/1.1\r\nHost: h\r\nX-Amz-Date: {stamp}\r\n"
        f"Authorization: AWS4-HMAC-SHA256 Credential={KEY}/{stamp[:8]}/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host, Signature={'0' * 64}\r\nContent-Length: 100\r\n"
        "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n\r\n"
    )
    wire = Wire.to(server.url).send(head + "5\r\nhello\r\n" + "x" * 90)
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.answer()[0] == 400
    (record,) = [
        r for r in server.records("EventName=PutObject") if r["requestParameters"]["key"] == "bad"
    ]
    assert "signed chunks" in str(record)
