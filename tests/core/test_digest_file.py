"""Names and bytes of digest files, byte for byte as in cloudtrail-format §5."""

import json
from datetime import UTC, datetime

from opentrail.core.logfile import (
    DeliveredLog,
    LogFileLocation,
    PreviousDigest,
    digest_bytes,
    digest_key,
    string_to_sign,
)

PLACE = LogFileLocation("my-bucket", "", "111122223333", "us-east-2")
END = datetime(2015, 8, 17, 15, 1, 31, tzinfo=UTC)
FINGERPRINT = "31e8b5433410dfb61a9dc45cc65b22ff"

EARLY = DeliveredLog(
    "my-bucket", "AWSLogs/1.json.gz", "aa" * 32, "2015-08-17T14:00:00Z", "2015-08-17T14:10:00Z"
)
LATE = DeliveredLog(
    "my-bucket", "AWSLogs/2.json.gz", "bb" * 32, "2015-08-17T14:05:00Z", "2015-08-17T14:50:00Z"
)
PREVIOUS = PreviousDigest("old-bucket", "AWSLogs/before.json.gz", "cc" * 32, "50887ccf")


def a_digest(*logs: DeliveredLog, previous: PreviousDigest | None = PREVIOUS) -> bytes:
    start, end = "2015-08-17T14:01:31Z", "2015-08-17T15:01:31Z"
    return digest_bytes(PLACE, "KEY", start, end, FINGERPRINT, logs, previous)


# Keys


def test_digest_has_the_key_that_aws_gives_it() -> None:
    assert digest_key(PLACE, "my-trail", "us-west-2", END) == (
        "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2015/08/17/"
        "111122223333_CloudTrail-Digest_us-east-2_my-trail_us-west-2_20150817T150131Z.json.gz"
    )


def test_a_digest_has_awss_members_in_order() -> None:
    assert json.loads(a_digest(EARLY)) == {
        "awsAccountId": "111122223333",
        "digestStartTime": "2015-08-17T14:01:31Z",
        "digestEndTime": "2015-08-17T15:01:31Z",
        "digestS3Bucket": "my-bucket",
        "digestS3Object": "KEY",
        "digestPublicKeyFingerprint": FINGERPRINT,
        "digestSignatureAlgorithm": "SHA256withRSA",
        "newestEventTime": "2015-08-17T14:10:00Z",
        "oldestEventTime": "2015-08-17T14:00:00Z",
        "previousDigestS3Bucket": "old-bucket",
        "previousDigestS3Object": "AWSLogs/before.json.gz",
        "previousDigestHashValue": "cc" * 32,
        "previousDigestHashAlgorithm": "SHA-256",
        "previousDigestSignature": "50887ccf",
        "logFiles": [
            {
                "s3Bucket": "my-bucket",
                "s3Object": "AWSLogs/1.json.gz",
                "hashValue": "aa" * 32,
                "hashAlgorithm": "SHA-256",
                "newestEventTime": "2015-08-17T14:10:00Z",
                "oldestEventTime": "2015-08-17T14:00:00Z",
            }
        ],
    }
    members = list(json.loads(a_digest(EARLY)))
    assert members[:3] == ["awsAccountId", "digestStartTime", "digestEndTime"]
    assert members[-1] == "logFiles"


def test_a_starting_digest_has_five_null_members() -> None:
    document = json.loads(a_digest(EARLY, previous=None))
    previous = {name: value for name, value in document.items() if name.startswith("previous")}
    assert previous == {
        "previousDigestS3Bucket": None,
        "previousDigestS3Object": None,
        "previousDigestHashValue": None,
        "previousDigestHashAlgorithm": None,
        "previousDigestSignature": None,
    }


def test_empty_digest_has_no_times_and_no_files() -> None:
    document = json.loads(a_digest())
    assert document["newestEventTime"] is None
    assert document["oldestEventTime"] is None
    assert document["logFiles"] == []


def test_a_digest_spans_its_files_and_sorts_them() -> None:
    document = json.loads(a_digest(EARLY, LATE))
    assert document["oldestEventTime"] == "2015-08-17T14:00:00Z"
    assert document["newestEventTime"] == "2015-08-17T14:50:00Z"
    assert [log["s3Object"] for log in document["logFiles"]] == [LATE.key, EARLY.key]


def test_order_of_delivery_does_not_change_a_digest() -> None:
    assert a_digest(EARLY, LATE) == a_digest(LATE, EARLY)


# Signatures


def test_signed_text_has_time_place_hash_and_signature() -> None:
    content = b'{"awsAccountId":"111122223333"}'
    expected = (
        "2015-08-17T15:01:31Z\n"
        "my-bucket/AWSLogs/111122223333/CloudTrail-Digest/us-east-2/digest.json.gz\n"
        "9d1e5ec8962505e70da8d0bcbe0d4c87dad7f46c909635cf72c8a47c6dcef774\n"
        "50887ccf"
    )
    key = "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/digest.json.gz"
    signed = string_to_sign("2015-08-17T15:01:31Z", "my-bucket", key, content, PREVIOUS)
    assert signed == expected.encode()


def test_a_chains_first_digest_signs_the_word_null() -> None:
    signed = string_to_sign("2015-08-17T15:01:31Z", "b", "k", b"", None)
    assert signed == (
        b"2015-08-17T15:01:31Z\nb/k\n"
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nnull"
    )
