"""Ten minutes on a disk of 200 MB: event history stays within its size, and no call is refused.

`python -m benchmarks.small_disk [SECONDS [CALLS-A-SECOND [MEGABYTES]]]` mounts a tmpfs, as root.
"""

from __future__ import annotations

import gzip
import json
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.s3 import Store, store
from opentrail.commands.sandbox import ADMIN_KEY_ID
from tests.live.processes import Opentrail, health, opentrail_server, run_opentrail

DISK_MB, SIZE_MB = 200, 50
SECONDS, RATE, CONNECTIONS, KEYS = 600, 500, 16, 64
_BODY = b"x" * 4_096
_HEAD = (
    "{} /bucket/key-{} HTTP/1.1\r\nHost: s3\r\nX-Amz-Date: 20261129T000000Z\r\n"
    "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nAuthorization: AWS4-HMAC-SHA256 Credential="
    f"{ADMIN_KEY_ID}/20261129/us-east-1/s3/aws4_request, SignedHeaders=host, "
    f"Signature={'0' * 64}\r\nContent-Length: {{}}\r\n\r\n"
)
_SELECTORS = [{"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}]


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mounts a file system for a data directory."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], check=True
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def _request(number: int) -> bytes:
    method, body = ("PUT", _BODY) if number % 2 else ("GET", b"")
    return _HEAD.format(method, number // 2 % KEYS, len(body)).encode() + body


def offer(port: int, rate: float, seconds: int) -> dict[str, Any]:
    """Sends calls at a rate; returns how often each status came, and how long it took."""
    lines = deque(socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS))
    received: dict[socket.socket, bytearray] = {}
    statuses: Counter[str] = Counter()
    sent, begin = 0, time.perf_counter()
    while sent < rate * seconds or received:
        now = time.perf_counter()
        if sent and now - begin > seconds:
            rate = min(rate, sent / seconds)  # what was not sent in time is not sent
        while lines and sent < rate * seconds and begin + sent / rate <= now:
            line = lines.popleft()
            line.sendall(_request(sent))
            received[line] = bytearray()
            sent += 1
        for line in select.select(list(received), [], [], 0.002)[0]:
            answer = received[line]
            answer += line.recv(1 << 16)
            head, end, body = answer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if end and len(body) >= int(length or 0):
                statuses[head.split(b" ", 2)[1].decode()] += 1
                del received[line]
                lines.append(line)
    return {"statuses": dict(statuses), "seconds": time.perf_counter() - begin}


def _watch(server: Opentrail, disk: Path, until: Any) -> dict[str, Any]:
    """Measures the disk until the load ends."""
    most: Counter[str] = Counter()
    states: Counter[str] = Counter()
    shown = time.monotonic()
    while not until.done():
        used = shutil.disk_usage(disk).used // 1024
        folders = [str(disk / "data" / name) for name in ("journal", "history")]
        sizes = subprocess.run(
            ["du", "-sk", *folders], capture_output=True, text=True, check=False
        ).stdout
        parts = [int(line.split()[0]) for line in sizes.splitlines()]
        for name, size in zip(("journal", "history"), parts, strict=False):
            most[name] = max(most[name], size)
        most["records"] = max(most["records"], sum(parts))
        most["disk"] = max(most["disk"], used)
        state = health(server)
        states[state["status"]] += 1
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            print(used, parts, state["status"], state["dataProblems"], flush=True)
        time.sleep(1)
    return {"most_mb": {name: round(size / 1024, 1) for name, size in most.items()}, **states}


def _delivered(bucket: Store) -> list[str]:
    """Returns the ids of all events in log files."""
    files = [body for key, (_, body) in bucket.objects().items() if "/CloudTrail/" in key and body]
    return [r["eventID"] for body in files for r in orjson.loads(gzip.decompress(body))["Records"]]


def main(seconds: int = SECONDS, rate: int = RATE, size_mb: int = SIZE_MB) -> None:
    """Prints what happened."""
    with (
        store() as bucket,
        small_disk() as disk,
        opentrail_server(
            disk / "data",
            *("--upstream", bucket.url, "--history-size", f"{size_mb}MB"),
            *("--delivery-interval", "10", "--upstream-check", "off"),
        ) as server,
    ):
        trails: Any = server.boto("cloudtrail")
        trails.create_trail(Name="all", S3BucketName="trail-bucket", IsMultiRegionTrail=True)
        trails.put_event_selectors(
            TrailName="all",
            EventSelectors=[{**_SELECTORS[0], "IncludeManagementEvents": True}],
        )
        trails.start_logging(Name="all")
        port = int(server.url.rpartition(":")[2])
        with ProcessPoolExecutor(1) as pool:
            load = pool.submit(offer, port, rate, seconds)
            seen = _watch(server, disk, load)
            print(json.dumps({**load.result(), **seen}))
        found: list[dict[str, Any]] = []
        for page in trails.get_paginator("lookup_events").paginate(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "EventsExpired"}]
        ):
            records = [json.loads(event["CloudTrailEvent"]) for event in page["Events"]]
            found += [record["serviceEventDetails"] for record in records]
        expired = Counter[str]()
        for each in found:
            expired[f"{each['category']}, {each['reason']}"] += each["expiredEvents"]
        print(json.dumps({"EventsExpired": len(found), "events": expired}))
        print(server.opentrail("status").stdout)
        head = health(server)["journal"]["position"]
        trails.stop_logging(Name="all")
        server.stop()
        done = run_opentrail("verify-store", "--data-dir", str(disk / "data"))
        print(done.returncode, done.stdout, done.stderr)
        ids = _delivered(bucket)
        print(json.dumps({"head": head, "delivered": len(ids), "different": len(set(ids))}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
