"""Results of SQL queries as files in S3, in the forms of CloudTrail Lake and of Athena.

CloudTrail Lake: `{prefix/}AWSLogs/ACCOUNT/CloudTrail-Lake/Query/YYYY/MM/DD/QUERY_ID/` has
`result_1.csv.gz` and so on, and `result_sign.json`, whose signature covers the SHA-256 of all
files. Athena: `{prefix/}QUERY_ID.csv`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from opentrail.core.errors import CloudTrailError, QueryFailed
from opentrail.core.event import format_time
from opentrail.core.trail import check_bucket_name, check_prefix
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.ports.queries import QueryStore, ResultPlace, Row, StoredQuery
from opentrail.ports.signer import Signer
from opentrail.trails.destinations import Destinations
from opentrail.trails.writing import ExactWriter, compress

#: Bytes of a file's text before compression.
FILE_BYTES = 16 << 20
#: Maximum bytes of the one file that Athena's clients read.
MAX_ATHENA_BYTES = 64 << 20
_ROWS = 1_000
_URI = re.compile(r"s3://(?P<bucket>[^/]+)(?:/(?P<prefix>.*))?")


def read_uri(uri: str) -> tuple[str, str]:
    """Returns the bucket, and the prefix without slashes at its end.

    Raises:
        CloudTrailError: it is not `s3://BUCKET` or `s3://BUCKET/PREFIX`, with names as for a trail.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        message = f"{uri} must be s3://BUCKET or s3://BUCKET/PREFIX."
        raise CloudTrailError("InvalidParameterException", message)
    check_bucket_name(match["bucket"])
    prefix = (match["prefix"] or "").rstrip("/")
    if prefix:
        check_prefix(prefix)
    return match["bucket"], prefix


def folder(query: StoredQuery, prefix: str) -> str:
    """Returns the folder of a result in CloudTrail Lake's form, ending with a slash."""
    day = datetime.fromtimestamp(query.ended or query.created, UTC)
    start = f"{prefix}/" if prefix else ""
    return f"{start}AWSLogs/{query.owner}/CloudTrail-Lake/Query/{day:%Y/%m/%d}/{query.id}/"


def csv_line(row: Sequence[str | None]) -> str:
    """Returns a line as Athena writes it: each value in quotes, nothing for NULL."""
    shown = ("" if text is None else f'"{text.replace(chr(34), chr(34) * 2)}"' for text in row)
    return ",".join(shown) + "\n"


class S3ResultDelivery:
    """A `ResultDelivery` through the object store of the trails."""

    def __init__(self, objects: ObjectStore, destinations: Destinations, signer: Signer) -> None:
        self._writer = ExactWriter(objects)
        self._destinations = destinations
        self._signer = signer

    async def verify(self, uri: str, store_arn: str, may_write: bool | None = None) -> None:
        bucket, prefix = read_uri(uri)
        await self._destinations.verify_results(bucket, prefix, store_arn, may_write)

    async def deliver(self, query: StoredQuery, place: ResultPlace, store: QueryStore) -> None:
        bucket, prefix = read_uri(place.uri)
        try:
            await self._destinations.refuse_trails_folder(bucket, prefix)  # a trail may be newer
        except CloudTrailError as error:
            raise QueryFailed(error.message) from error
        if place.is_signed:
            await self._deliver_signed(query, place.region, store, bucket, folder(query, prefix))
            return
        content = b""
        async for part in _parts(query, store, MAX_ATHENA_BYTES):
            if content:
                limit = MAX_ATHENA_BYTES >> 20
                raise QueryFailed(f"the result is larger than {limit} MB: add a LIMIT")
            content = part
        key = f"{prefix}/{query.id}.csv" if prefix else f"{query.id}.csv"
        await self._writer.put(NewObject(bucket, key, content, "text/csv", None))

    async def _deliver_signed(
        self, query: StoredQuery, region: str, store: QueryStore, bucket: str, under: str
    ) -> None:
        """Writes the files, and the sign file last: a result is signed or has no sign file."""
        ended = datetime.fromtimestamp(query.ended or query.created, UTC)
        fingerprint = (await self._signer.current(ended)).fingerprint
        files: list[dict[str, str]] = []
        async for part in _parts(query, store, FILE_BYTES):
            packed = await asyncio.to_thread(compress, part)
            name = f"result_{len(files) + 1}.csv.gz"
            await self._writer.put(NewObject(bucket, under + name, packed, "text/csv"))
            files.append({"fileHashValue": hashlib.sha256(packed).hexdigest(), "fileName": name})
        signed = " ".join(file["fileHashValue"] for file in files).encode()
        document: dict[str, Any] = {
            "version": "1.0",
            "region": region,
            "files": files,
            "hashAlgorithm": "SHA-256",
            "signatureAlgorithm": "SHA256withRSA",
            "queryCompleteTime": format_time(ended),
            "hashSignature": (await self._signer.sign(signed, fingerprint)).hex(),
            "publicKeyFingerprint": fingerprint,
        }
        content, key = orjson.dumps(document), f"{under}result_sign.json"
        await self._writer.put(NewObject(bucket, key, content, content_encoding=None))


async def _parts(query: StoredQuery, store: QueryStore, limit: int) -> AsyncIterator[bytes]:
    """Yields the result as CSV in parts of at most `limit` bytes, each with the header."""
    header = csv_line([name for name, _ in query.columns])
    part, first = bytearray(header.encode()), 0
    while rows := await store.rows(query, first, _ROWS):
        first += len(rows)
        lines = (await asyncio.to_thread(_lines, rows)).encode()
        if len(part) + len(lines) > limit and len(part) > len(header):
            yield bytes(part)
            part = bytearray(header.encode())
        part += lines
    yield bytes(part)


def _lines(rows: Sequence[Row]) -> str:
    return "".join(map(csv_line, rows))
