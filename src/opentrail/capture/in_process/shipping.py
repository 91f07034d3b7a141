"""Sends records of hooks and middleware to a server."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self
from urllib.parse import quote

from opentrail.core.errors import RecordRefused, UsageError
from opentrail.core.identity import Identity
from opentrail.wire.pinning import direct_opener

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0
#: Maximum records of a request.
_MAX_BATCH = 200
#: Maximum queued records.
_MAX_QUEUE = 10_000
#: Seconds between attempts in the background; a server may restart during a pause.
_PAUSES = (0.1, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0)
#: Minimum attempts, made even while the process ends.
_MIN_ATTEMPTS = 3
#: In the background: the timeout of a request for an identity.
_IDENTITY_SECONDS = 1.0
#: Seconds to cache the answer to an identity request.
_CACHE_SECONDS = 10.0
#: Seconds between identity requests after an unanswered one.
_SILENT_SECONDS = 5.0
#: Maximum identities in the cache.
_MAX_CACHED = 1_000


class Shipper(Protocol):
    """Stores the JSON bytes of records."""

    def ship(self, record: bytes) -> None:
        """Return once the record is stored, or queued if the shipper works in the background."""
        ...


def ship_together(shipper: Shipper, records: Sequence[bytes]) -> None:
    """Ships all records of a call, in one batch if the shipper has `ship_all`."""
    ship_all: Callable[[Sequence[bytes]], None] | None = getattr(shipper, "ship_all", None)
    if ship_all is not None:
        ship_all(records)
        return
    for record in records:
        shipper.ship(record)


class _Server(NamedTuple):
    console: str
    token: str
    #: PEM file with its certificate, if it speaks TLS on this machine.
    certificate: Path | None = None


class _RecordInvalid(RecordRefused):
    """The server refuses this record; a retry does not help."""


class ServerShipper:
    """Sends records to a server's console port.

    With `wait` each call returns when its record is durable, and raises `RecordRefused` if that
    fails. Without, a background thread sends records in batches and retries for half a minute;
    `lost` counts the records that no server stored.

    Args:
        url: the console address, such as `http://127.0.0.1:4748`.
        token: the server's token (`server.json`).
        wait: whether a call waits until its record is durable.
    """

    def __init__(self, url: str, token: str, wait: bool = True) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"url must be like http://127.0.0.1:4748, not {url!r}")
        self._server = _Server(url.rstrip("/"), token)
        self._data_dir: Path | None = None
        self._wait = wait
        self._queue: queue.Queue[bytes | None] = queue.Queue(_MAX_QUEUE)
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._known: dict[str, tuple[float, Identity]] = {}
        self._silent_until = 0.0
        self.lost = 0

    @classmethod
    def of_data_dir(cls, data_dir: str | Path, wait: bool = True) -> ServerShipper:
        """Returns a shipper to the server of a data directory; it survives restarts of the server.

        Raises:
            UsageError: no server runs on it.
        """
        folder = Path(data_dir)
        try:
            server = _server_of(folder)
            shipper = cls(server.console, server.token, wait)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"no server runs on data directory {data_dir}") from error
        shipper._server, shipper._data_dir = server, folder
        return shipper

    def ship(self, record: bytes) -> None:
        """Sends a record, or queues it for the background thread."""
        self.ship_all([record])

    def ship_all(self, records: Sequence[bytes]) -> None:
        """Ships the records of one call; with `wait`, atomically."""
        if self._wait:
            self._send(records)
            return
        if self._thread is None or not self._thread.is_alive():  # a forked process has no thread
            self._ending.clear()
            self._thread = threading.Thread(target=self._send_on, name="shipper", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        for record in records:
            try:
                self._queue.put_nowait(record)
            except queue.Full:
                self.lost += 1

    def identity(self, access_key_id: str) -> Identity | None:
        """Returns the identity behind a key, None if no server answers."""
        now = time.monotonic()
        if not self._wait:
            cached = self._known.get(access_key_id)
            if cached is not None and now < cached[0]:
                return cached[1]
            if now < self._silent_until:
                return None
        seconds = _TIMEOUT_SECONDS if self._wait else _IDENTITY_SECONDS
        try:
            answer = json.loads(self._ask(f"identities/{quote(access_key_id, '')}", None, seconds))
            identity = Identity(
                access_key_id,
                answer["account"],
                answer["userIdentity"],
                deleted_by=answer.get("deletedBy"),
                agent_tag=answer.get("agentTag"),
                transitive_tags=answer.get("transitiveTags") or {},
            )
        except (RecordRefused, ValueError, KeyError, TypeError):
            self._silent_until = now + _SILENT_SECONDS
            return None
        if identity.user_identity.get("type") != "Unknown":
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            self._known[access_key_id] = (now + _CACHE_SECONDS, identity)
        return identity

    def close(self) -> None:
        """Sends queued records and ends the thread."""
        if self._thread is None:
            return
        self._ending.set()
        with contextlib.suppress(queue.Full):  # then the thread sees `_ending`
            self._queue.put_nowait(None)
        self._thread.join(_TIMEOUT_SECONDS * 2)
        self._thread = None
        atexit.unregister(self.close)

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
        while not (self._ending.is_set() and self._queue.empty()):
            batch = [self._queue.get()]
            while len(batch) < _MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            records = [record for record in batch if record is not None]
            if records:
                self._send_or_count(records)

    def _send_or_count(self, batch: Sequence[bytes]) -> None:
        try:
            self._send_with_retries(batch)
        except _RecordInvalid as error:
            if len(batch) > 1:  # nothing is stored: one is invalid
                for record in batch:
                    self._send_or_count([record])
            else:
                self._count_lost(batch, error)
        except Exception as error:  # noqa: BLE001 - the thread must continue
            self._count_lost(batch, error)

    def _count_lost(self, batch: Sequence[bytes], error: Exception) -> None:
        self.lost += len(batch)
        log.warning("records lost", extra={"count": len(batch), "error": str(error)})

    def _send_with_retries(self, batch: Sequence[bytes]) -> None:
        for attempt, pause in enumerate(_PAUSES, 1):
            try:
                return self._send(batch, again=attempt > 1)
            except _RecordInvalid:
                raise
            except RecordRefused:
                if attempt < _MIN_ATTEMPTS:
                    time.sleep(pause)
                elif self._ending.wait(pause):
                    raise
        return self._send(batch, again=True)

    def _send(self, batch: Sequence[bytes], again: bool = False) -> None:
        self._ask("records?again=true" if again else "records", b"\n".join(batch), _TIMEOUT_SECONDS)

    def _ask(self, path: str, body: bytes | None, seconds: float) -> bytes:
        """Sends a request; retries once if another server has replaced this one."""
        server = self._server
        try:
            return self._ask_once(server, path, body, seconds)
        except _RecordInvalid:
            raise
        except RecordRefused:
            if not self._moved(server):
                raise
        again = path if "?" in path else f"{path}?again=true"
        return self._ask_once(self._server, again, body, seconds)

    def _moved(self, server: _Server) -> bool:
        """Returns whether the server of the data directory has a new address or token."""
        if self._data_dir is None:
            return False
        try:
            self._server = _server_of(self._data_dir)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return self._server != server

    def _ask_once(self, server: _Server, path: str, body: bytes | None, seconds: float) -> bytes:
        url = f"{server.console}/api/v1/{path}"
        headers = {"Authorization": f"Bearer {server.token}"}
        if body is not None:
            headers["Content-Type"] = "application/x-ndjson"
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - named by the caller
        try:
            with direct_opener(server.certificate).open(request, timeout=seconds) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            reason = error.read().decode("utf-8", "replace")[:300]
            if error.code == 401:
                raise RecordRefused(f"the server at {server.console} has another token") from error
            if error.code < 500:
                raise _RecordInvalid(f"the server refused the record: {reason}") from error
            raise RecordRefused(f"the record cannot be stored: {reason}") from error
        except (OSError, HTTPException) as error:
            raise RecordRefused(f"no server answers at {server.console}: {error}") from error


def _server_of(data_dir: Path) -> _Server:
    described = json.loads((data_dir / "server.json").read_text())
    console, token = str(described["console"]).rstrip("/"), str(described["token"])
    certificate = described.get("certificate")
    return _Server(console, token, Path(certificate) if certificate else None)
