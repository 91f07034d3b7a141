"""Reads log files and adds their events to an event data store, in a process of low priority.

    python -m opentrail.imports.store_process store JOURNAL FOLDER UNTIL SPOOL

SPOOL has the log files (`StoreFolders.add`), and then what became of them. The process ends with
its parent: its standard input is a pipe from the parent.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
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
from opentrail.core.event import FOUND_DETAILS, Record, from_micros, parse_time
from opentrail.core.event_data_store import EventDataStore
from opentrail.imports.documents import read_file
from opentrail.imports.json_records import AcceptedRecord
from opentrail.ports.queries import LogFileOutcome

#: Other events than calls, which a store of calls cannot have.
NOT_A_CALL = "not the event of a call"
RECORD_TOO_LARGE = "an event larger than 1 MiB"
INVALID_LOG_FILE = "InvalidLogFile"
_SINCE_1970 = from_micros(0)
#: CloudTrail's own events have at most 1 MB.
_MAX_RECORD_BYTES = 1 << 20
#: Maximum reasons in the message about a file.
_MAX_REASONS = 3


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
    events, reasons, rejected = 0, Counter[str](), 0
    for result in read_file(name, content):
        if not isinstance(result, AcceptedRecord):
            rejected += 1
            reasons[f"record {result.line}: {result.reason} {result.detail}".strip()] += 1
        elif result.record.get("eventCategory") in FOUND_DETAILS:
            rejected += 1
            reasons[NOT_A_CALL] += 1
        elif len(result.raw) > _MAX_RECORD_BYTES:
            rejected += 1
            reasons[RECORD_TOO_LARGE] += 1
        elif is_copied(result.record):
            events += 1
            time = parse_time(result.record["eventTime"])
            additions.add(result.record["eventID"], time, result.raw)
    if not rejected:
        return LogFileOutcome(events)
    shown = "; ".join([*reasons][:_MAX_REASONS])
    return LogFileOutcome(events, INVALID_LOG_FILE, f"{rejected} not copied: {shown}")


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
