"""Logging: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

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


def set_up_logging() -> None:
    """Logs level INFO to standard error; libraries only from WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("botocore", "boto3", "urllib3", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """One JSON object per line: control characters cannot reach a terminal raw (guarantee N8)."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        extra = {name: v for name, v in record.__dict__.items() if name not in _KNOWN}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **extra}, default=str)
