"""Writes one sealed file from a range of the journal, in a child process of low priority.

python -m opentrail.adapters.duckdb.seal JOURNAL-FOLDER FIRST LAST FILE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import duckdb
import orjson

from opentrail.adapters.duckdb.schema import column_lists, create_table, insert_into
from opentrail.adapters.files import sync_folder
from opentrail.adapters.sqlite import read_range
from opentrail.core.attributes import attributes_of
from opentrail.core.faults import arm, reach
from opentrail.ports.event_store import IndexedEntry

_BATCH = 5_000


def seal(journal: Path, first: int, last: int, target: Path) -> None:
    """Writes the entries `first`…`last` to `target`: temporary name, sync, rename, sync.

    Raises:
        RuntimeError: the journal does not hold the whole range.
    """
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    count = 0
    connection = duckdb.connect(str(temporary), config={"threads": 1, "memory_limit": "512MB"})
    try:
        connection.execute(create_table("events", sealed=True))
        for batch in read_range(journal, first, last, _BATCH):
            rows = [
                IndexedEntry(e.position, attributes_of(orjson.loads(e.record)), e.record)
                for e in batch
            ]
            connection.execute(insert_into("events"), column_lists(rows))
            count += len(rows)
        connection.execute("CHECKPOINT")
    finally:
        connection.close()
    if count != last - first + 1:
        temporary.unlink()
        raise RuntimeError(f"journal holds {count} of the {last - first + 1} entries to seal")
    descriptor = os.open(temporary, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    reach("history.sealed")
    temporary.replace(target)
    sync_folder(target.parent)


def main() -> None:
    """Runs as a child: lowers its priority, seals, exits 0."""
    os.nice(19)
    _arm_fault()
    journal, first, last, target = sys.argv[1:]
    seal(Path(journal), int(first), int(last), Path(target))


def _arm_fault() -> None:
    """Arms `history.sealed` for tests: the server dies with its child, as in a power cut."""
    name, _, count = os.environ.get("OPENTRAIL_CRASH_AT", "").partition(":")

    def die() -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    if name == "history.sealed":
        arm(name, int(count or "1"), die)


if __name__ == "__main__":
    main()
