"""Overload is refused or counted, and never accumulates (guarantees D15, D16 and D17)."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import botocore.exceptions
import pytest

from tests.capture.proxy.wires import scope
from tests.live.processes import Opentrail, opentrail_server, stalled_disk
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.live, pytest.mark.anomaly]

MEGABYTE = 1024 * 1024
POLICY = "x" * 60_000


def resident(server: Opentrail) -> int:
    """Returns the server's resident memory in bytes."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def backlog(server: Opentrail) -> float:
    """Returns the age of the oldest record that waits for the disk."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.console}/health", timeout=60) as answer:
        return float(json.load(answer)["journal"]["backlogSeconds"])


def outcome(call: Callable[[], object]) -> str:
    """Returns the code of a call's error, or "good"."""
    try:
        call()
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return "good"


def test_a_stalled_disk_throttles_calls(
    tmp_path: Path,
) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        # Clients are made beforehand: SQLite waits five seconds for the disk, then it fails.
        iam, ec2, s3, dynamodb, functions = (
            server.boto(service) for service in ("iam", "ec2", "s3", "dynamodb", "lambda")
        )
        calls: dict[str, Callable[[], object]] = {
            "Throttling": lambda: iam.create_user(UserName="throttled"),
            "RequestLimitExceeded": lambda: ec2.describe_vpcs(),
            "SlowDown": lambda: s3.create_bucket(Bucket="throttled"),
            "ThrottlingException": lambda: dynamodb.list_tables(),
            "TooManyRequestsException": lambda: functions.list_functions(),
        }
        iam.create_user(UserName="before")
        with ThreadPoolExecutor(1) as pool:
            with stalled_disk(server):
                waiting = pool.submit(lambda: iam.create_user(UserName="waits"))
                wait_until(lambda: backlog(server) > 0.6)
                forwarded = stub.count
                # Answers arrive although the disk still stalls: no call waits for it.
                with ThreadPoolExecutor(len(calls)) as clients:
                    assert list(clients.map(outcome, calls.values())) == list(calls)
                assert stub.count == forwarded, "calls that cannot be recorded are not forwarded"
                assert not waiting.done()
            waiting.result()
        wait_until(lambda: outcome(calls["Throttling"]) == "good")
        created = [
            record["requestParameters"]["userName"]
            for record in server.records("EventName=CreateUser")
        ]
        assert created.count("before") == created.count("waits") == 1
        assert len(server.records()) == stub.count, "every forwarded call is recorded"


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(400):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come to pass")


def create_role(connection: http.client.HTTPConnection, name: str) -> int:
    body = f"Action=CreateRole&Version=2010-05-08&RoleName={name}&AssumeRolePolicyDocument={POLICY}"
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": scope("iam"),
    }
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.slow
@pytest.mark.campaign
def test_with_allow_a_stalled_disk_counts_every_loss(
    tmp_path: Path,
) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(
            tmp_path / "data", "--upstream", stub.url, "--on-record-failure", "allow"
        ) as server,
    ):
        port = int(server.url.rpartition(":")[2])

        def send(client: int) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            return sum(create_role(connection, f"r-{client}-{n}") == 200 for n in range(400))

        before = resident(server)
        with stalled_disk(server), ThreadPoolExecutor(4) as pool:
            answered = sum(pool.map(send, range(4)))
            grown = resident(server) - before
        assert answered == 1600
        assert grown < 300 * MEGABYTE, f"{grown / MEGABYTE:.0f} MB"

        def lost() -> int:
            gaps = server.records("EventName=RecordsLost")
            return sum(gap["serviceEventDetails"]["lostRecords"] for gap in gaps)

        wait_until(lambda: lost() + server.count("EventName=CreateRole") == answered)
        assert lost() > 0, "the queue was never full: nothing was shown"


@pytest.mark.slow
def test_bodies_are_decoded_up_to_16_megabytes(tmp_path: Path) -> None:
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        port = int(server.url.rpartition(":")[2])
        bodies = [
            json.dumps({"TableName": "t", "Item": {"v": {"S": "x" * size}}}).encode()
            for size in (1_000, 2 * MEGABYTE, 15 * MEGABYTE, 17 * MEGABYTE)
        ]
        for body in bodies:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": "DynamoDB_20120810.PutItem",
                "Authorization": scope("dynamodb"),
            }
            connection.request("POST", "/", body, headers)
            assert connection.getresponse().status == 200
        *decoded, beyond = server.records()[::-1]
        assert [r["requestParameters"]["tableName"] for r in decoded] == ["t"] * 3
        assert beyond["eventName"] == "PutItem"
        assert beyond["requestParameters"] is None
        assert beyond["additionalEventData"]["opentrail"]["oversizeRequestBody"] == {
            "bytes": len(bodies[-1]),
            "sha256": hashlib.sha256(bodies[-1]).hexdigest(),
        }
        before = resident(server)
        s3 = server.boto("s3")
        for number in range(4):
            s3.put_object(Bucket="b", Key=f"k{number}", Body=bodies[-1])
        assert resident(server) - before < 30 * MEGABYTE, "objects are counted, not kept"
        put = next(r for r in server.records() if r["eventName"] == "PutObject")
        assert put["additionalEventData"]["bytesTransferredIn"] == len(bodies[-1])
