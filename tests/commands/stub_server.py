"""A small import route: the real framing and the real parser over a set of event ids."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentrail.imports.batch import BatchFile, unpack
from opentrail.imports.documents import read_file
from opentrail.imports.json_records import RejectedRecord
from tests.stub_console import Asked, StubConsole, stub_console

BUSY = (503, {"code": "ServiceUnavailable", "error": "the disk does not keep up"})


class ImportServer:
    """Accepts batches; `failures` are the next answers instead."""

    def __init__(self, stub: StubConsole) -> None:
        self.stub = stub
        self.data_dir = stub.data_dir
        self.event_ids: set[str] = set()
        self.failures: list[tuple[int, Any]] = []
        #: Number of successful requests before all others fail.
        self.good_for: int | None = None
        self.batches: list[list[BatchFile]] = []
        self._known: dict[bytes, dict[str, Any]] = {}
        self._lock = threading.Lock()
        stub.react = self._react

    def _react(self, asked: Asked) -> tuple[int, Any]:
        assert (asked.method, asked.path) == ("POST", "/api/v1/import")
        with self._lock:
            if self.failures:
                return self.failures.pop(0)
            if self.good_for is not None and len(self.batches) >= self.good_for:
                return 500, {"code": "InternalFailure", "error": "the server has enough"}
            files = list(unpack([asked.body]))
            self.batches.append(files)
            return 200, {"files": [self._taken(file) for file in files]}

    def _taken(self, file: BatchFile) -> dict[str, Any]:
        digest = hashlib.sha256(file.content + b"%d" % file.line).digest()
        if digest in self._known:
            return {**self._known[digest], "state": "known", "name": file.name}
        answer: dict[str, Any] = {"lines": 0, "imported": 0, "doubled": 0, "rejected": []}
        for result in read_file(file.name, file.content, file.line):
            answer["lines"] += 1
            if isinstance(result, RejectedRecord):
                answer["rejected"].append(
                    {"line": result.line, "reason": result.reason, "detail": result.detail}
                )
            elif result.record["eventID"] in self.event_ids:
                answer["doubled"] += 1
            else:
                answer["imported"] += 1
                self.event_ids.add(result.record["eventID"])
        self._known[digest] = answer
        return {**answer, "state": "imported", "name": file.name}


@contextmanager
def import_server(data_dir: Path) -> Iterator[ImportServer]:
    """Runs the server during a test."""
    with stub_console(data_dir) as stub:
        yield ImportServer(stub)
