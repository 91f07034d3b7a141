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
from opentrail.core.logs import (
    MAX_COUNTED_PROBLEMS,
    REPEAT_SECONDS,
    JsonLines,
    LastProblem,
    QueueingHandler,
    Repetitions,
    TerminalLines,
    attempt,
)
from tests.fakes import asynchronous


def line(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "WARNING", **extra})
    return JsonLines().format(record)


def test_line_is_one_json_object_with_added_members() -> None:
    found = json.loads(line("delivery failed", trail="my-trail", attempt=3))
    assert found["message"] == "delivery failed"
    assert found["level"] == "warning"
    assert (found["trail"], found["attempt"]) == ("my-trail", 3)


def test_times_are_utc() -> None:
    record = {"msg": "a", "levelname": "INFO", "created": 1_577_869_200.9}
    written = JsonLines().format(logging.makeLogRecord(record))
    assert json.loads(written)["time"] == "2020-01-01T09:00:00Z"
    assert TerminalLines().format(logging.makeLogRecord(record)).startswith("09:00:00Z ")


def test_terminal_controls_are_escaped() -> None:
    written = line("a\x1b[31m\nb\u202e\x9b", name_of_bucket="c\x07")
    assert written.isprintable()
    assert json.loads(written)["message"] == "a\x1b[31m\nb\u202e\x9b"


def test_an_error_has_its_traceback_on_the_line() -> None:
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
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ", time)
    assert (level, words) == ("warning", "delivery failed; trail: my-trail; attempt: 3")


def test_output_cannot_control_the_terminal() -> None:
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
async def test_repeated_work_may_fail_with_a_logged_reason(
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
async def test_successful_work_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_full_pipe_drops_and_counts_lines(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = QueueingHandler(writing)
    handler.setFormatter(JsonLines())
    package = logging.getLogger("opentrail")
    package.addHandler(handler)
    try:
        total = 400
        for number in range(total):  # more than the pipe and two full queues hold
            package.warning("line", extra={"number": number, "text": "x" * 10_000})
        numbers, dropped = list[int](), 0
        for line in lines_of(reading):
            if "number" in line:
                numbers.append(line["number"])
            else:
                assert line["message"] == "log lines dropped"
                dropped += line["lines"]
            if dropped and len(numbers) + dropped == total:
                break
        assert numbers == sorted(numbers)
        assert numbers[0] == 0
    finally:
        package.removeHandler(handler)


def test_broken_pipe_stops_no_caller(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = QueueingHandler(writing)
    os.close(reading)
    for _ in range(3):
        handler.emit(logging.makeLogRecord({"msg": "line", "levelno": 20}))
        handler.flush()


# Repetitions


class RepetitionScene:
    """Repetitions at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.repetitions = Repetitions(JsonLines().format)
        self.written: list[dict[str, Any]] = []

    def log(self, message: str, level: int = logging.WARNING, **extra: object) -> None:
        record = logging.makeLogRecord({"name": "t", "msg": message, "levelno": level, **extra})
        self.written += map(json.loads, self.repetitions.lines(record, self.now))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.written += map(json.loads, self.repetitions.due_lines(self.now))

    def counts(self) -> list[int]:
        """Returns `repeated` of each line, 0 for lines without it."""
        return [line.get("repeated", 0) for line in self.written]


def test_repeated_problem_is_logged_once_a_minute() -> None:
    scene = RepetitionScene()
    for _ in range(1200):  # 150 seconds
        scene.log("S3 failed", error="refused")
        scene.pass_time(0.125)
    assert scene.counts() == [0, 479, 480]
    scene.pass_time(REPEAT_SECONDS)
    assert scene.counts() == [0, 479, 480, 240]
    assert scene.repetitions.next_due is not None  # it may fail again
    scene.pass_time(REPEAT_SECONDS)
    assert scene.repetitions.next_due is None
    scene.log("S3 failed", error="refused")
    assert scene.counts()[-1] == 0


def test_short_problem_is_counted_within_a_minute() -> None:
    scene = RepetitionScene()
    for _ in range(3):
        scene.log("S3 failed")
    assert scene.counts() == [0]
    assert scene.repetitions.next_due == REPEAT_SECONDS
    scene.pass_time(REPEAT_SECONDS)
    assert scene.counts() == [0, 2]
    assert scene.repetitions.remaining_lines() == []


def test_different_problems_are_all_logged() -> None:
    scene = RepetitionScene()
    different: list[dict[str, Any]] = [
        {},
        {"name": "other"},
        {"level": logging.ERROR},
        {"trail": "one"},
        {"trail": "two"},
        {"error": "refused"},
        {"error": "denied"},
        {"count": 1},
        {"count": 2},
    ]
    for fields in different:
        scene.log("S3 failed", **fields)
    scene.log("PostgreSQL failed")
    for error in (KeyError("a"), KeyError("b")):
        scene.log("S3 failed", exc_info=(type(error), error, None))
    assert scene.counts() == [0] * (len(different) + 3)


def test_position_of_a_follower_starts_no_line() -> None:
    scene = RepetitionScene()
    for position in (1, 2):
        scene.log("follower failed", follower="history", after=position)
    scene.pass_time(REPEAT_SECONDS)
    assert [line["after"] for line in scene.written] == [1, 2]


def test_information_is_never_suppressed() -> None:
    scene = RepetitionScene()
    for _ in range(3):
        scene.log("ready", logging.INFO)
    assert len(scene.written) == 3


def test_counted_problems_are_limited() -> None:
    scene = RepetitionScene()
    scene.log("first")
    scene.log("first")
    for number in range(2 * MAX_COUNTED_PROBLEMS):
        scene.log("next", number=number)
    assert [line["repeated"] for line in scene.written if "repeated" in line] == [1]
    assert len(scene.written) == 2 + 2 * MAX_COUNTED_PROBLEMS
    scene.log("first")
    assert "repeated" not in scene.written[-1]


def test_end_of_process_writes_counts(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = QueueingHandler(writing, lambda: 0.0)
    handler.setFormatter(JsonLines())
    problem = LastProblem()
    for number in range(20):
        record = logging.makeLogRecord({"msg": "S3 failed", "levelno": 30, "after": number})
        for each in (handler, problem):
            each.handle(record)
    handler.flush()
    os.close(writing)
    first, last = lines_of(reading)
    assert "repeated" not in first
    assert (last["repeated"], last["after"]) == (19, 19)
    assert problem.line is not None
    assert (problem.line["after"], problem.line.get("repeated")) == (19, None)


def test_handler_writes_counts_when_due(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    now = 0.0
    handler = QueueingHandler(writing, lambda: now)
    handler.setFormatter(JsonLines())
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "S3 failed", "levelno": 30}))
    now = REPEAT_SECONDS
    handler.handle(logging.makeLogRecord({"msg": "ready", "levelno": 20}))  # wakes the thread
    written = lines_of(reading)
    lines = [next(written) for _ in range(3)]
    assert [line["message"] for line in lines] == ["S3 failed", "S3 failed", "ready"]
    assert lines[1]["repeated"] == 2
