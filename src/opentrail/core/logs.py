"""Logging on standard error: one JSON object per line, or plain text on a terminal.

A thread writes the lines, so that an unread pipe stops no call. A repeated warning or error is
written once a minute, with the number of its repetitions.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from opentrail.core.errors import OpentrailError
from opentrail.core.event import Json, format_time
from opentrail.core.text import printable

log = logging.getLogger(__name__)

#: Maximum bytes of queued lines; further lines are dropped and counted.
MAX_QUEUED_BYTES = 1 << 20
#: Maximum seconds that a process waits for its last lines at its end.
_FLUSH_SECONDS = 1.0
_STDERR = 2
#: Seconds between two lines of a repeated warning or error.
REPEAT_SECONDS = 60.0
#: Maximum number of different warnings and errors with counted repetitions.
MAX_COUNTED_PROBLEMS = 500
#: Fields in which two repetitions of a warning or error may differ.
_PROGRESS_FIELDS = frozenset({"after"})

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class LastProblem(logging.Handler):
    """Remembers the last logged warning or error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        #: Its log line; None if there was none.
        self.line: Json | None = None
        self._formatter = JsonLines()

    def emit(self, record: logging.LogRecord) -> None:
        """Remembers a line."""
        self.line = json.loads(self._formatter.format(record))


async def attempt(
    work: Awaitable[object], failure: str, *, is_known: bool = False, **about: str
) -> bool:
    """Awaits work that its caller repeats; returns whether it succeeded.

    Args:
        work: the work.
        failure: the log message for an exception.
        is_known: whether not to log it, because it also failed the last time.
        about: further fields of the line.
    """
    try:
        await work
    except (OpentrailError, OSError) as error:
        if not is_known:
            log.warning(failure, extra={**about, "error": str(error)})
    except Exception:  # a bug must neither end the task nor stay hidden
        if not is_known:
            log.exception(failure, extra=about)
    else:
        return True
    return False


def set_up_logging() -> None:
    """Logs level INFO to standard error; libraries only from WARNING."""
    handler = QueueingHandler(_STDERR)
    handler.setFormatter(TerminalLines() if os.isatty(_STDERR) else JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("botocore", "boto3", "urllib3", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@dataclass(slots=True)
class _Repeated:
    """A warning or error since its last line."""

    #: When its repetitions are written.
    due: float
    count: int = 0
    #: The line of the last repetition, or "".
    line: str = ""


class Repetitions:
    """Suppresses repetitions of warnings and errors, and counts them.

    The first line of a problem is written immediately, the last one of its repetitions after
    `REPEAT_SECONDS`: its field `repeated` is their number. Two records are the same problem if
    logger, level, message, exception and all fields except `_PROGRESS_FIELDS` are equal.

    Args:
        format_line: returns the line of a record.
    """

    def __init__(self, format_line: Callable[[logging.LogRecord], str]) -> None:
        self._format_line = format_line
        #: In the order of `due`.
        self._problems: dict[tuple[object, ...], _Repeated] = {}

    @property
    def next_due(self) -> float | None:
        """When `due_lines` is next due; None if nothing is counted."""
        return next((problem.due for problem in self._problems.values()), None)

    def lines(self, record: logging.LogRecord, now: float) -> list[str]:
        """Returns the lines to be written when a record is logged."""
        lines = self.due_lines(now)
        if record.levelno < logging.WARNING:
            return [*lines, self._format_line(record)]
        key = _problem(record)
        problem = self._problems.get(key)
        if problem is not None:
            problem.count += 1
            last = copy.copy(record)
            last.__dict__["repeated"] = problem.count
            problem.line = self._format_line(last)
            return lines
        if len(self._problems) >= MAX_COUNTED_PROBLEMS:
            oldest = self._problems.pop(next(iter(self._problems)))
            lines += [oldest.line] if oldest.count else []
        self._problems[key] = _Repeated(now + REPEAT_SECONDS)
        return [*lines, self._format_line(record)]

    def due_lines(self, now: float) -> list[str]:
        """Returns the lines of due repetitions; forgets problems without any."""
        lines = []
        while self._problems:
            key, problem = next(iter(self._problems.items()))
            if problem.due > now:
                break
            del self._problems[key]
            if problem.count:
                lines.append(problem.line)
                self._problems[key] = _Repeated(now + REPEAT_SECONDS)
        return lines

    def remaining_lines(self) -> list[str]:
        """Returns the lines of all repetitions, for the end of the process."""
        lines = [problem.line for problem in self._problems.values() if problem.count]
        self._problems.clear()
        return lines


def _problem(record: logging.LogRecord) -> tuple[object, ...]:
    """Returns the common part of a repeated warning or error."""
    details = sorted(
        (name, repr(value))
        for name, value in _details(record).items()
        if name not in _PROGRESS_FIELDS
    )
    trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
    return record.name, record.levelno, record.getMessage(), *details, trace


class QueueingHandler(logging.Handler):
    """Writes lines to a file descriptor in a thread; `emit` never waits for its reader.

    Repeated warnings and errors are written once a minute. Lines beyond `MAX_QUEUED_BYTES` are
    dropped. Once there is space again, a line reports their number.
    """

    def __init__(self, descriptor: int, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._now = now
        #: Guards everything below.
        self._changed = threading.Condition()
        self._repetitions = Repetitions(self.format)
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._is_writing = False
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues a line, counts it as a repetition, or drops it."""
        with self._changed:
            self._queue(self._repetitions.lines(record, self._now()))
            self._changed.notify_all()

    def flush(self) -> None:
        """Returns once all lines are written, after a second at most."""
        with self._changed:
            self._queue(self._repetitions.remaining_lines())
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lines and not self._is_writing, _FLUSH_SECONDS)

    def _queue(self, texts: list[str]) -> None:
        for text in texts:
            line = f"{text}\n".encode("utf-8", "backslashreplace")
            if self._queued_bytes + len(line) > MAX_QUEUED_BYTES:
                self._dropped += 1
                continue
            self._lines.append(line)
            self._queued_bytes += len(line)

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while not self._lines:
                    due = self._repetitions.next_due
                    self._changed.wait(None if due is None else max(0.0, due - self._now()))
                    self._queue(self._repetitions.due_lines(self._now()))
                count, lines = len(self._lines), b"".join(self._lines)
                dropped, self._dropped = self._dropped, 0
                if dropped:  # not queued: a full queue would drop the number
                    lines += f"{self.format(_drop(dropped))}\n".encode()
                self._lines.clear()
                self._queued_bytes = 0
                self._is_writing = True
            try:
                while lines:
                    # Not through sys.stderr: the end of the process would wait for its lock.
                    lines = lines[os.write(self._descriptor, lines) :]
            except OSError:  # its reader is gone
                with self._changed:
                    self._dropped += dropped + count


def _drop(lines: int) -> logging.LogRecord:
    """Returns the record that reports dropped lines."""
    message, extra = "log lines dropped", {"lines": lines}
    return log.makeRecord(log.name, logging.WARNING, __file__, 0, message, (), None, extra=extra)


class TerminalLines(logging.Formatter):
    """A line for people; control characters cannot reach the terminal raw (guarantee N8)."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        time = _utc(record).strftime("%H:%M:%SZ")
        details = [f"{name}: {value}" for name, value in _details(record).items()]
        words = "; ".join([record.getMessage(), *details])
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        lines = [f"{time} {record.levelname.lower():<7} {words}", *trace]
        return "\n".join(printable(line) for line in lines)


class JsonLines(logging.Formatter):
    """One JSON object per line: control characters cannot reach a terminal raw (guarantee N8)."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: Json = {
            "time": format_time(_utc(record)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **_details(record)}, default=str)


def _utc(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _details(record: logging.LogRecord) -> Json:
    """Returns a record's fields other than its message."""
    return {name: value for name, value in record.__dict__.items() if name not in _KNOWN}
