"""Fast GETs of many small objects, whose transfer takes less than botocore's overhead.

Sends only plain GETs, with botocore's address and credentials. If the answer is not the object,
botocore repeats the call: it handles redirects, retries and errors.

Trails and public keys are read from the CloudTrail API with the same credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from opentrail.adapters.aws.object_store import S3Reader, S3Stream
from opentrail.core.errors import OpentrailError
from opentrail.core.event import Json


class TrailReader:
    """Calls the API with the credentials that SDKs find in the environment.

    Args:
        endpoint_url: URL of the API; None for the SDKs' default.
    """

    def __init__(self, endpoint_url: str | None = None) -> None:
        self._endpoint = endpoint_url
        self._clients: Json = {}

    def trail(self, name: str, region: str) -> Mapping[str, Any] | None:
        """Returns the trail with this name or ARN from DescribeTrails; None if it does not exist.

        Raises:
            OpentrailError: the service refused or cannot be reached.
        """
        trails = self._ask(region, "describe_trails", includeShadowTrails=True)["trailList"]
        matches = (t for t in trails if name in (t.get("TrailARN"), t.get("Name")))
        return next(matches, None)

    def public_keys(self, region: str, start: datetime, end: datetime) -> list[Mapping[str, Any]]:
        """Returns the keys of a Region that signed in a time range, as ListPublicKeys does.

        Raises:
            OpentrailError: the service refused or cannot be reached.
        """
        keys: list[Mapping[str, Any]] = []
        page: Json = {}
        while True:
            answer = self._ask(region, "list_public_keys", StartTime=start, EndTime=end, **page)
            keys += answer.get("PublicKeyList", ())
            if not answer.get("NextToken"):
                return keys
            page = {"NextToken": answer["NextToken"]}

    def _ask(self, region: str, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client(region), operation)(**arguments)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise OpentrailError(f"the CloudTrail API cannot be asked: {error}") from error

    def _client(self, region: str) -> Any:
        if region not in self._clients:
            settings = botocore.config.Config(retries={"max_attempts": 4, "mode": "standard"})
            session = boto3.session.Session(region_name=region)
            self._clients[region] = session.client(
                "cloudtrail", endpoint_url=self._endpoint, config=settings
            )
        return self._clients[region]


_NO_BODY = hashlib.sha256(b"").hexdigest()
_SILENCE_SECONDS = 60.0
_METADATA = "x-amz-meta-"
#: Bytes of a read from the connection.
_READ_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_NOT_PLAIN = ("transfer-encoding",)
#: Errors of a broken connection.
_BROKEN = (OSError, http.client.HTTPException)


@dataclass(slots=True)
class _BucketAddress:
    """The address of a bucket, with its idle connections."""

    is_secure: bool
    host: str
    path: str
    region: str
    idle: deque[socket.socket] = field(default_factory=deque)


class S3Gets(S3Reader):
    """An `S3Reader` with fast GETs; many threads may use it."""

    def __init__(self) -> None:
        session = boto3.session.Session()
        super().__init__(session)
        self._credentials = session.get_credentials()
        self._places: dict[str, _BucketAddress | None] = {}

    def open(self, bucket: str, key: str) -> S3Stream:
        """Returns the bytes of an object.

        Raises:
            ObjectStoreError: the store refused or failed; reading may raise it as well.
        """
        if bucket not in self._places:
            self._places[bucket] = self._place(bucket)
        place = self._places[bucket]
        if place is not None:
            with contextlib.suppress(*_BROKEN):
                answer = self._get(place, key)
                if answer is not None:
                    return answer
        return super().open(bucket, key)

    def _get(self, place: _BucketAddress, key: str) -> S3Stream | None:
        """Returns an object; None if the answer is not the object."""
        path = place.path + urllib.parse.quote(key, safe="/-_.~")
        lines = [f"{name}: {value}\r\n" for name, value in self._signed(place, path).items()]
        connection = _connection(place)
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1"))
            head, rest = _answer(connection)
        except OSError:
            connection.close()
            raise
        headers = _headers(head)
        length = headers.get("content-length", "") if headers is not None else ""
        if headers is None or not length.isdigit() or len(rest) > int(length):
            connection.close()
            return None
        is_reusable = headers.get("connection", "").lower() != "close"
        body = _ObjectBody(connection, rest, int(length), place, is_reusable)
        metadata = {
            name.removeprefix(_METADATA): value
            for name, value in headers.items()
            if name.startswith(_METADATA)
        }
        return S3Stream(body, f"{place.host}{path}", metadata)

    def _signed(self, place: _BucketAddress, path: str) -> Mapping[str, str]:
        """Returns the headers of a signed GET (signature version 4)."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": place.host, "x-amz-content-sha256": _NO_BODY, "x-amz-date": now}
        frozen = self._credentials.get_frozen_credentials()
        if frozen.token:
            headers["x-amz-security-token"] = frozen.token
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"GET\n{path}\n\n{lines}\n{names}\n{_NO_BODY}"
        scope = f"{now[:8]}/{place.region}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
        signature = hmac.digest(_signing_key(frozen.secret_key, scope), text.encode(), "sha256")
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={frozen.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature.hex()}"
        )
        return headers

    def _place(self, bucket: str) -> _BucketAddress | None:
        """Returns the address of a bucket; None if only botocore can reach it."""
        if self._credentials is None:
            return None
        example = self._s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "x"})
        url = urllib.parse.urlsplit(example)
        proxies = urllib.request.getproxies()
        if url.scheme in proxies and not urllib.request.proxy_bypass(url.hostname or ""):
            return None
        return _BucketAddress(
            url.scheme == "https", url.netloc, url.path[:-1], self._s3.meta.region_name
        )


class _ObjectBody:
    """A response body; its connection is reused after the whole body has been read."""

    def __init__(
        self,
        connection: socket.socket,
        start: bytes,
        length: int,
        place: _BucketAddress,
        is_reusable: bool,
    ) -> None:
        self._connection = connection
        self._start = start
        self._left = length
        self._place = place
        self._is_reusable = is_reusable

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes; b"" at the end."""
        if not self._left:
            return b""
        if self._start:
            content, self._start = self._start[:size], self._start[size:]
        else:
            content = self._connection.recv(min(size, self._left))
        if not content:
            raise OSError(f"the answer was cut {self._left} bytes before its end")
        self._left -= len(content)
        return content

    def close(self) -> None:
        """Reuses the connection if the body was read to its end, else closes it."""
        if self._left or not self._is_reusable:
            self._connection.close()
        else:
            self._place.idle.append(self._connection)


def _answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Returns the head of an answer, and the part of its body that arrived with it."""
    came = b""
    while b"\r\n\r\n" not in came:
        more = connection.recv(_READ_BYTES)
        if not more or len(came) > _MAX_HEAD_BYTES:
            raise OSError("the answer has no valid head")
        came += more
    head, _, rest = came.partition(b"\r\n\r\n")
    return head, rest


def _headers(head: bytes) -> dict[str, str] | None:
    """Returns the headers of an answer whose body is the object; None for any other answer."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 200"):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name in headers or name in _NOT_PLAIN:
            return None
        headers[name] = value.strip()
    return headers


def _connection(place: _BucketAddress) -> socket.socket:
    with contextlib.suppress(IndexError):
        return place.idle.pop()
    if place.is_secure:
        trusted = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        http_connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            place.host, timeout=_SILENCE_SECONDS, context=trusted
        )
    else:
        http_connection = http.client.HTTPConnection(place.host, timeout=_SILENCE_SECONDS)
    http_connection.connect()
    connection: socket.socket = http_connection.sock
    return connection


@lru_cache(16)
def _signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
