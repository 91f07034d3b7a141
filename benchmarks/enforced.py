"""What the verification of signatures costs the recorder, and what its own API answers then."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.load import CONNECTIONS, calls_per_second
from benchmarks.neighbours import neighbours
from benchmarks.nginx import stub
from benchmarks.processes import two_cpus
from benchmarks.servers import Server, opentrail
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.app.access_keys import control_place, open_keys
from opentrail.core.trail import Trail, stored_time
from opentrail.settings import Settings
from opentrail.trails.registry import TrailRegistry

WARM_UP_SECONDS, SECONDS, ROUNDS = 2, 10, 4
_ACCOUNT, _REGION = "123456789012", "us-east-1"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.GetTrailStatus"


def enforced() -> dict[str, float]:
    """Loads two servers in turn, one of which verifies signatures, each alone on one core."""
    server_cpu, load_cpu = two_cpus()
    figures: dict[str, float] = {}
    rates: dict[str, list[float]] = {"permissive": [], "enforced": []}
    with ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cpu))
        calls = {}
        for mode in rates:
            server, key = stack.enter_context(_server(upstream, mode, server_cpu))
            body = b"Action=CreateUser&Version=2010-05-08&UserName=bench"
            calls[mode] = server.port, _signed(server, key, "iam", body, {"Content-Type": _FORM})
            calls_per_second(*calls[mode], WARM_UP_SECONDS, load_cpu)
        for _ in range(ROUNDS):
            for mode, (port, call) in calls.items():
                neighbours.wait_until_at_rest()
                rates[mode].append(calls_per_second(port, call, SECONDS, load_cpu))
        # The last server is the one that verifies.
        status = _signed(
            server,
            key,
            "cloudtrail",
            json.dumps({"Name": "bench"}).encode(),
            {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": _TARGET},
        )
        neighbours.wait_until_at_rest()
        figures["GetTrailStatus calls/s, verified"] = calls_per_second(
            server.port, status, SECONDS, load_cpu
        )
    figures |= {f"{mode} calls/s": median(found) for mode, found in rates.items()}
    ratios = [e / p for e, p in zip(rates["enforced"], rates["permissive"], strict=True)]
    return {**figures, "enforced / permissive, calls/s ratio": median(ratios)}


@contextmanager
def _server(upstream: int, mode: str, cpu: int) -> Iterator[tuple[Server, Credentials]]:
    made: list[Credentials] = []
    with opentrail(
        upstream, "--auth", mode, cpu=cpu, prepare=lambda data: made.append(_prepare(data))
    ) as server:
        yield server, made[0]


def _prepare(folder: Path) -> Credentials:
    """Puts an access key and a trail into a data directory."""

    async def prepare() -> Credentials:
        data = DataDirectory(folder)
        data.open()
        place = control_place(Settings(), data)
        control = place.open()
        keys = await open_keys(place, control)
        new = await keys.create(f"arn:aws:iam::{_ACCOUNT}:root")
        now = stored_time(SystemClock().now())
        trail = Trail(str(uuid.uuid4()), "bench", _ACCOUNT, _REGION, "bench-logs", created_at=now)
        await TrailRegistry(control).add(trail)
        await control.close()
        data.close()
        return Credentials(new.key.access_key_id, new.secret_access_key)

    return asyncio.run(prepare())


def _signed(
    server: Server, key: Credentials, service: str, body: bytes, headers: dict[str, str]
) -> bytes:
    """Returns a request that is valid for five minutes."""
    url = f"http://127.0.0.1:{server.port}/"
    request = AWSRequest("POST", url, headers, body)
    SigV4Auth(key, service, _REGION).add_auth(request)
    lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{''.join(lines)}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


BENCHMARKS = {f"Access: calls verified, {CONNECTIONS} connections": enforced}
