"""Interrupted calls, wherever and on whichever side, are no successful calls."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.capture.proxy.wires import Wire, get, ok, scope, scripted
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.campaign]

#: More than the endpoint holds back until the record is durable.
LONG = bytes(200_000)
LEFT_REQUEST = "the client closed before its request was complete"
LEFT_ANSWER = "the client went away before its answer was complete"
UPSTREAM_LEFT = "upstream closed the connection before its answer was complete"

HEAD = f"PUT /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
DYNAMODB = (
    f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('dynamodb')}\r\n"
    "X-Amz-Target: DynamoDB_20120810.DeleteTable\r\n"
)
IAM = (
    f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('iam')}\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n"
)
OURS = (
    f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('cloudtrail')}\r\n"
    "X-Amz-Target: com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.DeleteTrail\r\n"
)


def waits(wire: Wire) -> None:
    wire.rest()


def answers_the_start(wire: Wire) -> None:
    """Answers an unfinished request, and never ends its answer."""
    wire.until(b"\r\n\r\n")
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + LONG)
    wire.rest()


def leaves_at_once(wire: Wire) -> None:
    wire.request()


def leaves_in_the_head(wire: Wire) -> None:
    wire.request()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-")


def leaves_in_a_short_answer(wire: Wire) -> None:
    wire.request()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


def leaves_in_a_long_answer(wire: Wire) -> None:
    wire.request()
    wire.send(b"HTTP/1.1 200 OK\r\nx-amz-request-id: SEEN\r\nContent-Length: 300000\r\n\r\n" + LONG)


def leaves_in_a_chunk(wire: Wire) -> None:
    wire.request()
    wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % 300_000 + LONG)


def goes(wire: Wire) -> None:
    wire.close()


def resets(wire: Wire) -> None:
    wire.exactly(100_000)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def half_closes(wire: Wire) -> None:
    wire.socket.shutdown(socket.SHUT_WR)
    status, _, body = wire.answer()
    assert status == 400
    assert b"IncompleteBody" in body


def reads(wire: Wire) -> None:
    assert wire.answer()[0] == 502


def reads_what_comes(wire: Wire) -> None:
    assert len(wire.rest()) < 300_000, "a broken answer looks broken"


OWN = "client in a call to our own API"
#: The client's bytes and next steps, the upstream's steps, the event's name, error and message.
BREAKS: dict[str, tuple[str, Callable[[Wire], None], Callable[[Wire], None], str, str, str]] = {
    "client before the body": (
        f"{HEAD}Content-Length: 9\r\n\r\n",
        *(goes, waits, "PutObject", "IncompleteBody", LEFT_REQUEST),
    ),
    "client in the body": (
        f"{HEAD}Content-Length: 1000000\r\n\r\nstart",
        *(goes, waits, "PutObject", "IncompleteBody", LEFT_REQUEST),
    ),
    "client in a chunk": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n64\r\nstart",
        *(goes, waits, "PutObject", "IncompleteBody", LEFT_REQUEST),
    ),
    "client before the last chunk": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nstart\r\n",
        *(goes, waits, "PutObject", "IncompleteBody", LEFT_REQUEST),
    ),
    "client that still listens": (
        f"{HEAD}Content-Length: 9\r\n\r\nstart",
        *(half_closes, waits, "PutObject", "IncompleteBody", LEFT_REQUEST),
    ),
    "client in the body, answered already": (
        f"{HEAD}Content-Length: 1000000\r\n\r\nstart",
        *(resets, answers_the_start, "PutObject", "IncompleteBody", LEFT_REQUEST),
    ),
    "client in a JSON call": (
        f'{DYNAMODB}Content-Length: 20\r\n\r\n{{"TableName"',
        *(goes, waits, "DeleteTable", "IncompleteBody", LEFT_REQUEST),
    ),
    "client in a form": (
        f"{IAM}Content-Length: 90\r\n\r\nAction=DeleteUser&Version=2010-05-08&UserName=M",
        *(goes, waits, "DeleteUser", "IncompleteBody", LEFT_REQUEST),
    ),
    OWN: (
        f'{OURS}Content-Length: 20\r\n\r\n{{"Name"',
        *(goes, waits, "DeleteTrail", "IncompleteBody", LEFT_REQUEST),
    ),
    "client in the answer": (
        get("/b/k"),
        *(resets, answers_the_start, "GetObject", "ClientDisconnected", LEFT_ANSWER),
    ),
    "upstream before its answer": (
        get("/b/k"),
        *(reads, leaves_at_once, "GetObject", "BadGateway", UPSTREAM_LEFT),
    ),
    "upstream in the head": (
        get("/b/k"),
        *(reads, leaves_in_the_head, "GetObject", "BadGateway", UPSTREAM_LEFT),
    ),
    "upstream in a short answer": (
        get("/b/k"),
        *(reads, leaves_in_a_short_answer, "GetObject", "BadGateway", UPSTREAM_LEFT),
    ),
    "upstream in a long answer": (
        get("/b/k"),
        *(reads_what_comes, leaves_in_a_long_answer, "GetObject", "BadGateway", UPSTREAM_LEFT),
    ),
    "upstream in a chunk": (
        get("/b/k"),
        *(reads_what_comes, leaves_in_a_chunk, "GetObject", "BadGateway", UPSTREAM_LEFT),
    ),
}


@pytest.mark.parametrize("mode", ["refuse", "allow"])
def test_an_interrupted_call_has_an_error(tmp_path: Path, mode: str) -> None:
    scripts = [one[2] for name, one in BREAKS.items() if name != OWN]
    flags = ("--on-record-failure", mode)
    errors: dict[str, tuple[str, str, str]] = {}
    with (
        scripted(*scripts) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url, *flags) as server,
    ):
        for name, (sent, goes_on, script, *_) in BREAKS.items():
            if mode == "allow" and script is leaves_in_a_short_answer:
                goes_on = reads_what_comes  # its head has left
            goes_on(Wire.to(server.url).send(sent))
            records = recorded(server, len(errors) + 1)
            newest = records[0]
            errors[name] = (newest["eventName"], newest["errorCode"], newest["errorMessage"])
        assert server.records("is:success") == []
        assert len(server.records("is:failure")) == len(BREAKS)
    assert errors == {name: tuple(one[3:]) for name, one in BREAKS.items()}
    assert all(record["responseElements"] is None for record in records)


def test_who_ignores_aborted_uploads(tmp_path: Path) -> None:
    def upstream(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b""))
        wire.rest()

    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        call = f"PUT /made HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
        whole = Wire.to(server.url).send(f"{call}Content-Length: 5\r\n\r\nwhole")
        assert whole.answer()[0] == 200
        broken = f"PUT /made?policy HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
        Wire.to(server.url).send(f"{broken}Content-Length: 500\r\n\r\n{{").close()
        recorded(server, 2)
        text = server.opentrail("who", "made").stdout
    assert "created" in text
    assert "changed" not in text


def recorded(server: Opentrail, count: int) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = []
    while len(records) < count:
        records = server.records()
    assert len(records) == count
    return records
