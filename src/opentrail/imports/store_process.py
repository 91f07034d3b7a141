"""Reads log files and writes files with their new events, in a process of low priority.

    python -m opentrail.imports.store_process FOLDER SPOOL

SPOOL has the log files (`StoreMaker.added`), and then what became of them; FOLDER gets the files of
the event data store. The process ends with its parent: its standard input is a pipe from the
parent.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import orjson

from opentrail.adapters.duckdb.store_files import Additions, adding
from opentrail.adapters.duckdb.store_folders import OUTCOMES, REQUEST, SETTINGS
from opentrail.adapters.ipc.child import arm_in_child
from opentrail.adapters.ipc.parent import end_with_parent
from opentrail.core.attributes import account_of
from opentrail.core.event import (
    DATA,
    MANAGEMENT,
    NETWORK_ACTIVITY,
    Record,
    from_micros,
    parse_time,
)
from opentrail.core.event_data_store import EventDataStore
from opentrail.imports.batch import EMPTY
from opentrail.imports.documents import read_file
from opentrail.imports.json_records import AcceptedRecord, Result
from opentrail.ports.queries import LogFileOutcome

#: Categories of the events that a store of calls can have.
_CALLS = (MANAGEMENT, DATA, NETWORK_ACTIVITY)
NO_ACCOUNT = "of no account"
NOT_A_CALL = "not the event of a call"
RECORD_TOO_LARGE = "larger than 1 MiB"
INVALID_LOG_FILE = "InvalidLogFile"
_SINCE_1970 = from_micros(0)
#: CloudTrail's own events have at most 1 MB.
_MAX_RECORD_BYTES = 1 << 20


def add(folder: Path, spool: Path) -> list[LogFileOutcome]:
    """Writes the new events of log files to files of a store; returns what became of each."""
    names, first, last, begin, existing = orjson.loads((spool / REQUEST).read_bytes())
    between = (from_micros(first), from_micros(last))
    store = EventDataStore.from_document(orjson.loads((folder / SETTINGS).read_bytes()))

    def is_asked(record: Record) -> bool:
        return between[0] <= parse_time(record["eventTime"]) <= between[1]

    with adding(folder, begin, [Path(path) for path in existing]) as additions:
        return [
            _add_file(additions, name, (spool / str(number)).read_bytes(), store.account, is_asked)
            for number, name in enumerate(names)
        ]


def _add_file(
    additions: Additions,
    name: str,
    content: bytes,
    account: str,
    is_asked: Callable[[Record], bool],
) -> LogFileOutcome:
    if not content:
        return LogFileOutcome(0, INVALID_LOG_FILE, EMPTY)
    events = rejected = 0
    #: Reason → the number of the first record.
    reasons: dict[str, int] = {}
    for result in read_file(name, content):
        reason = _rejection(result, account, is_asked)
        if reason is not None:
            rejected += 1
            reasons.setdefault(reason, result.line)
        elif isinstance(result, AcceptedRecord) and is_asked(result.record):
            events += 1
            time = parse_time(result.record["eventTime"])
            additions.add(result.record["eventID"], time, result.raw)
    if not rejected:
        return LogFileOutcome(events)
    shown = "; ".join(f"{reason} (record {line})" for reason, line in reasons.items())
    return LogFileOutcome(events, INVALID_LOG_FILE, f"{rejected} not copied: {shown}")


def _rejection(result: Result, account: str, is_asked: Callable[[Record], bool]) -> str | None:
    """Returns why a record cannot be copied; of its content, it names the owner at most."""
    if not isinstance(result, AcceptedRecord):
        return result.reason
    if not is_asked(result.record):
        return None
    owner = account_of(result.record)
    if owner != account:
        return f"of account {owner}" if owner else NO_ACCOUNT
    if (result.record.get("eventCategory") or MANAGEMENT) not in _CALLS:
        return NOT_A_CALL
    return RECORD_TOO_LARGE if len(result.raw) > _MAX_RECORD_BYTES else None


def main(arguments: Sequence[str]) -> None:
    """Writes files of a store."""
    folder, spool = map(Path, arguments)
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent ignores it
    arm_in_child(("store.written",))
    (spool / OUTCOMES).write_bytes(msgspec.json.encode(add(folder, spool)))


if __name__ == "__main__":
    main(sys.argv[1:])
