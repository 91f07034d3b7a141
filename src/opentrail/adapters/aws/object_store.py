"""S3 through boto3: the ObjectStore on any endpoint, and a reader with the user's credentials."""

from __future__ import annotations

import asyncio
import base64
import hashlib
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
from opentrail.core.event import Json
from opentrail.ports.objects import Bucket, NewObject, StoredContent

if TYPE_CHECKING:
    # Importing it takes ten megabytes and a fifth of a second, so only clients do.
    import boto3

T = TypeVar("T")

_MISSING = frozenset({"NoSuchBucket", "NoSuchKey", "404", "NotFound"})
#: S3 has no range of an empty object.
_NO_RANGE = frozenset({"InvalidRange", "416"})
_EXISTS = frozenset({"PreconditionFailed", "412"})
#: A bucket whose policy may not be read counts as a bucket without a policy.
_NO_POLICY = frozenset(
    {"NoSuchBucketPolicy", "NotImplemented", "501", "MethodNotAllowed", "AccessDenied"}
)
#: Locations other than Region names: of old buckets, and of us-east-1.
_REGION_NAMES = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}
#: Errors of a call other than the service's: no response, or an unparsable one.
FAILED = (botocore.exceptions.BotoCoreError, botocore.parsers.ResponseParserError, OSError)
#: Concurrent calls, in separate threads: an unresponsive store delays no other.
_CONCURRENT = 8
_NO_CONDITIONS = frozenset({"NotImplemented", "501"})


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class S3Access:
    """Endpoint and credentials of a store."""

    endpoint_url: str | None
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    #: PEM file with the certificate authorities to trust.
    ca: Path | None = None
    session_token: str | None = None


class S3Objects:
    """An `ObjectStore`; the client is made when it is first needed, and when `access` changes."""

    def __init__(self, access: Callable[[], S3Access]) -> None:
        self._access = access
        self._made: tuple[S3Access, Any] | None = None
        self._lock = asyncio.Lock()
        self._conditional = True
        self._threads = ThreadPoolExecutor(_CONCURRENT, "s3")

    async def check_bucket(self, bucket: str) -> None:
        """Returns if the bucket exists and may be read."""
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
        """Returns once the bucket exists."""
        await self._call(lambda s3: s3.create_bucket(Bucket=bucket), f"bucket {bucket}")

    async def put(self, new: NewObject) -> None:
        """Writes the object unless one with its key exists (guarantee L1)."""
        arguments: Json = {
            "Bucket": new.bucket,
            "Key": new.key,
            "Body": new.content,
            "ContentType": new.content_type,
            "Metadata": dict(new.metadata),
            "ACL": "bucket-owner-full-control",
            # A bucket with Object Lock and a default retention rejects objects without it.
            "ContentMD5": base64.b64encode(_md5(new.content)).decode(),
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
            raise ObjectExists("PreconditionFailed", f"{name} exists already")
        await self._call(lambda s3: s3.put_object(**arguments), name)

    async def get(self, bucket: str, key: str) -> bytes:
        """Returns the object's bytes as stored."""
        return (await self.read(bucket, key)).content

    async def get_range(self, bucket: str, key: str, first: int, length: int) -> bytes:
        """Returns `length` of the object's bytes as stored, from byte `first` (0 or more) on.

        If the object is empty, and `first` is 0, it returns b"".
        """

        def get(s3: Any) -> bytes:
            span = f"bytes={first}-{first + length - 1}"
            content: bytes = s3.get_object(Bucket=bucket, Key=key, Range=span)["Body"].read()
            return content

        try:
            return await self._call(get, f"s3://{bucket}/{key}")
        except ObjectStoreError as error:
            if first == 0 and error.code in _NO_RANGE:
                return b""
            raise

    async def read(self, bucket: str, key: str) -> StoredContent:
        """Returns the object's bytes as stored, and its metadata."""

        def read(s3: Any) -> StoredContent:
            answer = s3.get_object(Bucket=bucket, Key=key)
            metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
            return StoredContent(answer["Body"].read(), metadata)

        return await self._call(read, f"s3://{bucket}/{key}")

    async def keys(self, bucket: str, prefix: str, after: str = "") -> list[str]:
        """Returns every key under `prefix` greater than `after`, in order."""

        def list_keys(s3: Any) -> list[str]:
            pages = _pages(s3, bucket, prefix, StartAfter=after)
            keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
            # Not every store knows StartAfter.
            return sorted((key for key in keys if key > after), key=str.encode)

        return await self._call(list_keys, f"s3://{bucket}/{prefix}")

    async def delete(self, bucket: str, key: str) -> None:
        """Returns once there is no object with this key."""
        name = f"s3://{bucket}/{key}"
        await self._call(lambda s3: s3.delete_object(Bucket=bucket, Key=key), name)

    async def folders(self, bucket: str, prefix: str) -> list[str]:
        """Returns the names between `prefix` and the next slash of all keys under it."""

        def list_folders(s3: Any) -> list[str]:
            pages = _pages(s3, bucket, prefix, Delimiter="/")
            prefixes = {item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())}
            return sorted(item.removeprefix(prefix).removesuffix("/") for item in prefixes)

        return await self._call(list_folders, f"s3://{bucket}/{prefix}")

    async def _is_there(self, bucket: str, key: str) -> bool:
        try:
            await self._call(lambda s3: s3.head_object(Bucket=bucket, Key=key), key)
        except ObjectMissing:
            return False
        return True

    async def _call(self, work: Callable[[Any], T], name: str) -> T:
        access = self._access()
        async with self._lock:
            if self._made is None or self._made[0] != access:
                self._made = access, await asyncio.to_thread(self._make, access)
            client = self._made[1]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _translated, work, client, name)

    def _make(self, access: S3Access) -> Any:
        import boto3

        session = boto3.session.Session(
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            aws_session_token=access.session_token,
            region_name=access.region,
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
        verify = str(access.ca) if access.ca else None
        return session.client(
            "s3", endpoint_url=access.endpoint_url, config=settings, verify=verify
        )


@dataclass(frozen=True, slots=True)
class S3Key:
    """An object in a listing."""

    key: str
    size: int


class S3Stream:
    """An object as a stream, with its user metadata."""

    def __init__(self, body: Any, name: str, metadata: Mapping[str, str]) -> None:
        self._body = body
        self._name = name
        self.metadata = metadata

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; b"" at the end."""
        content: bytes = _translated(lambda body: body.read(size), self._body, self._name)
        return content

    def close(self) -> None:
        """Returns the connection to its pool."""
        self._body.close()


class S3Reader:
    """Reads objects with the SDKs' credentials, Region and endpoint from the environment."""

    def __init__(self, session: boto3.session.Session | None = None) -> None:
        self._s3 = _translated(lambda _: _own_client(session), None, "s3")

    def keys(self, bucket: str, prefix: str) -> Iterator[S3Key]:
        """Yields every object under a prefix.

        Raises:
            ObjectStoreError: the store refused or failed.
        """
        for page in _pages(self._s3, bucket, prefix):
            for item in page.get("Contents", ()):
                yield S3Key(item["Key"], item["Size"])

    def open(self, bucket: str, key: str) -> S3Stream:
        """Returns the bytes of an object.

        Raises:
            ObjectStoreError: the store refused or failed; reading may raise it as well.
        """
        name = f"s3://{bucket}/{key}"
        answer = _translated(lambda s3: s3.get_object(Bucket=bucket, Key=key), self._s3, name)
        return S3Stream(answer["Body"], name, answer.get("Metadata", {}))


def _pages(s3: Any, bucket: str, prefix: str, **more: str) -> Iterator[Json]:
    """Yields the pages of a listing.

    Paging uses the store's token. A listing never resumes after the last key of an earlier one,
    because an object with a smaller key may have been written since.

    Raises:
        ObjectStoreError: the store refused or failed, or a page does not lead to the next one.
    """
    name = f"s3://{bucket}/{prefix}"
    arguments = {"Bucket": bucket, "Prefix": prefix, **more}
    request = {name: value for name, value in arguments.items() if value}
    while True:
        page = _translated(lambda s3: s3.list_objects_v2(**request), s3, name)
        yield page
        if not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if token in (None, request.get("ContinuationToken")):
            raise ObjectStoreError("UnexpectedAnswer", f"{name}: a page has no next one")
        request["ContinuationToken"] = token


def _own_client(session: boto3.session.Session | None = None) -> Any:
    """Returns a client from the user's environment; stores other than AWS are addressed by path."""
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
    """Returns the code of a service's error, and `name` with its message."""
    details = error.response.get("Error", {})
    return str(details.get("Code", "Unknown")), f"{name}: {details.get('Message', '')}"
