"""Results of queries are written to S3 as CloudTrail Lake and Athena do."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.core.errors import CloudTrailError, ObjectStoreError, QueryFailed
from opentrail.core.trail import Span, Trail
from opentrail.lake.event_history import store_arn
from opentrail.ports.queries import ResultPlace, Row, StoredQuery
from opentrail.trails import query_results
from opentrail.trails.destinations import Destinations
from opentrail.trails.query_results import S3ResultDelivery
from opentrail.trails.registry import StoredTrail
from tests.factories import ACCOUNT, REGION, a_trail
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

    async def rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        return self.all_rows[first : first + limit]


class World:
    def __init__(
        self,
        policy: str | None = None,
        *trails: Trail,
        has_own_rights: bool = False,
        is_enforced: bool = False,
    ) -> None:
        self.objects = MemoryObjects("bucket")
        services = MemoryServices()
        if policy is not None:
            self.objects.policies["bucket"] = policy
        self.trails = [StoredTrail(trail, 1) for trail in trails]
        destinations = Destinations(
            self.objects,
            services,
            services,
            services,
            policy_enforced=is_enforced,
            has_own_rights=has_own_rights,
            trails=self._trails,
        )
        self.signer = MemorySigner()
        self.delivery = S3ResultDelivery(self.objects, destinations, self.signer)

    async def _trails(self) -> list[StoredTrail]:
        return self.trails

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
    text = None if policy is None else json.dumps({"Statement": [policy]})
    world = World(text, is_enforced=policy is not None)
    if code is None:
        await world.delivery.verify(uri, ARN)
        return
    with pytest.raises(CloudTrailError) as error:
        await world.delivery.verify(uri, ARN)
    assert error.value.code == code


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://bucket/../other", "s3://bucket/a/../../x", "s3://bucket/./a", "s3://bucket//a"),
        *("s3://bucket/a\0b", "s3://bucket/a\n", f"s3://bucket/{'a' * 201}", "s3://bucket/\u202e"),
    ],
)
@asynchronous
async def test_prefix_has_the_form_of_a_trails(uri: str) -> None:
    with pytest.raises(CloudTrailError) as error:
        await World().delivery.verify(uri, ARN)
    assert error.value.code in ("InvalidS3PrefixException", "InvalidParameterException")


PLAIN = a_trail(bucket="bucket", prefix="")
MOVED = replace(
    a_trail(bucket="elsewhere", prefix=""),
    spans=(Span(0, 9, "2020-01-01T09:00:00Z", "bucket", "old", True, True, True),),
)


@pytest.mark.parametrize(
    ("trail", "prefix", "is_refused"),
    [
        (PLAIN, "AWSLogs", True),
        (PLAIN, f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/us-east-1", True),
        (PLAIN, f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/2026/11/30", True),
        (PLAIN, "AWSLogs/o-example/1/CloudTrail-Insight", True),
        (PLAIN, "AWSLogsOfOthers", False),
        (PLAIN, "results", False),
        (PLAIN, "", False),
        (MOVED, "old/AWSLogs/x", True),
        (MOVED, "AWSLogs/x", False),
        (MOVED, "old", False),
    ],
)
@asynchronous
async def test_no_result_goes_to_a_trails_folder(
    trail: Trail, prefix: str, is_refused: bool
) -> None:
    world, uri = World(None, trail), f"s3://bucket/{prefix}"
    if not is_refused:
        await world.delivery.verify(uri, ARN)
        await world.deliver(uri, ["Mary", "1"])
        assert world.stored
        return
    with pytest.raises(CloudTrailError) as error:
        await world.delivery.verify(uri, ARN)
    assert error.value.code == "InvalidS3PrefixException"
    with pytest.raises(QueryFailed, match="A trail writes to"):  # the trail may be newer
        await world.deliver(uri, ["Mary", "1"])
    assert world.stored == {}


@pytest.mark.parametrize("has_own_rights", [False, True])
@pytest.mark.parametrize("may_write", [None, False, True])
@pytest.mark.parametrize("policy", [None, _POLICY])
@asynchronous
async def test_caller_or_policy_must_allow_the_result(
    has_own_rights: bool, may_write: bool | None, policy: object
) -> None:
    text = None if policy is None else json.dumps({"Statement": [policy]})
    world = World(text, has_own_rights=has_own_rights)
    is_allowed = bool(policy) or (not has_own_rights if may_write is None else may_write)
    if is_allowed:
        await world.delivery.verify("s3://bucket/a", ARN, may_write)
        return
    with pytest.raises(CloudTrailError) as error:
        await world.delivery.verify("s3://bucket/a", ARN, may_write)
    assert error.value.code == "InsufficientS3BucketPolicyException"
