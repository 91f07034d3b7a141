"""Records made in another process, on their way to a server: the hooks' and middlewares' sender."""

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

log = logging.getLogger(__name__)

_SECONDS = 10.0
_BATCH = 200
_WAITING = 10_000
#: Between attempts in the background: a server that is started again has them in the end.
_PAUSES = (0.1, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0)
#: So many attempts are made even while the process ends.
_LEAST_ATTEMPTS = 3
#: In the background a caller's identity is asked for so long, kept so long, and for so long not
#: asked for again after no server has answered.
_IDENTITY_SECONDS, _KNOWN_SECONDS, _SILENT_SECONDS = 1.0, 10.0, 5.0
_MOST_KNOWN = 1_000


class Shipper(Protocol):
    """Takes the JSON bytes of a record."""

    def ship(self, record: bytes) -> None:
        """Return once the record is where it should be, as far as the shipper promises it."""
        ...


def ship_together(shipper: Shipper, records: Sequence[bytes]) -> None:
    """Has a shipper take all records of a call, in one piece if it has `ship_all`."""
    ship_all: Callable[[Sequence[bytes]], None] | None = getattr(shipper, "ship_all", None)
    if ship_all is not None:
        ship_all(records)
        return
    for record in records:
        shipper.ship(record)


class _Server(NamedTuple):
    console: str
    token: str


class _NotTaken(RecordRefused):
    """The server cannot use this record, however often it is sent."""


class ServerShipper:
    """Sends records to a server's console port.

    With `wait` each call returns when its record is durable, and raises `RecordRefused` if it
    cannot be. Without, records go in batches from a thread of their own, for half a minute again
    and again if no server takes them; `lost` counts what was not taken.

    Args:
        url: the console address, such as `http://127.0.0.1:4748`.
        token: the server's token (`server.json`).
        wait: whether a call waits for its record.
    """

    def __init__(self, url: str, token: str, wait: bool = True) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"url must be like http://127.0.0.1:4748, not {url!r}")
        self._server = _Server(url.rstrip("/"), token)
        self._data_dir: Path | None = None
        self._wait = wait
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._known: dict[str, tuple[float, Identity]] = {}
        self._silent_until = 0.0
        self.lost = 0

    @classmethod
    def of_data_dir(cls, data_dir: str | Path, wait: bool = True) -> ServerShipper:
        """Returns a shipper to the server that runs on a data directory, also after a restart.

        Raises:
            UsageError: none does.
        """
        folder = Path(data_dir)
        try:
            shipper = cls(*_server_of(folder), wait)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"no server runs on data directory {data_dir}") from error
        shipper._data_dir = folder
        return shipper

    def ship(self, record: bytes) -> None:
        """Sends a record, or hands it to the thread that does."""
        self.ship_all([record])

    def ship_all(self, records: Sequence[bytes]) -> None:
        """Does as `ship` with the records of one call; who waits has all of them taken, or none."""
        if self._wait:
            self._send(records)
            return
        if self._thread is None or not self._thread.is_alive():  # a forked process has none
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
        """Returns whom the server knows behind a key, None if it does not answer."""
        now = time.monotonic()
        if not self._wait:
            known = self._known.get(access_key_id)
            if known is not None and now < known[0]:
                return known[1]
            if now < self._silent_until:
                return None
        seconds = _SECONDS if self._wait else _IDENTITY_SECONDS
        try:
            told = json.loads(self._ask(f"identities/{quote(access_key_id, '')}", None, seconds))
            identity = Identity(
                access_key_id,
                told["account"],
                told["userIdentity"],
                deleted_by=told.get("deletedBy"),
            )
        except (RecordRefused, ValueError, KeyError, TypeError):
            self._silent_until = now + _SILENT_SECONDS
            return None
        if identity.user_identity.get("type") != "Unknown":
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[access_key_id] = (now + _KNOWN_SECONDS, identity)
        return identity

    def close(self) -> None:
        """Sends what waits and ends the thread."""
        if self._thread is None:
            return
        self._ending.set()
        with contextlib.suppress(queue.Full):  # then the thread looks whether it is to end
            self._queue.put_nowait(None)
        self._thread.join(_SECONDS * 2)
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
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            records = [record for record in batch if record is not None]
            if records:
                self._send_or_count(records)

    def _send_or_count(self, batch: Sequence[bytes]) -> None:
        try:
            self._send_again_and_again(batch)
        except _NotTaken as error:
            if len(batch) > 1:  # all or none are taken: one is at fault
                for record in batch:
                    self._send_or_count([record])
            else:
                self._lose(batch, error)
        except Exception as error:  # noqa: BLE001 - the thread goes on, whatever one batch does
            self._lose(batch, error)

    def _lose(self, batch: Sequence[bytes], error: Exception) -> None:
        self.lost += len(batch)
        log.warning("records lost", extra={"count": len(batch), "error": str(error)})

    def _send_again_and_again(self, batch: Sequence[bytes]) -> None:
        for attempt, pause in enumerate(_PAUSES, 1):
            try:
                return self._send(batch, again=attempt > 1)
            except _NotTaken:
                raise
            except RecordRefused:
                if attempt < _LEAST_ATTEMPTS:
                    time.sleep(pause)
                elif self._ending.wait(pause):
                    raise
        return self._send(batch, again=True)

    def _send(self, batch: Sequence[bytes], again: bool = False) -> None:
        self._ask("records?again=true" if again else "records", b"\n".join(batch), _SECONDS)

    def _ask(self, path: str, body: bytes | None, seconds: float) -> bytes:
        """Asks the server, and once more if another one has taken its place."""
        asked = self._server
        try:
            return self._ask_once(asked, path, body, seconds)
        except _NotTaken:
            raise
        except RecordRefused:
            if not self._moved(asked):
                raise
        again = path if "?" in path else f"{path}?again=true"
        return self._ask_once(self._server, again, body, seconds)

    def _moved(self, asked: _Server) -> bool:
        """Returns whether the server of the data directory has another address or token now."""
        if self._data_dir is None:
            return False
        try:
            self._server = _server_of(self._data_dir)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return self._server != asked

    def _ask_once(self, server: _Server, path: str, body: bytes | None, seconds: float) -> bytes:
        url = f"{server.console}/api/v1/{path}"
        headers = {"Authorization": f"Bearer {server.token}"}
        if body is not None:
            headers["Content-Type"] = "application/x-ndjson"
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - named by the caller
        try:
            with self._open(request, timeout=seconds) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            reason = error.read().decode("utf-8", "replace")[:300]
            if error.code == 401:
                raise RecordRefused(f"the server at {server.console} has another token") from error
            if error.code < 500:
                raise _NotTaken(f"the server does not take the record: {reason}") from error
            raise RecordRefused(f"the record cannot be stored: {reason}") from error
        except (OSError, HTTPException) as error:
            raise RecordRefused(f"no server answers at {server.console}: {error}") from error


def _server_of(data_dir: Path) -> _Server:
    described = json.loads((data_dir / "server.json").read_text())
    return _Server(str(described["console"]).rstrip("/"), str(described["token"]))
