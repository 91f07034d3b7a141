"""Real SeaweedFS behind the endpoint, signatures checked: byte-equal, recorded, and lasting."""

from __future__ import annotations

import io
import random
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import pytest
from boto3.s3.transfer import TransferConfig

from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

MEGABYTE = 1024 * 1024
DATA = random.Random(7).randbytes(20 * MEGABYTE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder: Path = tmp_path_factory.mktemp("seaweedfs")
    with opentrail_server(
        folder / "data", "--s3", "seaweedfs", command="sandbox", port=0
    ) as running:
        running.boto("s3").create_bucket(Bucket="real")
        yield running


def names(server: Opentrail, key: str) -> list[str]:
    found = [
        record["eventName"]
        for record in server.records()
        if (record["requestParameters"] or {}).get("key") == key
    ]
    return found[::-1]


def test_the_store_refuses_a_wrong_signature(server: Opentrail) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        server.boto("s3", secret="wrong").list_buckets()
    record = next(r for r in server.records() if r["eventName"] == "ListBuckets")
    assert record["errorCode"] == "SignatureDoesNotMatch"


@pytest.mark.parametrize("key", ["plain", "a b/ü+%2F&=?#'\"", "deep/" * 20 + "x"])
def test_objects_of_odd_names_are_read_back(server: Opentrail, key: str) -> None:
    s3 = server.boto("s3")
    s3.put_object(Bucket="real", Key=key, Body=DATA[:100_000], Metadata={"a": "b"})
    assert s3.get_object(Bucket="real", Key=key)["Body"].read() == DATA[:100_000]
    assert s3.head_object(Bucket="real", Key=key)["ContentLength"] == 100_000
    s3.delete_object(Bucket="real", Key=key)
    assert names(server, key) == ["PutObject", "GetObject", "HeadObject", "DeleteObject"]


def test_multipart_copies_and_ranges_are_byte_equal(server: Opentrail) -> None:
    s3 = server.boto("s3", attempts=5)  # concurrent parts may be throttled
    config = TransferConfig(multipart_threshold=5 * MEGABYTE, multipart_chunksize=5 * MEGABYTE)
    s3.upload_fileobj(io.BytesIO(DATA), "real", "big", Config=config)
    assert s3.get_object(Bucket="real", Key="big")["Body"].read() == DATA
    part = s3.get_object(Bucket="real", Key="big", Range="bytes=5242870-5242999")
    assert part["Body"].read() == DATA[5242870:5243000]
    s3.copy_object(Bucket="real", Key="copy", CopySource="real/big")
    downloaded = io.BytesIO()
    s3.download_fileobj("real", "copy", downloaded, Config=config)
    assert downloaded.getvalue() == DATA
    said = names(server, "big")
    assert said.count("UploadPart") == 4
    assert {"CreateMultipartUpload", "CompleteMultipartUpload"} <= set(said)
    assert names(server, "copy")[0] == "CopyObject"


def test_objects_deleted_together_have_a_record_each(server: Opentrail) -> None:
    s3 = server.boto("s3")
    keys = [f"together/ü {number}" for number in range(3)]
    for key in keys:
        s3.put_object(Bucket="real", Key=key, Body=b"")
    s3.delete_objects(Bucket="real", Delete={"Objects": [{"Key": key} for key in keys]})
    (call,) = server.records("EventName=DeleteObjects")
    for key in keys:
        assert names(server, key) == ["PutObject", "DeleteObject"]
    for record in server.records("EventName=DeleteObject"):
        if record["requestParameters"]["key"] in keys:
            assert record["requestID"] == call["requestID"]
            assert record["additionalEventData"]["opentrail"] == {"partOf": call["eventID"]}


def test_presigned_urls_work_and_record_their_method(server: Opentrail) -> None:
    s3 = server.boto("s3", signature_version="s3v4")
    put = s3.generate_presigned_url("put_object", Params={"Bucket": "real", "Key": "signed"})
    request = urllib.request.Request(put, data=DATA[:5000], method="PUT")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "real", "Key": "signed"})
    assert urllib.request.urlopen(get).read() == DATA[:5000]  # noqa: S310
    url, name, signature = get.partition("X-Amz-Signature=")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url + name + signature[::-1])  # noqa: S310
    records = [r for r in server.records() if (r["requestParameters"] or {}).get("key") == "signed"]
    assert {r["additionalEventData"]["AuthenticationMethod"] for r in records} == {"QueryString"}
    assert signature not in str(records)
    assert [r.get("errorCode") for r in records] == ["SignatureDoesNotMatch", None, None]


def test_streamed_uploads_with_trailers_are_byte_equal(server: Opentrail) -> None:
    s3 = server.boto("s3")
    s3.put_object(
        Bucket="real", Key="streamed", Body=io.BytesIO(DATA[:MEGABYTE]), ChecksumAlgorithm="CRC32"
    )
    assert s3.get_object(Bucket="real", Key="streamed")["Body"].read() == DATA[:MEGABYTE]
    (record,) = [
        r
        for r in server.records("EventName=PutObject")
        if r["requestParameters"]["key"] == "streamed"
    ]
    assert record["additionalEventData"]["bytesTransferredIn"] == MEGABYTE


def test_trails_are_delivered_and_survive_a_restart(tmp_path: Path) -> None:
    arn = "arn:aws:cloudtrail:us-east-1:123456789012:trail/lasting"
    flags = ("--s3", "seaweedfs", "--digest-interval", "3600")  # digests at flushes only
    with opentrail_server(tmp_path / "data", *flags, command="sandbox") as server:
        server.aws("s3", "mb", "s3://lasting")
        trail = ("--name", "lasting")
        server.aws(
            *("cloudtrail", "create-trail", *trail, "--s3-bucket-name", "lasting"),
            "--enable-log-file-validation",
        )
        server.aws("cloudtrail", "start-logging", *trail)
        for number in range(2):
            server.aws("iam", "create-user", "--user-name", f"user-{number}")
            assert server.opentrail("trail", "flush", "lasting").returncode == 0
            assert server.stop() == 0
            server.start()
            assert "starts anew" not in server.output
        said = server.aws(
            *("cloudtrail", "validate-logs", "--trail-arn", arn),
            *("--start-time", "2020-01-01T00:00:00Z"),
        )
        assert "2/2 digest files valid" in said
