"""ObjectStore on any S3 endpoint, through boto3."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.config
import botocore.exceptions

from opentrail.core.errors import ObjectExists, ObjectMissing, ObjectStoreError
from opentrail.ports.objects import NewObject

T = TypeVar("T")

_MISSING = frozenset({"NoSuchBucket", "NoSuchKey", "404", "NotFound"})
_EXISTS = frozenset({"PreconditionFailed", "412"})
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

    async def check_bucket(self, bucket: str) -> None:
        """Returns if the bucket is there and may be read."""
        await self._call(lambda s3: s3.head_bucket(Bucket=bucket), f"bucket {bucket}")

    async def create_bucket(self, bucket: str) -> None:
        """Returns once the bucket is there."""
        await self._call(lambda s3: s3.create_bucket(Bucket=bucket), f"bucket {bucket}")

    async def put(self, new: NewObject) -> None:
        """Writes the object if there is none of its key yet (L1)."""
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
        return await asyncio.to_thread(_translated, work, self._made, name)

    def _make(self) -> Any:
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


def _translated(work: Callable[[Any], Any], s3: Any, name: str) -> Any:
    try:
        return work(s3)
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "Unknown"))
        message = f"{name}: {error.response.get('Error', {}).get('Message', '')}"
        if code in _MISSING:
            raise ObjectMissing("NoSuchBucket" if code == "404" else code, message) from error
        if code in _EXISTS:
            raise ObjectExists(code, message) from error
        raise ObjectStoreError(code, message) from error
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        raise ObjectStoreError(type(error).__name__, f"{name}: {error}") from error
