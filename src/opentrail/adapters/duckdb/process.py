"""The process in which event history lives: look-ups never hold up what is being recorded.

python -m opentrail.adapters.duckdb.process SOCKET HISTORY-FOLDER JOURNAL-FOLDER SEAL-RECORDS

It ends with the server. All that it keeps is in sealed files; the rest comes from the journal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import uvloop

from opentrail.adapters.duckdb.crash import arm_in_child
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.ipc import messages
from opentrail.adapters.ipc.link import Link
from opentrail.adapters.system import settle_memory, unsettle_memory
from opentrail.core.event import from_micros
from opentrail.logs import set_up_logging

#: Of entries that are read at a time; who reads asks again for the others.
_READ_BYTES = 32 * 1024 * 1024


class HistoryProcess:
    """Answers the server's questions about one store."""

    def __init__(self, history: Path, journal: Path, seal_records: int) -> None:
        self._store = DuckdbEvents(history, journal, seal_records, self._repair_journal)
        self._link: Link | None = None
        self._stopped = asyncio.Event()
        self._questions: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            messages.OPEN: self._open,
            messages.ADD: self._add,
            messages.LOOKUP: self._lookup,
            messages.READ: self._read,
            messages.FIND: self._find,
            messages.SHOW_IMPORTS: self._show_imports,
            messages.EXPIRE: self._expire,
            messages.STATE: self._state,
            messages.CLOSE: self._close,
        }

    async def serve(self, end: socket.socket) -> None:
        """Answers until the server says stop, or is gone."""
        self._link = link = await Link.over(end, self._answer)
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait((stopped, link.gone), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        link.close()
        await self._store.close()

    async def _repair_journal(self, first: int, last: int) -> None:
        if self._link is not None:
            await self._link.ask(messages.REPAIR_JOURNAL, orjson.dumps([first, last]))

    async def _answer(self, question: str, body: bytes) -> bytes:
        return await self._questions[question](body)

    async def _open(self, body: bytes) -> bytes:
        await self._store.open(orjson.loads(body or b"0"))
        return await self._state()

    async def _add(self, body: bytes) -> bytes:
        await self._store.add_packed(body)
        return await self._state()

    async def _lookup(self, body: bytes) -> bytes:
        return messages.pack_found(await self._store.lookup(messages.unpack_query(body)))

    async def _read(self, body: bytes) -> bytes:
        entries = await self._store.read(*orjson.loads(body))
        size = 0
        for number, entry in enumerate(entries):
            size += len(entry.record)
            if number and size > _READ_BYTES:
                return messages.pack_entries(entries[:number])
        return messages.pack_entries(entries)

    async def _find(self, body: bytes) -> bytes:
        return orjson.dumps(await self._store.find(body.decode()))

    async def _show_imports(self, _body: bytes) -> bytes:
        await self._store.show_imports()
        return await self._state()

    async def _expire(self, body: bytes) -> bytes:
        before, last_needed = orjson.loads(body)
        return orjson.dumps(await self._store.expire(from_micros(before), last_needed))

    async def _state(self, _body: bytes = b"") -> bytes:
        upkeep = self._store.upkeep
        return orjson.dumps(
            {
                "position": self._store.position,
                "imported": self._store.imported,
                "sealed": self._store.sealed,
                "files": self._store.files,
                "missing": upkeep.missing,
                "damaged": upkeep.damaged,
                "lostImports": upkeep.lost_imports,
                "isChecked": upkeep.is_checked,
            }
        )

    async def _close(self, _body: bytes) -> bytes:
        asyncio.get_running_loop().call_soon(self._stopped.set)
        return b""


async def _run(descriptor: int, history: Path, journal: Path, seal_records: int) -> None:
    with socket.socket(fileno=descriptor) as end:
        end.setblocking(False)
        process = HistoryProcess(history, journal, seal_records)
        settle_memory()
        await process.serve(end)
        unsettle_memory()


def main() -> None:
    """Runs the process."""
    # Signals meant for the server reach its whole process group: it tells when to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    set_up_logging()
    arm_in_child(("history.merged", "history.expired"), [os.getpid()])
    descriptor, history, journal, seal_records = sys.argv[1:]
    uvloop.run(_run(int(descriptor), Path(history), Path(journal), int(seal_records)))


if __name__ == "__main__":
    main()
