"""Named crash points at which a test may kill the process, to prove that nothing is lost.

`OPENTRAIL_CRASH_AT=NAME:COUNT` arms one point at the start; each of the others costs a dictionary
lookup.
"""

from __future__ import annotations

from collections.abc import Callable

#: Every point, with the step just completed there.
POINTS = {
    "journal.mid-commit": "rows of a batch are inserted, the transaction is not committed",
    "journal.committed": "a batch is durable, no answer has left yet",
    "journal.repaired": "a repaired segment is whole, the damaged one is still in its place",
    "history.sealed": "a sealed file is written and synced under its temporary name",
    "history.merged": "a merged file is in place, the files merged into it still exist",
    "history.expiring": "an expiry is noted, nothing is marked or deleted yet",
    "history.thinned": "a file without its data events is in place, the file with them still is",
    "history.expired": "positions are marked as expired, their file still exists",
    "store.written": "a file of an event data store is written and synced under a temporary name",
    "store.uploaded": "a file of an event data store is in its place, no list has it yet",
    "store.listed": "the list of an event data store's files has changed",
    "iceberg.written": "the next metadata of an Iceberg table is written, its number is not",
    "iceberg.expired": "old snapshots of an Iceberg table are forgotten, their files still exist",
    "import.copied": "events of log files are in an event data store, no document says so",
    "import.written": "imported records are in a sealed file, the client has no response yet",
    "delivery.planned": "log files are planned in the state store, none is written",
    "delivery.put": "a log file is in the bucket, the state store does not know it yet",
    "notice.published": "a topic has the message for a log file, the state store does not know it",
    "stream.sending": "events for a log group are about to be sent, and the state store knows it",
    "stream.put": "a log group has events, the state store does not know it yet",
    "digest.planned": "a digest is planned and signed, its PUT has not begun",
    "digest.put": "a digest is in the bucket, the state store does not know it yet",
}

_armed: dict[str, int] = {}
_die: Callable[[], None] | None = None


def arm(name: str, count: int, die: Callable[[], None]) -> None:
    """Makes the `count`-th passage of point `name` call `die`.

    Raises:
        KeyError: the point is unknown.
    """
    global _die
    if name not in POINTS:
        raise KeyError(name)
    _armed[name] = count
    _die = die


def crash_point(name: str) -> None:
    """Marks that the process passes point `name`."""
    if name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] <= 0 and _die is not None:
        _die()
