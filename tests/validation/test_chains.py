"""Digests are verified one by one and linked, independently of the writer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from opentrail.validation.content import unpack
from opentrail.validation.report import Status
from tests import fakes
from tests.validation.delivered import Trail, six_hours


def sign_by_the_trail(trail: Trail, key: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a digest and signs it with the trail's own key, like a broken writer."""
    document = json.loads(trail.content(key))
    change(document)
    content = json.dumps(document, separators=(",", ":")).encode()
    before = document["previousDigestSignature"] or "null"
    place = f"{document['digestS3Bucket']}/{document['digestS3Object']}"
    text = "\n".join(
        [document["digestEndTime"], place, hashlib.sha256(content).hexdigest(), before]
    )
    private = fakes._private_key()
    signature = private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    trail.put(key, content, signature=signature.hex())


def test_digest_with_a_wrong_end_is_bad() -> None:
    trail = six_hours()
    key = trail.digests()[-1]
    sign_by_the_trail(trail, key, lambda d: d.update(digestEndTime="2020-01-01T14:59:59Z"))
    outcome = trail.validate(known=[])
    assert outcome.code == 1
    assert outcome.reason(key) == "ends at 2020-01-01T14:59:59Z, which is not the time in its name"


def test_digests_with_a_gap_are_named() -> None:
    trail = six_hours()
    key = trail.digests()[-1]
    sign_by_the_trail(trail, key, lambda d: d.update(digestStartTime="2020-01-01T14:10:00Z"))
    outcome = trail.validate(known=[])
    assert outcome.code == 1
    assert "starts at 2020-01-01T14:10:00Z" in outcome.reason(trail.digests()[-2])


def test_wrong_previous_hash_in_a_digest_is_found() -> None:
    trail = six_hours()
    key = trail.digests()[-1]
    sign_by_the_trail(trail, key, lambda d: d.update(previousDigestHashValue="0" * 64))
    outcome = trail.validate(known=[])
    assert outcome.code == 1
    assert "its hash differs from" in outcome.reason(trail.digests()[-2])


def test_wrong_previous_signature_in_a_digest_is_found() -> None:
    trail = six_hours()
    key = trail.digests()[-1]
    sign_by_the_trail(trail, key, lambda d: d.update(previousDigestSignature="00" * 256))
    outcome = trail.validate(known=[])
    assert outcome.code == 1
    assert "its signature differs from" in outcome.reason(trail.digests()[-2])


def test_an_omitted_digest_is_not_in_the_chain() -> None:
    trail = six_hours()
    older, left_out, key = trail.digests()[-3:]
    named = json.loads(trail.content(left_out))
    members = {k: v for k, v in named.items() if k.startswith("previous")}
    sign_by_the_trail(trail, key, lambda d: d.update(members))
    outcome = trail.validate(known=[])
    assert outcome.code == 1
    assert "is not in the chain" in outcome.reason(left_out)
    assert not outcome.reason(older)


def test_a_digest_of_another_account_is_named() -> None:
    trail = six_hours()
    key = trail.digests()[-1]
    sign_by_the_trail(trail, key, lambda d: d.update(awsAccountId="999999999999"))
    assert trail.validate(known=[]).reason(key) == "is of account 999999999999"


def test_signature_in_capital_letters_is_the_same_signature() -> None:
    trail = six_hours()
    key = trail.digests()[2]
    signature = trail.bucket[key].metadata["signature"].upper()
    trail.put(key, trail.content(key), signature=signature)
    assert trail.validate().code == 0


def test_later_digests_prove_a_resigned_digest() -> None:
    trail = six_hours()
    key = trail.digests()[2]
    trail.put(key, trail.content(key), signature="00" * 256)
    outcome = trail.validate()
    assert outcome.code == 1
    assert outcome.reason(key).endswith("the next digest file has the right one")
    assert len(outcome.of(Status.BAD)) == 1


def test_a_backfill_chain_may_have_gaps() -> None:
    trail = six_hours()
    first = trail.digests()[0]
    other = first.replace("100000Z.json.gz", "100000Z_backfill.json.gz")
    trail.bucket[other] = replace(trail.bucket[first], content=trail.bucket[first].content)

    def late(document: dict[str, Any]) -> None:
        document.update(digestS3Object=other, digestEndTime="2020-01-01T09:30:00Z", logFiles=[])

    sign_by_the_trail(trail, other, late)
    outcome = trail.validate()
    assert {f.status for f in outcome.report.findings} == {Status.UNKNOWN}, outcome.text()
    assert all("(backfill)" in f.name for f in outcome.report.findings)


def test_digest_is_unpacked_like_gzip() -> None:
    trail = six_hours()
    key = trail.digests()[0]
    packed = trail.bucket[key].content
    assert unpack(io.BytesIO(packed), 1 << 20) == gzip.decompress(packed)
