"""An independent reader of a trail's bucket, written from cloudtrail-format §5, not from our code.

It trusts nothing but the public keys: names, bytes, hashes, signatures and the order of digests.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import rsa

from opentrail.ports.signer import SigningKey
from tests.fakes import StoredObject

#: bucket → key → object
Objects = Mapping[str, Mapping[str, StoredObject]]

LOG_KEY = re.compile(
    r"^(?P<prefix>.*?/)?AWSLogs/(?P<organization>o-[a-z0-9]+/)?(?P<account>\d{12})/"
    r"(?P<kind>CloudTrail|CloudTrail-NetworkActivity|CloudTrail-Insight)/(?P<region>[a-z0-9-]+)/"
    r"(?P<day>\d{4}/\d\d/\d\d)/"
    r"(?P=account)_(?P=kind)_(?P=region)_(?P<stamp>\d{8}T\d{4}Z)_[A-Za-z0-9]{16}\.json\.gz$"
)
DIGEST_KEY = re.compile(
    r"^(?P<prefix>.*?/)?AWSLogs/(?P<organization>o-[a-z0-9]+/)?(?P<account>\d{12})/"
    r"CloudTrail-Digest/(?P<region>[a-z0-9-]+)/"
    r"(?P<day>\d{4}/\d\d/\d\d)/"
    r"(?P=account)_CloudTrail-Digest_(?P=region)_(?P<trail>.+)_(?P<home>[a-z0-9-]+)_"
    r"(?P<stamp>\d{8}T\d{6}Z)\.json\.gz$"
)
DIGEST_FIELDS = {
    *("awsAccountId", "digestStartTime", "digestEndTime", "digestS3Bucket", "digestS3Object"),
    *("digestPublicKeyFingerprint", "digestSignatureAlgorithm"),
    *("newestEventTime", "oldestEventTime"),
    *("previousDigestS3Bucket", "previousDigestS3Object", "previousDigestHashValue"),
    *("previousDigestHashAlgorithm", "previousDigestSignature", "logFiles"),
}
LOG_FIELDS = {
    *("s3Bucket", "s3Object", "hashValue", "hashAlgorithm", "newestEventTime", "oldestEventTime"),
}
PREVIOUS = (
    *("previousDigestS3Bucket", "previousDigestS3Object", "previousDigestHashValue"),
    *("previousDigestHashAlgorithm", "previousDigestSignature"),
)
#: Folder and name by category (cloudtrail-format §5.1).
KINDS = {
    "Management": "CloudTrail",
    "Data": "CloudTrail",
    "NetworkActivity": "CloudTrail-NetworkActivity",
    "Insight": "CloudTrail-Insight",
}
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class LogFile:
    """A log file: where it is, its uncompressed bytes, its records."""

    bucket: str
    key: str
    content: bytes
    region: str
    records: list[dict[str, Any]]

    @property
    def event_ids(self) -> list[str]:
        return [record["eventID"] for record in self.records]


@dataclass
class Digest:
    """A digest file that passed the checks of single files."""

    bucket: str
    key: str
    content: bytes
    signature: str
    document: dict[str, Any]

    @property
    def place(self) -> tuple[str, str]:
        return self.bucket, self.key

    @property
    def logs(self) -> list[str]:
        return [log["s3Object"] for log in self.document["logFiles"]]


@dataclass
class Delivered:
    """The whole content of a trail's buckets."""

    logs: list[LogFile] = field(default_factory=list)
    #: Region → chains, each from its starting digest to its last. For an organization's trail, the
    #: key is `o-…/account/region`.
    chains: dict[str, list[list[Digest]]] = field(default_factory=dict)

    @property
    def event_ids(self) -> list[str]:
        return [event_id for log in self.logs for event_id in log.event_ids]

    @property
    def digests(self) -> list[Digest]:
        return [d for chains in self.chains.values() for chain in chains for d in chain]

    def chain(self, region: str = "us-east-1") -> list[Digest]:
        """Returns the one chain of a Region."""
        (chain,) = self.chains[region]
        return chain


def read_logs(objects: Objects) -> list[LogFile]:
    """Returns every log file, after checks of its name and form."""
    logs = []
    for bucket, key, stored in _each(objects):
        if "/CloudTrail-Digest/" in f"/{key}" or not stored.content:
            continue
        name = LOG_KEY.match(key)
        assert name, key
        assert name["stamp"][:8] == name["day"].replace("/", ""), key
        assert stored.content_type == "application/json"
        assert stored.content_encoding == "gzip"
        content = gzip.decompress(stored.content)
        document = json.loads(content)
        assert list(document) == ["Records"], key
        assert document["Records"], f"{key} is empty"
        for record in document["Records"]:
            assert record["awsRegion"] == name["region"], key
            assert record["recipientAccountId"] == name["account"], key
            assert KINDS[record["eventCategory"]] == name["kind"], key
        logs.append(LogFile(bucket, key, content, name["region"], document["Records"]))
    return logs


def read_digests(objects: Objects, keys: list[SigningKey]) -> list[Digest]:
    """Returns every digest file, each checked for form, place and signature."""
    digests = []
    for bucket, key, stored in _each(objects):
        if "/CloudTrail-Digest/" in f"/{key}" and stored.content:
            digests.append(_read_digest(bucket, key, stored, keys))
    return digests


def _read_digest(bucket: str, key: str, stored: StoredObject, keys: list[SigningKey]) -> Digest:
    name = DIGEST_KEY.match(key)
    assert name, key
    content = gzip.decompress(stored.content)
    document = json.loads(content)
    assert set(document) == DIGEST_FIELDS, key
    assert document["awsAccountId"] == name["account"]
    assert (document["digestS3Bucket"], document["digestS3Object"]) == (bucket, key)
    start, end = (_time(document[f"digest{part}Time"]) for part in ("Start", "End"))
    assert start < end, key
    assert f"{end:%Y%m%dT%H%M%SZ}" == name["stamp"], key
    assert f"{end:%Y/%m/%d}" == name["day"], key
    nulls = [document[member] is None for member in PREVIOUS]
    assert all(nulls) or not any(nulls), key
    _check_log_list(document, key)
    assert document["digestSignatureAlgorithm"] == "SHA256withRSA"
    assert stored.metadata["signature-algorithm"] == "SHA256withRSA"
    signature = stored.metadata["signature"]
    assert signature == signature.lower()
    _check_signature(document, content, signature, keys)
    return Digest(bucket, key, content, signature, document)


def _check_log_list(document: dict[str, Any], key: str) -> None:
    logs = document["logFiles"]
    for log in logs:
        assert set(log) == LOG_FIELDS, key
        assert log["hashAlgorithm"] == "SHA-256"
    newest, oldest = document["newestEventTime"], document["oldestEventTime"]
    if not logs:
        assert newest is None, key
        assert oldest is None, key
        return
    assert newest == max(log["newestEventTime"] for log in logs), key
    assert oldest == min(log["oldestEventTime"] for log in logs), key


def _check_signature(
    document: dict[str, Any], content: bytes, signature: str, keys: list[SigningKey]
) -> None:
    fingerprint = document["digestPublicKeyFingerprint"]
    (der,) = [key.public_der for key in keys if key.fingerprint == fingerprint]
    assert hashlib.md5(der, usedforsecurity=False).hexdigest() == fingerprint
    text = "\n".join(
        [
            document["digestEndTime"],
            f"{document['digestS3Bucket']}/{document['digestS3Object']}",
            hashlib.sha256(content).hexdigest(),
            document["previousDigestSignature"] or "null",
        ]
    )
    public = rsa.PublicKey.load_pkcs1(der, format="DER")
    assert rsa.verify(text.encode(), bytes.fromhex(signature), public) == "SHA-256"


def verify(objects: Objects, keys: list[SigningKey]) -> Delivered:
    """Returns the delivered files; fails if they break a rule of the format.

    Every log file's hash is right, no log file is in two digests, and the digests of each Region
    form chains without forks or gaps in time.
    """
    delivered = Delivered(read_logs(objects))
    digests = read_digests(objects, keys)
    _check_hashes(delivered.logs, digests)
    by_place: defaultdict[str, list[Digest]] = defaultdict(list)
    for digest in digests:
        place = _place(DIGEST_KEY, digest.key)
        by_place[place].append(digest)
        for log in digest.logs:
            assert _place(LOG_KEY, log) == place, log
    delivered.chains = {place: _chains(of) for place, of in by_place.items()}
    return delivered


def _place(form: re.Pattern[str], key: str) -> str:
    name = form.match(key)
    assert name, key
    if not name["organization"]:
        return name["region"]
    return f"{name['organization']}{name['account']}/{name['region']}"


def _check_hashes(logs: list[LogFile], digests: list[Digest]) -> None:
    known = {(log.bucket, log.key): log for log in logs}
    seen: set[tuple[str, str]] = set()
    for listed in (entry for digest in digests for entry in digest.document["logFiles"]):
        place = (listed["s3Bucket"], listed["s3Object"])
        assert place in known, f"{place} is listed but not there"
        assert place not in seen, f"{place} is listed twice"
        seen.add(place)
        log = known[place]
        assert hashlib.sha256(log.content).hexdigest() == listed["hashValue"], place
        times = [record["eventTime"] for record in log.records]
        assert (min(times), max(times)) == (listed["oldestEventTime"], listed["newestEventTime"])


def _chains(digests: list[Digest]) -> list[list[Digest]]:
    following: dict[tuple[str, str] | None, list[Digest]] = defaultdict(list)
    for digest in digests:
        if digest.document["previousDigestS3Object"] is None:
            following[None].append(digest)
            continue
        before = (
            digest.document["previousDigestS3Bucket"],
            digest.document["previousDigestS3Object"],
        )
        following[before].append(digest)
    chains = []
    for start in sorted(following[None], key=lambda d: str(d.document["digestEndTime"])):
        chain = [start]
        while nexts := following.get(chain[-1].place):
            (after,) = nexts
            _check_link(chain[-1], after)
            chain.append(after)
        chains.append(chain)
    assert sum(len(chain) for chain in chains) == len(digests), "a digest hangs in the air"
    return chains


def _check_link(before: Digest, after: Digest) -> None:
    assert after.document["previousDigestHashAlgorithm"] == "SHA-256"
    digest = hashlib.sha256(before.content).hexdigest()
    assert after.document["previousDigestHashValue"] == digest, after.key
    assert after.document["previousDigestSignature"] == before.signature, after.key
    assert after.document["digestStartTime"] == before.document["digestEndTime"], after.key


def _each(objects: Objects) -> list[tuple[str, str, StoredObject]]:
    return [(b, key, kept[key]) for b, kept in objects.items() for key in sorted(kept)]


def _time(text: str) -> datetime:
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)
