"""Buckets, listed by part."""

from __future__ import annotations

import pytest

from opentrail.core.errors import UsageError
from opentrail.validation.buckets import Buckets, bucket_and_prefix
from tests.trails.world import BUCKET
from tests.validation.delivered import MemoryReader, six_hours


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://logs", ("logs", "")),
        ("s3://logs/", ("logs", "")),
        ("s3://logs/team", ("logs", "team/")),
        ("s3://logs/team/a//", ("logs", "team/a/")),
    ],
)
def test_an_address_names_bucket_and_prefix(address: str, expected: tuple[str, str]) -> None:
    assert bucket_and_prefix(address) == expected


@pytest.mark.parametrize("address", ["s3://", "s3:///team"])
def test_an_address_without_a_bucket_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        bucket_and_prefix(address)


def test_only_cloudtrails_files_under_the_prefix_are_listed() -> None:
    trail = six_hours()
    trail.bucket["notes.txt"] = trail.bucket[trail.logs()[0]]
    buckets = Buckets(lambda: MemoryReader(trail.objects))
    assert not buckets.is_used
    part = buckets.under(BUCKET, "AWSLogs/123456789012/CloudTrail-Digest/")
    assert sum(1 for _ in part.files()) == 12
    assert len({id(root) for root, _, _ in buckets.under(BUCKET, "").files()}) == 1
    assert sum(1 for _ in buckets.under(BUCKET, "").files()) == 48
    assert buckets.is_used


def test_has_listed_covers_the_prefix() -> None:
    buckets = Buckets(lambda: MemoryReader({}))
    buckets.under("logs", "team/")
    assert buckets.has_listed("logs", "team/AWSLogs/x")
    assert not buckets.has_listed("logs", "AWSLogs/x")
    assert not buckets.has_listed("other", "team/AWSLogs/x")


def test_an_object_has_the_signature_in_its_metadata() -> None:
    trail = six_hours()
    key = trail.digests()[0]
    root = Buckets(lambda: MemoryReader(trail.objects)).root(BUCKET, "")
    opened = root.open(key)
    assert opened.signature == trail.bucket[key].metadata["signature"]
    assert opened.algorithm == "SHA256withRSA"
    assert root.open(trail.logs()[0]).signature is None
    assert root.covers(key)
    assert not root.covers("other/x")
