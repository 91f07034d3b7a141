"""Records made in another process, on their way to a server: the hooks' and middlewares' sender."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from opentrail.core.errors import OpentrailError, RecordRefused, UsageError

log = logging.getLogger(__name__)

_SECONDS = 10.0
_BATCH = 200
_WAITING = 10_000


class Shipper(Protocol):
    """Takes the JSON bytes of a record."""

    def ship(self, record: bytes) -> None:
        """Return once the record is where it should be, as far as the shipper promises it."""
        ...


class ServerShipper:
    """Sends records to a server's console port.

    With `wait` each call returns when its record is durable, and raises `RecordRefused` if it
    cannot be. Without, records go in batches from a thread of their own; `lost` counts what was
    not taken.

    Args:
        url: the console address, such as `http://127.0.0.1:4748`.
        token: the server's token (`server.json`).
        wait: whether a call waits for its record.
    """

    def __init__(self, url: str, token: str, wait: bool = True) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"url must be like http://127.0.0.1:4748, not {url!r}")
        self._url = f"{url.rstrip('/')}/api/v1/records"
        self._token = token
        self._wait = wait
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self.lost = 0

    @classmethod
    def of_data_dir(cls, data_dir: str | Path, wait: bool = True) -> ServerShipper:
        """Returns a shipper to the server that runs on a data directory.

        Raises:
            UsageError: none does.
        """
        try:
            described = json.loads((Path(data_dir) / "server.json").read_text())
            return cls(described["console"], described["token"], wait)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"no server runs on data directory {data_dir}") from error

    def ship(self, record: bytes) -> None:
        """Sends a record, or hands it to the thread that does."""
        if self._wait:
            self._send([record])
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_on, name="shipper", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Sends what waits and ends the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_SECONDS * 2)
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send_on(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = [first], False
            while len(batch) < _BATCH and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    ended = True
                    break
                batch.append(more)
            self._send_or_count(batch)
            if ended:
                return

    def _send_or_count(self, batch: Sequence[bytes]) -> None:
        for pause in (0.1, 1.0, None):
            try:
                self._send(batch)
            except RecordRefused as error:
                if pause is None:
                    self.lost += len(batch)
                    log.warning("records lost", extra={"count": len(batch), "error": str(error)})
                    return
                time.sleep(pause)
            else:
                return

    def _send(self, batch: Sequence[bytes]) -> None:
        request = urllib.request.Request(  # noqa: S310 - http to the server named by the caller
            self._url,
            data=b"\n".join(batch),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/x-ndjson",
            },
        )
        try:
            with self._open(request, timeout=_SECONDS) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            reason = error.read().decode("utf-8", "replace")[:300]
            if error.code < 500:
                raise OpentrailError(f"the server does not take the record: {reason}") from error
            raise RecordRefused(f"the record cannot be stored: {reason}") from error
        except OSError as error:
            raise RecordRefused(f"no server answers at {self._url}: {error}") from error
