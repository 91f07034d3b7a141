"""Batches, and requests that may be sent again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opentrail.commands import import_upload
from opentrail.commands.client import Console
from opentrail.commands.import_sources import NotSent
from opentrail.commands.import_upload import Sender, batches
from opentrail.core.errors import OpentrailError, TryLater, UsageError
from opentrail.imports.batch import BatchFile
from tests.commands.stub_server import BUSY, ImportServer, import_server
from tests.factories import record_bytes, some_records
from tests.stub_console import TOKEN

FILE = BatchFile("a.json", b"\n".join(record_bytes(record) for record in some_records(3)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImportServer]:
    with import_server(tmp_path / "data") as server:
        yield server


def sender(server: ImportServer, waited: list[str] | None = None) -> Sender:
    console = Console(server.stub.url, TOKEN)
    note = waited.append if waited is not None else lambda _: None
    return Sender(lambda: console, note, first_pause=0.001)


# Batches


def sizes(pieces: list[BatchFile | NotSent]) -> list[int]:
    return [len(batch) for batch in batches(pieces, lambda _: None)]


def test_a_batch_is_filled_until_it_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_upload, "_BATCH", 100)
    plain = BatchFile("a", b"x" * 40)
    packed = BatchFile("b", b"\x1f\x8b345")
    assert sizes([plain] * 5) == [2, 2, 1]
    assert sizes([packed] * 3) == [1, 1, 1]
    assert sizes([plain, BatchFile("c", b"x" * 500), plain]) == [1, 1, 1]
    assert sizes([]) == []


def test_a_batch_holds_no_more_files_than_a_request_may() -> None:
    assert sizes([BatchFile("a", b"")] * 10_001) == [10_000, 1]


def test_what_is_not_sent_is_noted_and_sent_is_the_rest() -> None:
    noted: list[NotSent] = []
    lost = NotSent("b", "cannot be read")
    (batch,) = batches([FILE, lost, FILE], noted.append)
    assert batch == [FILE, FILE]
    assert noted == [lost]


# Requests


def test_a_batch_arrives_and_is_answered(server: ImportServer) -> None:
    (answer,) = sender(server).send([FILE])
    assert answer == {"name": "a.json", "state": "imported", "lines": 3, "imported": 3,
                      "doubled": 0, "rejected": []}  # fmt: skip
    assert server.batches == [[FILE]]
    assert server.stub.asked[0].authorization == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: ImportServer, status: int) -> None:
    waited: list[str] = []
    server.failures = [(status, BUSY[1])] * 3
    (answer,) = sender(server, waited).send([FILE])
    assert answer["imported"] == 3
    assert waited == ["the disk does not keep up"] * 3 + [""]
    assert len({asked.body for asked in server.stub.asked}) == 1


def test_a_server_that_stays_busy_ends_the_sending(server: ImportServer) -> None:
    server.failures = [BUSY] * 100
    with pytest.raises(TryLater, match="the disk does not keep up"):
        sender(server).send([FILE])
    assert 5 <= len(server.stub.asked) <= 10


def test_a_server_that_comes_back_elsewhere_is_found(server: ImportServer) -> None:
    places: list[Any] = [
        Console("http://127.0.0.1:1", "old"),
        UsageError("no server runs on data directory x"),
        Console(server.stub.url, TOKEN),
    ]

    def find() -> Console:
        place = places.pop(0)
        if isinstance(place, UsageError):
            raise place
        assert isinstance(place, Console)
        return place

    (answer,) = Sender(find, first_pause=0.001).send([FILE])
    assert answer["imported"] == 3


def test_a_request_whose_answer_was_lost_may_come_twice(server: ImportServer) -> None:
    sender(server).send([FILE])
    (again,) = sender(server).send([FILE])
    assert (again["state"], again["imported"]) == ("known", 3)
    assert len(server.event_ids) == 3


def test_a_refusal_is_not_asked_again(server: ImportServer) -> None:
    server.failures = [(400, {"code": "InvalidParameterException", "error": "file 1: size"})]
    with pytest.raises(OpentrailError, match="file 1: size"):
        sender(server).send([FILE])
    assert len(server.stub.asked) == 1


def test_an_end_is_not_put_off_by_a_pause(server: ImportServer) -> None:
    server.failures = [BUSY] * 100
    slow = Sender(lambda: Console(server.stub.url, TOKEN), first_pause=60)
    raised = []

    def send() -> None:
        with pytest.raises(TryLater) as error:
            slow.send([FILE])
        raised.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    slow.end()
    thread.join(10)
    assert raised


GOOD = {"name": "a.json", "state": "imported", "lines": 3, "imported": 3, "doubled": 0,
        "rejected": []}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({}, "not about"),
        ({"files": []}, "not about"),
        ({"files": [GOOD, GOOD]}, "not about"),
        ({"files": [GOOD | {"name": "b"}]}, "not about"),
        ({"files": [GOOD | {"lines": 4}]}, "every line of a.json"),
        ({"files": [GOOD | {"doubled": 1}]}, "every line of a.json"),
        ({"files": [{"name": "a.json"}]}, "understood"),
        ({"files": [GOOD | {"lines": None}]}, "understood"),
        ({"files": [None]}, "understood"),
        ({"files": [GOOD | {"lines": 4, "rejected": [{}]}]}, "understood"),
    ],
)
def test_an_answer_that_does_not_account_for_every_line_is_no_answer(
    server: ImportServer, answer: Any, named: str
) -> None:
    server.failures = [(200, answer)]
    with pytest.raises(OpentrailError, match=named):
        sender(server).send([FILE])
