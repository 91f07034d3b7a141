"""Reads log files and adds their events to an event data store, in a process of low priority.

    python -m opentrail.imports.store_process store JOURNAL FOLDER UNTIL SPOOL

SPOOL has the log files (`StoreFolders.add`), and then what became of them. The process ends with
its parent: its standard input is a pipe from the parent.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import orjson

from opentrail.adapters.duckdb.children import JOURNAL_DAMAGED
from opentrail.adapters.duckdb.store_files import Additions, adding, tend
from opentrail.adapters.ipc.child import arm_in_child
from opentrail.adapters.journal_source import open_source
from opentrail.adapters.parent import end_with_parent
from opentrail.adapters.store_folders import OUTCOMES, REQUEST, SETTINGS
from opentrail.core.attributes import account_of
from opentrail.core.errors import JournalDamaged
from opentrail.core.event import (
    DATA,
    MANAGEMENT,
    NETWORK_ACTIVITY,
    Record,
    from_micros,
    parse_time,
)
from opentrail.core.event_data_store import EventDataStore
from opentrail.imports.documents import read_file
from opentrail.imports.json_records import AcceptedRecord, Result
from opentrail.ports.queries import LogFileOutcome

#: Categories of the events that a store of calls can have.
_CALLS = (MANAGEMENT, DATA, NETWORK_ACTIVITY)
NOT_A_CALL = "not the event of a call"
RECORD_TOO_LARGE = "larger than 1 MiB"
INVALID_LOG_FILE = "InvalidLogFile"
_SINCE_1970 = from_micros(0)
#: CloudTrail's own events have at most 1 MB.
_MAX_RECORD_BYTES = 1 << 20


def add(folder: Path, spool: Path) -> list[LogFileOutcome]:
    """Adds the events of log files to the store of a folder; returns what became of each file."""
    names, first, last = orjson.loads((spool / REQUEST).read_bytes())
    between = (from_micros(first), from_micros(last))
    store = EventDataStore.from_document(orjson.loads((folder / SETTINGS).read_bytes()))

    def is_copied(record: Record) -> bool:
        is_own = account_of(record) == store.account
        return is_own and between[0] <= parse_time(record["eventTime"]) <= between[1]

    with adding(folder) as additions:
        return [
            _add_file(additions, name, (spool / str(number)).read_bytes(), is_copied)
            for number, name in enumerate(names)
        ]


def _add_file(
    additions: Additions, name: str, content: bytes, is_copied: Callable[[Record], bool]
) -> LogFileOutcome:
    events = rejected = 0
    #: Reason → the number of the first record.
    reasons: dict[str, int] = {}
    for result in read_file(name, content):
        reason = _rejection(result, is_copied)
        if reason is not None:
            rejected += 1
            reasons.setdefault(reason, result.line)
        elif isinstance(result, AcceptedRecord) and is_copied(result.record):
            events += 1
            time = parse_time(result.record["eventTime"])
            additions.add(result.record["eventID"], time, result.raw)
    if not rejected:
        return LogFileOutcome(events)
    shown = "; ".join(f"{reason} (record {line})" for reason, line in reasons.items())
    return LogFileOutcome(events, INVALID_LOG_FILE, f"{rejected} not copied: {shown}")


def _rejection(result: Result, is_copied: Callable[[Record], bool]) -> str | None:
    """Returns why a record cannot be copied; without its content, which others may own."""
    if not isinstance(result, AcceptedRecord):
        return result.reason
    if not is_copied(result.record):
        return None
    if (result.record.get("eventCategory") or MANAGEMENT) not in _CALLS:
        return NOT_A_CALL
    return RECORD_TOO_LARGE if len(result.raw) > _MAX_RECORD_BYTES else None


def main(arguments: Sequence[str]) -> None:
    """Writes the files of a store, first from the journal; prints marks of missing positions."""
    _, journal, folder, until, spool = arguments
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent ignores it
    arm_in_child(("store.written", "store.merged"))
    try:
        missing = tend(open_source(journal), Path(folder), int(until), _SINCE_1970)
    except JournalDamaged as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(JOURNAL_DAMAGED)
    outcomes = add(Path(folder), Path(spool))
    (Path(spool) / OUTCOMES).write_bytes(msgspec.json.encode(outcomes))
    sys.stdout.write("".join(f"{path}\n" for path in missing))


if __name__ == "__main__":
    main(sys.argv[1:])
