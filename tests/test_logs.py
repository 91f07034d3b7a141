"""Log lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from opentrail.core.errors import StorageFailed
from opentrail.logs import JsonLines, LastProblem, QueueingHandler, TerminalLines, attempt
from tests.fakes import asynchronous


def line(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "WARNING", **extra})
    return JsonLines().format(record)


def test_a_line_is_one_json_object_with_what_was_added() -> None:
    found = json.loads(line("delivery failed", trail="my-trail", attempt=3))
    assert found["message"] == "delivery failed"
    assert found["level"] == "warning"
    assert (found["trail"], found["attempt"]) == ("my-trail", 3)


def test_nothing_that_steers_a_terminal_is_written_raw() -> None:
    written = line("a\x1b[31m\nb\u202e\x9b", name_of_bucket="c\x07")
    assert written.isprintable()
    assert json.loads(written)["message"] == "a\x1b[31m\nb\u202e\x9b"


def test_an_error_is_written_with_its_traceback_on_the_same_line() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        written = line("it failed", exc_info=sys.exc_info())
    assert "\n" not in written
    assert "ValueError: wrong" in json.loads(written)["error"]


def on_a_terminal(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "WARNING", **extra})
    return TerminalLines().format(record)


def test_a_line_on_a_terminal_is_in_words() -> None:
    written = on_a_terminal("delivery failed", trail="my-trail", attempt=3)
    time, level, words = written.split(maxsplit=2)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", time)
    assert (level, words) == ("warning", "delivery failed; trail: my-trail; attempt: 3")


def test_what_a_terminal_shows_does_not_steer_it() -> None:
    try:
        raise ValueError("w\x1b[31mrong")
    except ValueError:
        written = on_a_terminal("a\x1b[31m\nb\u202e", bucket="c\x07", exc_info=sys.exc_info())
    lines = written.split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "ValueError: w\\x1b[31mrong"


def test_the_last_problem_is_remembered() -> None:
    logger, problem = logging.getLogger("tests.last_problem"), LastProblem()
    logger.addHandler(problem)
    assert problem.line is None
    logger.warning("first")
    logger.error("second", extra={"trail": "my-trail"})
    logger.info("all is well")
    assert problem.line is not None
    assert (problem.line["message"], problem.line["trail"]) == ("second", "my-trail")


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (StorageFailed("a full disk"), logging.WARNING),
        (OSError("a full disk"), logging.WARNING),
        (KeyError("a full disk"), logging.ERROR),
    ],
)
@asynchronous
async def test_work_that_is_repeated_may_fail_and_says_why(
    caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    async def work() -> None:
        raise error

    assert not await attempt(work(), "it failed")
    assert not await attempt(work(), "it failed", is_known=True)
    (record,) = caplog.records
    assert (record.message, record.levelno) == ("it failed", level)
    assert "a full disk" in (caplog.text if level == logging.ERROR else record.error)  # type: ignore[attr-defined]


@asynchronous
async def test_work_that_succeeds_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert await attempt(asyncio.sleep(0), "it failed")
    assert not caplog.records


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def lines_of(descriptor: int) -> Iterator[dict[str, Any]]:
    with open(descriptor, "rb", closefd=False) as file:
        for written in file:
            yield json.loads(written)


def test_full_pipe_drops_and_counts_lines(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = QueueingHandler(writing)
    handler.setFormatter(JsonLines())
    package = logging.getLogger("opentrail")
    package.addHandler(handler)
    try:
        total = 200
        for number in range(total):  # more than the pipe and the queue hold
            package.warning("line", extra={"number": number, "text": "x" * 10_000})
        written = []
        for line in lines_of(reading):
            written.append(line)
            if "lines" in line:
                break
        assert written[-1]["message"] == "log lines dropped"
        assert written[-1]["lines"] + len(written) - 1 == total
        assert [line["number"] for line in written[:-1]] == list(range(len(written) - 1))
    finally:
        package.removeHandler(handler)


def test_broken_pipe_stops_no_caller(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = QueueingHandler(writing)
    os.close(reading)
    for _ in range(3):
        handler.emit(logging.makeLogRecord({"msg": "line"}))
        handler.flush()
