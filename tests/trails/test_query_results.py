"""Results of queries are written to S3 as CloudTrail Lake and Athena do."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.core.errors import CloudTrailError, ObjectStoreError, QueryFailed
from opentrail.lake.event_history import store_arn
from opentrail.ports.queries import ResultPlace, Row, StoredQuery
from opentrail.trails import query_results
from opentrail.trails.destinations import Destinations
from opentrail.trails.query_results import S3ResultDelivery
from tests.factories import ACCOUNT, REGION
from tests.fakes import Fault, MemoryObjects, MemoryServices, MemorySigner, asynchronous
from tests.lake.stand_ins import MemoryQueries

ENDED = datetime(2026, 11, 30, 9, 0, tzinfo=UTC).timestamp()
QUERY = StoredQuery(
    "q1",
    "SELECT 1",
    ACCOUNT,
    [ACCOUNT],
    "FINISHED",
    ENDED - 1,
    ENDED,
    columns=[("name", "varchar"), ("n", "integer")],
)
FOLDER = f"AWSLogs/{ACCOUNT}/CloudTrail-Lake/Query/2026/11/30/q1/"
ARN = store_arn(REGION, ACCOUNT)


class Results(MemoryQueries):
    """A store whose results have given rows."""

    def __init__(self, *rows: Row) -> None:
        super().__init__()
        self.all_rows = list(rows)

    async def rows(self, query_id: str, first: int, limit: int) -> list[Row]:
        return self.all_rows[first : first + limit]


class World:
    def __init__(self, policy: str | None = None) -> None:
        self.objects = MemoryObjects("bucket")
        services = MemoryServices()
        if policy is not None:
            self.objects.policies["bucket"] = policy
        destinations = Destinations(
            self.objects, services, services, services, policy_enforced=policy is not None
        )
        self.signer = MemorySigner()
        self.delivery = S3ResultDelivery(self.objects, destinations, self.signer)

    async def deliver(self, uri: str, *rows: Row, region: str = REGION) -> None:
        await self.delivery.deliver(QUERY, ResultPlace(uri, region), Results(*rows))

    @property
    def stored(self) -> dict[str, bytes]:
        return {key: each.content for key, each in self.objects.disk.objects["bucket"].items()}

    async def verify(self, under: str) -> int:
        """Verifies a result as an auditor would; returns the number of its files."""
        sign = json.loads(self.stored[f"{under}result_sign.json"])
        for file in sign["files"]:
            packed = self.stored[under + file["fileName"]]
            assert hashlib.sha256(packed).hexdigest() == file["fileHashValue"]
        (key,) = await self.signer.keys()
        assert key.fingerprint == sign["publicKeyFingerprint"]
        text = " ".join(file["fileHashValue"] for file in sign["files"]).encode()
        public = serialization.load_der_public_key(key.public_der)
        assert isinstance(public, rsa.RSAPublicKey)
        signature = bytes.fromhex(sign["hashSignature"])
        public.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        assert (sign["region"], sign["queryCompleteTime"]) == (REGION, "2026-11-30T09:00:00Z")
        return len(sign["files"])


@pytest.mark.parametrize(
    ("uri", "under"),
    [
        ("s3://bucket", FOLDER),
        ("s3://bucket/", FOLDER),
        ("s3://bucket/a/b", f"a/b/{FOLDER}"),
        ("s3://bucket/a/b/", f"a/b/{FOLDER}"),
    ],
)
@asynchronous
async def test_result_is_signed(uri: str, under: str) -> None:
    world = World()
    await world.deliver(uri, ["Mary", "1"], ['a "b", c\n', None])
    assert await world.verify(under) == 1
    text = gzip.decompress(world.stored[f"{under}result_1.csv.gz"]).decode()
    assert text == '"name","n"\n"Mary","1"\n"a ""b"", c\n",\n'


@asynchronous
async def test_large_result_has_several_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_results, "FILE_BYTES", 10_000)
    world = World()
    rows: list[Row] = [[f"name {n}", str(n)] for n in range(2_500)]
    await world.deliver("s3://bucket", *rows)
    assert await world.verify(FOLDER) == 3
    found: list[list[str]] = []
    for number in (1, 2, 3):
        text = gzip.decompress(world.stored[f"{FOLDER}result_{number}.csv.gz"]).decode()
        header, *part = csv.reader(io.StringIO(text))
        assert header == ["name", "n"]
        found += part
    assert found == rows


@asynchronous
async def test_empty_result_has_a_header() -> None:
    world = World()
    await world.deliver("s3://bucket")
    assert await world.verify(FOLDER) == 1
    assert gzip.decompress(world.stored[f"{FOLDER}result_1.csv.gz"]) == b'"name","n"\n'


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("nth", [0, 1])
@asynchronous
async def test_faulty_store_leaves_no_signature_over_absent_files(fault: Fault, nth: int) -> None:
    world = World()
    world.objects.faults.extend([*[None] * nth, fault])
    try:
        await world.deliver("s3://bucket", ["Mary", "1"])
    except ObjectStoreError:
        if nth == 0:
            assert f"{FOLDER}result_sign.json" not in world.stored
        if fault is Fault.WRONG_BYTES:
            return
        await world.deliver("s3://bucket", ["Mary", "1"])
    assert await world.verify(FOLDER) == 1


@asynchronous
async def test_athena_clients_get_one_file() -> None:
    world = World()
    await world.deliver("s3://bucket/results/", ["Mary", None], region="")
    assert world.stored == {"results/q1.csv": b'"name","n"\n"Mary",\n'}


@asynchronous
async def test_too_large_result_for_athena_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_results, "MAX_ATHENA_BYTES", 10_000)
    world = World()
    rows: list[Row] = [["name", "1"]] * 2_500
    with pytest.raises(QueryFailed, match="add a LIMIT"):
        await world.deliver("s3://bucket", *rows, region="")
    assert world.stored == {}


_POLICY = {
    "Effect": "Allow",
    "Principal": {"Service": "cloudtrail.amazonaws.com"},
    "Action": ["s3:PutObject*", "s3:Abort*", "s3:GetBucketAcl"],
    "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
    "Condition": {"StringLike": {"aws:sourceArn": ARN, "aws:sourceAccount": ACCOUNT}},
}


@pytest.mark.parametrize(
    ("uri", "policy", "code"),
    [
        ("s3://bucket/a", None, None),
        ("s3://nosuch", None, "S3BucketDoesNotExistException"),
        ("bucket", None, "InvalidParameterException"),
        ("https://bucket", None, "InvalidParameterException"),
        ("s3://", None, "InvalidParameterException"),
        ("s3://Bucket_1", None, "InvalidS3BucketNameException"),
        ("s3://bucket/a", _POLICY, None),
        (
            "s3://bucket",
            {**_POLICY, "Action": "s3:GetBucketAcl"},
            "InsufficientS3BucketPolicyException",
        ),
    ],
)
@asynchronous
async def test_place_is_verified(uri: str, policy: object, code: str | None) -> None:
    world = World(None if policy is None else json.dumps({"Statement": [policy]}))
    if code is None:
        await world.delivery.verify(uri, ARN)
        return
    with pytest.raises(CloudTrailError) as error:
        await world.delivery.verify(uri, ARN)
    assert error.value.code == code
