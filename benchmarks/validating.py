"""Validating a trail's bucket, against `aws cloudtrail validate-logs` on the same bucket."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.config

from benchmarks.nginx import stub
from benchmarks.processes import MemoryWatch, find_program, resident_mb_of_all
from benchmarks.records import ACCOUNT, REGION, Multiplier
from benchmarks.servers import Server, opentrail
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.keys.rsa import RsaSigner
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from opentrail.core.event import format_time
from opentrail.core.logfile import (
    DeliveredLog,
    LogFileLocation,
    PreviousDigest,
    digest_bytes,
    digest_key,
    log_bytes,
    log_key,
    sha256_hex,
    string_to_sign,
    unique_string,
)
from opentrail.trails.writing import compress

Figures = dict[str, float]
#: Fewer are for trying things out; the figure that is required is that of ten thousand.
LOG_FILES = int(os.environ.get("OPENTRAIL_BENCH_LOG_FILES", "10000"))
RECORDS, LOGS_A_DIGEST, UPLOADS = 200, 12, 8
TRIES = 3
BUCKET, TRAIL = "bench-trail", "bench"
_COUNT = re.compile(r"([\d,]+)/([\d,]+) log files valid")


def validate() -> Figures:
    """Fills a bucket as a trail does, and has both verifiers go through it, in turn."""
    aws, own, memory = [], [], 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        _seaweedfs(Path(folder)) as s3,
        stub() as port,
        opentrail(port, prepare=_make_key) as server,
    ):
        environment = _environment(s3, f"http://127.0.0.1:{server.port}")
        begin = datetime.now(UTC).replace(microsecond=0)
        end = asyncio.run(_fill(s3, server, begin))
        for _ in range(TRIES):
            aws.append(_timed(_aws(begin, end), environment)[0])
            seconds, most = _timed(_own(server), environment)
            own.append(seconds)
            memory = max(memory, most)
    aws.sort()
    own.sort()
    middle = TRIES // 2
    return {
        "log files": LOG_FILES,
        "records": LOG_FILES * RECORDS,
        "aws cloudtrail validate-logs s": aws[middle],
        "opentrail validate s": own[middle],
        "opentrail validate log files/s": LOG_FILES / own[middle],
        "opentrail validate memory at most MB": memory,
        "validate-logs / opentrail validate, ratio": aws[middle] / own[middle],
    }


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[str]:
    child = start_seaweedfs(folder)
    try:
        yield child.url
    finally:
        child.stop()


def _environment(s3: str, cloudtrail: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OPENTRAIL_"))}
    return {
        **kept,
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ENDPOINT_URL_CLOUDTRAIL": cloudtrail,
        "AWS_ACCESS_KEY_ID": ADMIN_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# Filling


def _make_key(data: Path) -> None:
    """Makes the key before the server starts, which answers for the keys that it found then."""
    (data / "keys").mkdir(mode=0o700, parents=True)
    data.chmod(0o700)
    asyncio.run(_signer(data).current())


def _signer(data: Path) -> RsaSigner:
    return RsaSigner(data / "keys", SystemClock(), timedelta(days=90))


async def _fill(s3: str, server: Server, begin: datetime) -> datetime:
    """Writes log files, and a chain of digests signed with the server's key; returns its end."""
    signer = _signer(server.data)
    key = await signer.current()
    client = _client(s3)
    client.create_bucket(Bucket=BUCKET)
    place = LogFileLocation(BUCKET, "", ACCOUNT, REGION)
    made, previous, end = Multiplier(3_600), None, begin
    with ThreadPoolExecutor(UPLOADS) as pool:
        for first in range(0, LOG_FILES, LOGS_A_DIGEST):
            start, end = end, end + timedelta(hours=1)
            count = min(LOGS_A_DIGEST, LOG_FILES - first)
            logs, uploads = [], []
            for number in range(count):
                moment = start + timedelta(minutes=5 * number)
                records = made.records(0, RECORDS, RECORDS)
                content = log_bytes(records)
                name = log_key(place, moment, unique_string(first + number))
                told = format_time(moment)
                logs.append(DeliveredLog(BUCKET, name, sha256_hex(content), told, told))
                uploads.append(pool.submit(_put, client, name, content, {}))
            name = digest_key(place, TRAIL, REGION, end)
            times = format_time(start), format_time(end)
            content = digest_bytes(place, name, *times, key.fingerprint, logs, previous)
            text = string_to_sign(times[1], BUCKET, name, content, previous)
            signature = (await signer.sign(text, key.fingerprint)).hex()
            metadata = {"signature": signature, "signature-algorithm": "SHA256withRSA"}
            uploads.append(pool.submit(_put, client, name, content, metadata))
            previous = PreviousDigest(BUCKET, name, sha256_hex(content), signature)
            for upload in uploads:
                upload.result()
    return end


def _client(s3: str) -> Any:
    settings = botocore.config.Config(
        s3={"addressing_style": "path"},
        max_pool_connections=UPLOADS,
        request_checksum_calculation="when_required",
    )
    session = boto3.session.Session(ADMIN_KEY_ID, ADMIN_SECRET, region_name=REGION)
    return session.client("s3", endpoint_url=s3, config=settings)


def _put(client: Any, key: str, content: bytes, metadata: dict[str, str]) -> None:
    packed = compress(content)
    client.put_object(Bucket=BUCKET, Key=key, Body=packed, Metadata=metadata)


# Validating


def _aws(begin: datetime, end: datetime) -> list[str]:
    arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{TRAIL}"
    return [
        *(find_program("aws", "pip install awscli"), "cloudtrail", "validate-logs"),
        *("--trail-arn", arn, "--s3-bucket", BUCKET),
        *("--start-time", format_time(begin), "--end-time", format_time(end)),
    ]


def _own(server: Server) -> list[str]:
    command = [sys.executable, "-m", "opentrail", "validate", f"s3://{BUCKET}"]
    return [*command, "--data-dir", str(server.data)]


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Returns the seconds that a verifier took and its memory; it must find all log files valid."""
    started = time.perf_counter()
    with (
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
        MemoryWatch(process.pid, resident_mb_of_all, 0.1) as memory,
    ):
        said, _ = process.communicate()
    seconds = time.perf_counter() - started
    counted = _COUNT.search(said)
    valid = [int(number.replace(",", "")) for number in counted.groups()] if counted else []
    if valid != [LOG_FILES, LOG_FILES]:
        raise RuntimeError(f"not all log files were found valid:\n{said[-2000:]}")
    return seconds, memory.most


BENCHMARKS = {"Validation: a trail's bucket": validate}
