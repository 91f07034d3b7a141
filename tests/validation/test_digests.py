"""Digest files are read strictly."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from opentrail.validation.content import BadContent
from opentrail.validation.digests import read_digest, signature_bytes
from tests.fakes import utc
from tests.validation.delivered import six_hours


def document(number: int = 2) -> dict[str, Any]:
    trail = six_hours()
    content: dict[str, Any] = json.loads(trail.content(trail.digests()[number]))
    return content


def packed(content: object) -> bytes:
    return gzip.compress(json.dumps(content).encode())


def test_a_digest_names_its_log_files_and_predecessor() -> None:
    content = document()
    digest = read_digest(packed(content))
    assert (digest.start, digest.end) == (utc("2020-01-01T11:00:00"), utc("2020-01-01T12:00:00"))
    assert digest.previous is not None
    assert digest.previous.key == content["previousDigestS3Object"]
    assert [log.key for log in digest.logs()] == [log["s3Object"] for log in content["logFiles"]]
    assert digest.log_places == {("my-bucket", "")}


def test_the_text_to_sign_has_the_documented_format() -> None:
    content = document(0)
    digest = read_digest(packed(content))
    lines = digest.text_to_sign().decode().split("\n")
    assert lines == [
        content["digestEndTime"],
        f"{content['digestS3Bucket']}/{content['digestS3Object']}",
        digest.sha256,
        "null",
    ]
    assert (
        read_digest(packed(document()))
        .text_to_sign()
        .decode()
        .endswith(document()["previousDigestSignature"])
    )


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("digestEndTime", "2020-01-01T11:00:00Z", "not before digestEndTime"),
        ("digestEndTime", "noon", "digestEndTime: 'noon' is not a time"),
        ("digestStartTime", None, "digestStartTime: None is not a time"),
        ("digestS3Object", "", "no digestS3Object"),
        ("digestPublicKeyFingerprint", 5, "no digestPublicKeyFingerprint"),
        ("previousDigestHashValue", None, "no previousDigestHashValue"),
        ("previousDigestHashValue", "00", "previousDigestHashValue is not a SHA-256"),
        ("previousDigestHashAlgorithm", "MD5", "previousDigestHashAlgorithm is not SHA-256"),
        ("logFiles", None, "logFiles is not a list"),
        ("logFiles", ["x"], "an element of logFiles is not an object"),
        ("logFiles", [{"s3Bucket": "b"}], "no s3Object"),
    ],
)
def test_an_invalid_digest_is_an_error(member: str, value: object, reason: str) -> None:
    with pytest.raises(BadContent, match=reason):
        read_digest(packed({**document(), member: value}))


def test_every_member_about_the_predecessor_is_required() -> None:
    content = document(0)
    del content["previousDigestSignature"]
    with pytest.raises(BadContent, match="no previousDigestSignature"):
        read_digest(packed(content))


@pytest.mark.parametrize(
    ("member", "value"), [("hashAlgorithm", "MD5"), ("hashValue", "00"), ("hashValue", None)]
)
def test_an_invalid_log_file_entry_is_an_error(member: str, value: object) -> None:
    content = document()
    content["logFiles"][1][member] = value
    with pytest.raises(BadContent, match=r"hashAlgorithm|hashValue"):
        read_digest(packed(content))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"1"])
def test_a_digest_must_be_a_json_object(content: bytes) -> None:
    with pytest.raises(BadContent, match=r"not JSON|not a JSON object"):
        read_digest(gzip.compress(content))


def test_only_hex_is_a_signature() -> None:
    assert signature_bytes("00fF") == b"\0\xff"
    for text in ("", "0", "0x00", "00 ff", "zz"):
        assert signature_bytes(text) is None
