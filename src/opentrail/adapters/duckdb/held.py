"""Which values occur in a sealed file, so that files without a value are not asked for it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

import duckdb

#: Attribute key of LookupEvents → its values in a table of events.
_VALUES = {
    "EventName": "event_name",
    "EventSource": "event_source",
    "Username": "username",
    "AccessKeyId": "access_key_id",
    "ResourceType": "unnest(resource_types)",
}
#: An attribute with more values than this is not listed.
MOST_VALUES = 5_000
#: One row per value, and one with NULL for each attribute that is listed whole.
HELD = "CREATE TABLE made.held (attribute VARCHAR, value VARCHAR)"


def fill_held(connection: duckdb.DuckDBPyConnection) -> None:
    """Lists the values that occur in `made.events`."""
    for attribute, values in _VALUES.items():
        found = connection.execute(
            f"SELECT DISTINCT {values} FROM made.events LIMIT ?",  # noqa: S608 - ours
            [MOST_VALUES + 2],
        ).fetchall()
        listed: list[str | None] = [row[0] for row in found if row[0] is not None]
        if len(listed) <= MOST_VALUES:
            connection.execute(
                "INSERT INTO made.held SELECT ?, unnest(?::VARCHAR[])", [attribute, [*listed, None]]
            )


class Held:
    """The values of a file, as hashes in order: eight bytes each, whatever their length."""

    def __init__(self, rows: Iterable[tuple[str, str | None]]) -> None:
        hashes: dict[str, list[int]] = {}
        whole: set[str] = set()
        for attribute, value in rows:
            if value is None:
                whole.add(attribute)
            else:
                hashes.setdefault(attribute, []).append(hash(value))
        self._hashes = {
            attribute: array("q", sorted(hashes.get(attribute, ()))) for attribute in whole
        }

    def may_have(self, attribute: str, value: str) -> bool:
        """Returns False only if no event of the file has this value."""
        hashes = self._hashes.get(attribute)
        if hashes is None:
            return True
        wanted = hash(value)
        place = bisect_left(hashes, wanted)
        return place < len(hashes) and hashes[place] == wanted
