"""S3 through boto3: the ObjectStore on any endpoint, and reading with the user's own access."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import botocore.config
import botocore.exceptions
import botocore.parsers

from opentrail.core.errors import ObjectExists, ObjectMissing, ObjectStoreError
from opentrail.ports.objects import Bucket, NewObject

if TYPE_CHECKING:
    # It takes ten megabytes and a fifth of a second: who needs no client does not load it.
    import boto3

T = TypeVar("T")

_MISSING = frozenset({"NoSuchBucket", "NoSuchKey", "404", "NotFound"})
_EXISTS = frozenset({"PreconditionFailed", "412"})
#: Without the right to read it, a policy counts as none.
_NO_POLICY = frozenset(
    {"NoSuchBucketPolicy", "NotImplemented", "501", "MethodNotAllowed", "AccessDenied"}
)
#: What old buckets' locations are called, and what a bucket of the first Region says.
_REGION_NAMES = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}
#: What else a call may end with: no answer, or one that is not the service's.
FAILED = (botocore.exceptions.BotoCoreError, botocore.parsers.ResponseParserError, OSError)
#: Calls at a time: a store that does not answer holds up nothing else.
_AT_ONCE = 8
_NO_CONDITIONS = frozenset({"NotImplemented", "501"})


@dataclass(frozen=True, slots=True)
class S3Access:
    """How a store is reached."""

    endpoint_url: str | None
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    #: PEM file with the authorities that its certificate is checked by.
    ca: Path | None = None
    session_token: str | None = None


class S3Objects:
    """An `ObjectStore`; the client is made when it is first needed."""

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._made: Any = None
        self._lock = asyncio.Lock()
        self._conditional = True
        self._threads = ThreadPoolExecutor(_AT_ONCE, "s3")

    async def check_bucket(self, bucket: str) -> None:
        """Returns if the bucket is there and may be read."""
        await self._call(lambda s3: s3.head_bucket(Bucket=bucket), f"bucket {bucket}")

    async def describe_bucket(self, bucket: str) -> Bucket:
        """Returns the bucket's Region and policy."""

        def describe(s3: Any) -> Bucket:
            region = s3.get_bucket_location(Bucket=bucket).get("LocationConstraint")
            try:
                policy = str(s3.get_bucket_policy(Bucket=bucket)["Policy"])
            except botocore.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NO_POLICY:
                    raise
                policy = None
            return Bucket(_REGION_NAMES.get(region, region), policy)

        return await self._call(describe, f"bucket {bucket}")

    async def create_bucket(self, bucket: str) -> None:
        """Returns once the bucket is there."""
        await self._call(lambda s3: s3.create_bucket(Bucket=bucket), f"bucket {bucket}")

    async def put(self, new: NewObject) -> None:
        """Writes the object if there is none of its key yet (guarantee L1)."""
        arguments: dict[str, Any] = {
            "Bucket": new.bucket,
            "Key": new.key,
            "Body": new.content,
            "ContentType": new.content_type,
            "Metadata": dict(new.metadata),
            "ACL": "bucket-owner-full-control",
        }
        if new.content_encoding:
            arguments["ContentEncoding"] = new.content_encoding
        if new.kms_key:
            context = json.dumps(dict(new.encryption_context)).encode()
            arguments["ServerSideEncryption"] = "aws:kms"
            arguments["SSEKMSKeyId"] = new.kms_key
            arguments["SSEKMSEncryptionContext"] = base64.b64encode(context).decode()
        name = f"s3://{new.bucket}/{new.key}"
        if self._conditional:
            try:
                await self._call(lambda s3: s3.put_object(**arguments, IfNoneMatch="*"), name)
            except ObjectStoreError as error:
                if error.code not in _NO_CONDITIONS:
                    raise
                self._conditional = False
            else:
                return
        if await self._is_there(new.bucket, new.key):
            raise ObjectExists("PreconditionFailed", f"{name} is there already")
        await self._call(lambda s3: s3.put_object(**arguments), name)

    async def get(self, bucket: str, key: str) -> bytes:
        """Returns the object's bytes as stored."""

        def read(s3: Any) -> bytes:
            content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            return content

        return await self._call(read, f"s3://{bucket}/{key}")

    async def _is_there(self, bucket: str, key: str) -> bool:
        try:
            await self._call(lambda s3: s3.head_object(Bucket=bucket, Key=key), key)
        except ObjectMissing:
            return False
        return True

    async def _call(self, work: Callable[[Any], T], name: str) -> T:
        async with self._lock:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _translated, work, self._made, name)

    def _make(self) -> Any:
        import boto3

        session = boto3.session.Session(
            aws_access_key_id=self._access.access_key_id,
            aws_secret_access_key=self._access.secret_access_key,
            aws_session_token=self._access.session_token,
            region_name=self._access.region,
        )
        settings = botocore.config.Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
        )
        verify = str(self._access.ca) if self._access.ca else None
        return session.client(
            "s3", endpoint_url=self._access.endpoint_url, config=settings, verify=verify
        )


@dataclass(frozen=True, slots=True)
class S3Key:
    """What a listing tells of an object."""

    key: str
    size: int


class S3Stream:
    """The bytes of an object, as they come, and the metadata that its writer gave it."""

    def __init__(self, body: Any, name: str, metadata: Mapping[str, str]) -> None:
        self._body = body
        self._name = name
        self.metadata = metadata

    def read(self, size: int, /) -> bytes:
        """Returns at most so many bytes, and none at the end."""
        content: bytes = _translated(lambda body: body.read(size), self._body, self._name)
        return content

    def close(self) -> None:
        """Gives the connection back."""
        self._body.close()


class S3Reader:
    """Reads objects with the credentials, Region and endpoint that SDKs find in the environment."""

    def __init__(self, session: boto3.session.Session | None = None) -> None:
        self._s3 = _translated(lambda _: _own_client(session), None, "s3")

    def keys(self, bucket: str, prefix: str) -> Iterator[S3Key]:
        """Yields every object under a prefix.

        Pages follow each other by the store's own token. Nothing goes on from the last key of an
        earlier listing, before which a late object may have come.

        Raises:
            ObjectStoreError: the store refused or failed.
        """
        wanted = {"Bucket": bucket, "Prefix": prefix}
        while True:
            page = _translated(
                lambda s3: s3.list_objects_v2(**wanted), self._s3, f"s3://{bucket}/{prefix}"
            )
            for found in page.get("Contents", ()):
                yield S3Key(found["Key"], found["Size"])
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def open(self, bucket: str, key: str) -> S3Stream:
        """Returns the bytes of an object.

        Raises:
            ObjectStoreError: the store refused or failed; reading may raise it, too.
        """
        name = f"s3://{bucket}/{key}"
        got = _translated(lambda s3: s3.get_object(Bucket=bucket, Key=key), self._s3, name)
        return S3Stream(got["Body"], name, got.get("Metadata", {}))


def _own_client(session: boto3.session.Session | None = None) -> Any:
    """Returns a client as the user's environment has it; stores other than AWS by path."""
    settings = botocore.config.Config(
        retries={"max_attempts": 4, "mode": "standard"}, max_pool_connections=16
    )
    if session is None:
        import boto3

        session = boto3.session.Session()
    client = session.client("s3", config=settings)
    if ".amazonaws." in client.meta.endpoint_url:
        return client
    by_path = botocore.config.Config(s3={"addressing_style": "path"})
    return session.client("s3", config=settings.merge(by_path))


def _translated(work: Callable[[Any], Any], s3: Any, name: str) -> Any:
    try:
        return work(s3)
    except botocore.exceptions.ClientError as error:
        code, message = refusal(error, name)
        if code in _MISSING:
            raise ObjectMissing("NoSuchBucket" if code == "404" else code, message) from error
        if code in _EXISTS:
            raise ObjectExists(code, message) from error
        raise ObjectStoreError(code, message) from error
    except FAILED as error:
        raise ObjectStoreError(type(error).__name__, f"{name}: {error}") from error


def refusal(error: botocore.exceptions.ClientError, name: str) -> tuple[str, str]:
    """Returns the code of a service's refusal, and its text behind what was asked for."""
    told = error.response.get("Error", {})
    return str(told.get("Code", "Unknown")), f"{name}: {told.get('Message', '')}"
