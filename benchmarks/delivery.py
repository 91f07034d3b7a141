"""Five trails at once: how fast they deliver, and how soon a file is in the bucket."""

from __future__ import annotations

import gzip
import json
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import orjson

from benchmarks.nginx import stub
from benchmarks.records import Multiplier
from benchmarks.s3 import Store, store
from benchmarks.servers import Server, opentrail
from benchmarks.wire import percentile
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET

Figures = dict[str, float]
BACKLOG, BATCH = 200_000, 5_000
#: Event history takes the first rate for ten minutes, the second for one.
RATES, SECONDS, INTERVAL = (5_000, 10_000), 30, 5
S3 = "AWS::S3::Object"
DATA = {"Field": "eventCategory", "Equals": ["Data"]}
#: What the trails take, beside all management events: that is the first.
SELECTORS: list[dict[str, Any]] = [
    {},
    {"EventSelectors": [{"DataResources": [{"Type": S3, "Values": ["arn:aws:s3"]}]}]},
    {
        "EventSelectors": [
            {
                "ReadWriteType": "WriteOnly",
                "DataResources": [{"Type": S3, "Values": ["arn:aws:s3"]}],
            }
        ]
    },
    {
        "AdvancedEventSelectors": [
            {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]},
            {
                "FieldSelectors": [
                    DATA,
                    {"Field": "resources.type", "Equals": [S3]},
                    {"Field": "resources.ARN", "StartsWith": ["arn:aws:s3:::"]},
                ]
            },
        ]
    },
    {
        "AdvancedEventSelectors": [
            {
                "FieldSelectors": [
                    {"Field": "eventCategory", "Equals": ["Management"]},
                    {"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]},
                ]
            },
            {
                "FieldSelectors": [
                    DATA,
                    {"Field": "resources.type", "Equals": [S3]},
                    {"Field": "eventName", "NotEquals": ["DeleteObject"]},
                ]
            },
        ]
    },
]


def delivering() -> Figures:
    """Delivers a backlog, then records that arrive all the time."""
    figures = _backlog()
    for rate in RATES:
        figures |= _arriving(rate)
    return figures


def _backlog() -> Figures:
    with stub() as upstream, store() as bucket:
        flags = ("--upstream", f"s3={bucket.url}", "--delivery-interval", "86400")
        with opentrail(upstream, *flags) as server:
            names = _trails(server)
            made = Multiplier(3_600, seed=3)
            for first in range(0, BACKLOG, BATCH):
                _post(server, b"\n".join(made.records(first, BATCH, BACKLOG)))
            started = time.perf_counter()
            flushing = [threading.Thread(target=_flush, args=(server, name)) for name in names]
            for thread in flushing:
                thread.start()
            for thread in flushing:
                thread.join()
            taken = time.perf_counter() - started
        found = _records(bucket)
    return {
        "5 trails, backlog: records/s": BACKLOG / taken,
        "5 trails, backlog: delivered records/s, all trails": len(found) / taken,
        "5 trails, backlog: records of a trail on average, of all": len(found) / 5 / BACKLOG,
    }


def _arriving(rate: int) -> Figures:
    sent: dict[str, float] = {}
    with stub() as upstream, store() as bucket:
        flags = ("--upstream", f"s3={bucket.url}", "--delivery-interval", str(INTERVAL))
        with opentrail(upstream, *flags) as server:
            _trails(server)
            made = Multiplier(3_600, seed=4)
            total = rate * SECONDS
            batches = [
                list(made.records(first, rate // 10, total))
                for first in range(0, total, rate // 10)
            ]
            ids = [[_id(record) for record in batch] for batch in batches]
            begun = time.perf_counter()
            for number, batch in enumerate(batches):
                time.sleep(max(0.0, number / 10 - (time.perf_counter() - begun)))
                _post(server, b"\n".join(batch))
                sent.update(dict.fromkeys(ids[number], time.time()))
            offered = total / (time.perf_counter() - begun)
            time.sleep(2 * INTERVAL + 5)
        late = [came - sent[event_id] for came, event_id in _records(bucket) if event_id in sent]
    name = f"{rate:,}/s to 5 trails"
    return {
        f"{name}: offered records/s": offered,
        f"{name}: delivered, all trails": len(late),
        f"{name}: in S3 after the interval p50 s": percentile(late, 0.5) - INTERVAL,
        f"{name}: in S3 after the interval p99 s": percentile(late, 0.99) - INTERVAL,
    }


def _trails(server: Server) -> list[str]:
    """Makes five trails that log; returns their names."""
    cloudtrail = boto3.client(
        "cloudtrail",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        aws_access_key_id=ADMIN_KEY_ID,
        aws_secret_access_key=ADMIN_SECRET,
    )
    names = []
    for number, selectors in enumerate(SELECTORS):
        names.append(f"trail-{number}")
        cloudtrail.create_trail(
            Name=names[-1], S3BucketName=f"bucket-{number}", EnableLogFileValidation=True
        )
        if selectors:
            cloudtrail.put_event_selectors(TrailName=names[-1], **selectors)
        cloudtrail.start_logging(Name=names[-1])
    return names


def _flush(server: Server, name: str) -> None:
    _ask(server, "/api/v1/trails/flush", json.dumps({"name": name}).encode())


def _post(server: Server, body: bytes) -> None:
    _ask(server, "/api/v1/records", body)


def _ask(server: Server, path: str, body: bytes) -> None:
    token = json.loads(Path(server.data, "server.json").read_text())["token"]
    request = urllib.request.Request(
        f"{server.console}{path}", data=body, headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer.read()


def _records(bucket: Store) -> list[tuple[float, str]]:
    """Returns when each delivered record came into its bucket, and its id."""
    found: list[tuple[float, str]] = []
    for path, (came, packed) in bucket.objects().items():
        if "/CloudTrail/" in path and path.endswith(".gz"):
            records = orjson.loads(gzip.decompress(packed))["Records"]
            found.extend((came, str(record["eventID"])) for record in records)
    return found


def _id(record: bytes) -> str:
    return str(orjson.loads(record)["eventID"])


BENCHMARKS = {"Trails: five at once": delivering}
