"""The traces of a call on its way.

`python -m tests.capture.test_way_of_a_call` rewrites the expected records; read their changes.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import re
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import botocore
import pytest

from opentrail.core.event import Entry
from tests.capture.proxy.wires import endpoint
from tests.conformance.answers import Answer, answer_of
from tests.conformance.expect import EXCEPTED
from tests.conformance.generate import Case, cases, sampled
from tests.conformance.send import Sender
from tests.factories import KEY
from tests.fakes import MemoryJournal, run
from tests.stub_upstream import PreparedUpstream, StubUpstream

RECORDS = Path(__file__).parent.parent / "data" / "way-of-a-call.ndjson.gz"
#: Operations of each service, all variants: 418 calls.
OPERATIONS = 7
SERVICES = (
    *("iam", "sts", "sns", "rds", "ec2", "autoscaling", "cloudformation"),
    *("dynamodb", "kms", "secretsmanager", "sqs", "ecs", "logs", "ssm"),
    *("lambda", "eks", "apigateway", "s3", "route53", "cloudfront"),
)
_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_RANDOM = re.compile(rb'("sharedEventID":")[^"]*')
_EMPTY = Answer(200, {"Content-Type": "application/xml"}, b"", None)


def some_cases() -> Iterator[Case]:
    for service in SERVICES:
        for case in cases(service, sampled(service, OPERATIONS)):
            if (service, case.operation) not in EXCEPTED:
                yield case


async def entries_of_calls(calls: Iterable[Case]) -> list[Entry]:
    """Makes each call on its own; returns the records."""
    sender = Sender("http://127.0.0.1:4747", KEY, _SECRET)
    journal = MemoryJournal()
    with PreparedUpstream() as upstream:
        async with endpoint(journal, int(upstream.host.partition(":")[2])) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for case in calls:
                raw = sender.bytes_of(case)
                is_head = raw.startswith(b"HEAD ")
                answer = _EMPTY if case.service == "s3" else answer_of(case)
                upstream.next = answer.raw(not is_head)
                writer.write(raw)
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(0 if is_head else len(answer.body))
            writer.close()
    return journal.disk


def records_of_calls() -> list[bytes]:
    """Returns the records of the calls, without their ids."""
    return [
        _RANDOM.sub(rb"\1", entry.record.replace(entry.event_id.encode(), b""))
        for entry in run(entries_of_calls(some_cases()))
    ]


@pytest.mark.slow
def test_records_stay_unchanged() -> None:
    lines = gzip.decompress(RECORDS.read_bytes()).split(b"\n")
    if lines[0].decode() != botocore.__version__:
        pytest.skip(f"the expected records are of botocore {lines[0].decode()}")
    found = records_of_calls()
    assert len(found) == len(lines) - 1 > 400
    for record, expected in zip(found, lines[1:], strict=True):
        assert record == expected


async def memory_of_calls(head: str, body: str) -> int:
    """Returns the bytes still in use after calls with different long names."""
    journal, used = MemoryJournal(), 0
    with StubUpstream() as upstream:
        async with endpoint(journal, int(upstream.host.partition(":")[2])) as (port, _):
            for number in range(41):
                content = body.replace("NAME", f"A{number}" + "a" * 100_000).encode()
                given = head.replace("NAME", f"b{number}" + "b" * 30_000).encode()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(given + b"Connection: close\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(content) + content)
                status = (await reader.readuntil(b"\r\n")).split()[1]
                assert status in (b"200", b"400")  # a target of another service is refused
                await reader.read()
                writer.close()
                if number == 0:
                    gc.freeze()  # skips the objects of other tests
                    tracemalloc.start()
                    used = tracemalloc.get_traced_memory()[0]
    assert len(journal.disk) == 41
    journal.disk.clear()
    gc.collect()
    gc.unfreeze()
    used = tracemalloc.get_traced_memory()[0] - used
    tracemalloc.stop()
    return used


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("", "Action=NAME&Version=2010-05-08"),
        ("", "Action=CreateUser&Version=NAME"),
        ("", "Action=CreateUser&Version=2010-05-08&NAME=1"),
        ("X-Amz-Target: DynamoDB_20120810.NAME\r\n", "{}"),
        ("X-Amz-Target: NAME.GetItem\r\n", "{}"),
        ("X-Amz-Target: DynamoDB_20120810.GetItem\r\n", '{"NAME": 1}'),
        ("X-NAME: 1\r\n", ""),
    ],
)
@pytest.mark.parametrize("service", ["iam", "dynamodb", "NAME"])
def test_invented_names_are_not_cached(header: str, body: str, service: str) -> None:
    credential = f"Credential={KEY}/20200101/us-east-1/{service}/aws4_request"
    head = (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Date: 20200101T000000Z\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Authorization: AWS4-HMAC-SHA256 {credential}, SignedHeaders=host,"
        f" Signature={'0' * 64}\r\n"
    )
    assert run(memory_of_calls(head + header, body)) < 800_000


if __name__ == "__main__":
    lines = [botocore.__version__.encode(), *records_of_calls()]
    RECORDS.write_bytes(gzip.compress(b"\n".join(lines), mtime=0))
    print(f"{len(lines) - 1} records")
