"""The last positions of journal and imports, stored elsewhere to detect lost files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from opentrail.adapters.data_directory.sealed_file_names import Series, sealed_files
from opentrail.core.errors import Conflict, OpentrailError
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import Journal, KnownPositions

log = logging.getLogger(__name__)

#: Seconds between two writes of the journal's last position.
_INTERVAL = 5.0
_MARK = "mark"
_JOURNAL = "journal"
_IMPORTS = "imports"
#: Kind of documents with lost positions whose events were regained.
_KEPT = "kept-positions"
#: Documents of the state store that name journal positions, and the members that do.
_CURSORS = {
    "place": "position",
    "event-bus": "position",
    "otlp": "position",
    "webhook": "position",
    "detections-cursor": "position",
    "delivery": "position",
    "plan": "until",
}


async def known_positions(
    control: ControlStore, history: Path, noted: int = 0, shared: int = 0
) -> KnownPositions | None:
    """Returns the positions that the journal must have reached; None if there was no journal.

    Args:
        control: the control store.
        history: the folder of sealed files.
        noted: a position known to be written.
        shared: the last position in files in S3.
    """
    sealed = max([shared, *(file.last for file in sealed_files(history, Series.JOURNAL))])
    mark = await marked_position(control)
    written = [sealed, mark or 0, noted]
    for kind, member in _CURSORS.items():
        written += [int(stored.document[member]) for stored in await control.scan(kind)]
    if mark is None and not max(written):
        return None
    return KnownPositions(sealed, max(written))


async def marked_position(control: ControlStore) -> int | None:
    """Returns the last stored position; None without one."""
    mark = await control.get(_MARK, _JOURNAL)
    return int(mark.document["position"]) if mark else None


async def keep_mark(
    control: ControlStore,
    journal: Journal,
    on_marked: Callable[[int], None] = lambda position: None,
) -> None:
    """Stores the journal's last position periodically."""
    while True:
        await mark_journal(control, journal, on_marked)
        await asyncio.sleep(_INTERVAL)


async def mark_journal(
    control: ControlStore,
    journal: Journal,
    on_marked: Callable[[int], None] = lambda position: None,
) -> None:
    """Stores the journal's last position, unless a later one is stored; logs a failure.

    Calls `on_marked` with the stored position.
    """
    try:
        stored, position = await control.get(_MARK, _JOURNAL), journal.head
        marked = int(stored.document["position"]) if stored else 0
        if stored is None or marked < position:
            mark = {"position": position}
            version = stored.version if stored else 0
            await control.apply([Put(_MARK, _JOURNAL, mark, expected=version)])
        on_marked(max(marked, position))
    except Conflict:
        pass  # another server has stored its own
    except OpentrailError as error:
        log.warning("the journal's mark cannot be stored", extra={"error": str(error)})
    except Exception:  # a bug must not break the detection of older control stores
        log.exception("the journal's mark cannot be stored")


async def known_imports(control: ControlStore) -> int:
    """Returns the number of the last reported imported event."""
    mark = await control.get(_MARK, _IMPORTS)
    return int(mark.document["position"]) if mark else 0


async def mark_imports(control: ControlStore, last: int) -> None:
    """Stores the number of the last imported event."""
    await control.apply([Put(_MARK, _IMPORTS, {"position": last})])


async def count_kept(
    control: ControlStore, first: int, last: int, files: Mapping[str, int]
) -> None:
    """Adds to the number of regained events of lost positions.

    Args:
        control: stores the number.
        first: the first lost position.
        last: the last one.
        files: digests of imported files, each with its number of events; servers that
            import the same file at the same time report the same number, which counts once.
    """
    key = f"{first:020d}"
    while True:
        stored = await control.get(_KEPT, key)
        version, known = (stored.version, stored.document) if stored else (0, {})
        counted = known.get("files", {})
        new = {digest: events for digest, events in files.items() if digest not in counted}
        document = {
            "last": last,
            "events": known.get("events", 0) + sum(new.values()),
            "files": {**counted, **new},
        }
        with suppress(Conflict):  # another server has added its own
            await control.apply([Put(_KEPT, key, document, expected=version)])
            return


async def kept_events(control: ControlStore) -> list[tuple[int, int, int]]:
    """Returns ranges of lost positions, each with the number of its regained events."""
    stored = await control.scan(_KEPT)
    return [(int(one.key), one.document["last"], one.document["events"]) for one in stored]
