"""Reads of objects that `--record` leaves out, beside the same reads recorded."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.load import CONNECTIONS, calls_per_second
from benchmarks.neighbours import neighbours
from benchmarks.nginx import stub
from benchmarks.processes import two_cpus
from benchmarks.servers import opentrail
from benchmarks.wire import Connection, percentile
from opentrail.commands.sandbox import ADMIN_KEY_ID

CALLS, WARM_UP_SECONDS, SECONDS, ROUNDS = 4_000, 2, 5, 5
_SCOPE = f"{ADMIN_KEY_ID}/20200101/us-east-1/s3/aws4_request"
GET = (
    "GET /objects/key HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
    "User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 Botocore/1.44.5\r\n"
    "X-Amz-Date: 20200101T000000Z\r\nX-Amz-Content-SHA256: UNSIGNED-PAYLOAD\r\n"
    f"Authorization: AWS4-HMAC-SHA256 Credential={_SCOPE}, "
    "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
    f"Signature={'0' * 64}\r\n\r\n"
).encode()
_SELECTORS = [
    {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]},
    {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "readOnly", "Equals": ["false"]},
        ]
    },
    {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            {"Field": "resources.ARN", "NotStartsWith": ["arn:aws:s3:::objects/"]},
        ]
    },
]


def leaving_out() -> dict[str, float]:
    """Loads two servers in turn, one of which leaves the calls out, each alone on one core."""
    server_cpu, load_cpu = two_cpus()
    rates: dict[str, list[float]] = {"recorded": [], "left out": []}
    times: dict[str, list[float]] = {"direct": [], **{name: [] for name in rates}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        selectors = folder / "selectors.json"
        selectors.write_text(json.dumps(_SELECTORS))
        upstream = stack.enter_context(stub(load_cpu))
        recording = stack.enter_context(opentrail(upstream, cpu=server_cpu))
        flags = ("--record", str(selectors))
        leaving = stack.enter_context(opentrail(upstream, *flags, cpu=server_cpu))
        ports = {"recorded": recording.port, "left out": leaving.port}
        neighbours.wait_until_at_rest()
        connections = {"direct": Connection(upstream)}
        connections |= {name: Connection(port) for name, port in ports.items()}
        for number in range(CALLS + 200):
            for name, connection in connections.items():
                taken = connection.timed(GET)
                if number >= 200:
                    times[name].append(taken)
        for port in ports.values():
            calls_per_second(port, GET, WARM_UP_SECONDS, load_cpu)
        for _ in range(ROUNDS):
            for name, port in ports.items():
                neighbours.wait_until_at_rest()
                rates[name].append(calls_per_second(port, GET, SECONDS, load_cpu))
        kept = leaving.records()
    if kept:
        raise RuntimeError(f"{kept} calls were recorded")
    p50 = {name: percentile(taken, 0.5) for name, taken in times.items()}
    added = {name: p50[name] - p50["direct"] for name in rates}
    pairs = zip(rates["left out"], rates["recorded"], strict=True)
    return {
        **{f"{name} GET calls/s": median(found) for name, found in rates.items()},
        "left out / recorded, calls/s ratio": median(one / other for one, other in pairs),
        "direct GET p50 ms": p50["direct"],
        **{f"added by a GET {name} p50 ms": taken for name, taken in added.items()},
        "left out / recorded, added p50 ratio": added["left out"] / added["recorded"],
    }


BENCHMARKS = {f"Recorder: reads left out, {CONNECTIONS} connections": leaving_out}
