"""The page of a principal with 100,000 events: first call, heat map, most frequent values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.servers import opentrail

EVENTS = int(os.environ.get("OPENTRAIL_BENCH_PRINCIPAL_EVENTS", "100000"))
ANSWERS = 5
#: A port where nothing answers: no call is made.
_NO_UPSTREAM = 9
ARN = "arn:aws:iam::123456789012:user/busy"


def page() -> dict[str, float]:
    """Imports the events of one principal over 80 days, and asks for it several times."""
    now = int(time.time()) // 3_600 * 3_600
    first = now - 80 * 86_400
    with opentrail(_NO_UPSTREAM) as server, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events.ndjson"
        with file.open("w") as lines:
            for number in range(EVENTS):
                moment = time.gmtime(first + number * (80 * 86_400) // EVENTS)
                lines.write(json.dumps(_record(number, moment)) + "\n")
        command = [sys.executable, "-m", "opentrail", "import", str(file)]
        subprocess.run([*command, "--data-dir", str(server.data)], check=True)
        described = json.loads((server.data / "server.json").read_text())
        seconds = []
        for _ in range(ANSWERS):
            started = time.perf_counter()
            answer = _answer(described)
            seconds.append(time.perf_counter() - started)
        whole = sum(map(sum, answer["hours"]))
        expected = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(first))
        if (answer["first"], answer["events"], whole) != (expected, EVENTS, EVENTS):
            raise RuntimeError(f"the answer is not whole: {answer}")
    return {"events": EVENTS, "first answer s": seconds[0], "slowest of 5 s": max(seconds)}


def _answer(described: dict[str, str]) -> dict[str, Any]:
    address = f"{described['console']}/api/v1/principals/{urllib.parse.quote(ARN)}"
    headers = {"Authorization": f"Bearer {described['token']}"}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _record(number: int, moment: time.struct_time) -> dict[str, Any]:
    return {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "IAMUser",
            "arn": ARN,
            "accountId": "123456789012",
            "accessKeyId": f"AKIAEXAMPLE{number % 3:09d}",
            "userName": "busy",
        },
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        "eventSource": ("ec2", "iam", "s3", "sqs")[number % 4] + ".amazonaws.com",
        "eventName": "DescribeInstances",
        "awsRegion": "us-east-1",
        "sourceIPAddress": f"192.0.2.{number % 40}",
        "userAgent": f"aws-cli/2.{number % 12}",
        "requestParameters": {"number": number},
        "responseElements": None,
        "eventID": f"00000000-0000-4000-8000-{number:012d}",
        "readOnly": True,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": "123456789012",
        "eventCategory": "Management",
    }


BENCHMARKS = {"page of a principal": page}
