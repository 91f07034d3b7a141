"""Logging on standard error: one JSON object per line, and words for people on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Awaitable
from typing import Any

from opentrail.core.errors import OpentrailError
from opentrail.core.text import printable

log = logging.getLogger(__name__)

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class LastProblem(logging.Handler):
    """Remembers the last warning or error that was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        #: Its line of the log; None if there was none.
        self.line: dict[str, Any] | None = None
        self._formatter = JsonLines()

    def emit(self, record: logging.LogRecord) -> None:
        """Remembers a line."""
        self.line = json.loads(self._formatter.format(record))


async def attempt(
    work: Awaitable[object], failure: str, *, is_known: bool = False, **about: str
) -> bool:
    """Awaits work that its caller repeats; returns whether it succeeded.

    Args:
        work: what may fail.
        failure: the text with which an exception is logged.
        is_known: whether it is not logged, because it was the time before.
        about: further fields of the line.
    """
    try:
        await work
    except (OpentrailError, OSError) as error:
        if not is_known:
            log.warning(failure, extra={**about, "error": str(error)})
    except Exception:  # a bug must neither end the task nor go unnoticed
        if not is_known:
            log.exception(failure, extra=about)
    else:
        return True
    return False


def set_up_logging() -> None:
    """Logs level INFO to standard error; libraries only from WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalLines() if sys.stderr.isatty() else JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("botocore", "boto3", "urllib3", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class TerminalLines(logging.Formatter):
    """A line for people; control characters cannot reach the terminal raw (guarantee N8)."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        time = self.formatTime(record, "%H:%M:%S")
        details = [f"{name}: {value}" for name, value in _details(record).items()]
        words = "; ".join([record.getMessage(), *details])
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        lines = [f"{time} {record.levelname.lower():<7} {words}", *trace]
        return "\n".join(printable(line) for line in lines)


class JsonLines(logging.Formatter):
    """One JSON object per line: control characters cannot reach a terminal raw (guarantee N8)."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **_details(record)}, default=str)


def _details(record: logging.LogRecord) -> dict[str, Any]:
    """Returns what a record has beside its message."""
    return {name: value for name, value in record.__dict__.items() if name not in _KNOWN}
