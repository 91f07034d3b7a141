"""Which values occur in a sealed file, so that files without a value are not asked for it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import duckdb

#: Attribute key of LookupEvents → its values in a table of events.
_VALUES = {
    "EventName": "event_name",
    "EventSource": "event_source",
    "Username": "username",
    "AccessKeyId": "access_key_id",
    "ResourceType": "unnest(resource_types)",
}
#: An attribute with more values than this, those of each category counted, is not listed.
MOST_VALUES = 5_000
#: One row per value and category, and one with NULL for each attribute that is listed whole.
HELD = "CREATE TABLE made.held (attribute VARCHAR, value VARCHAR, category VARCHAR)"


def fill_held(connection: duckdb.DuckDBPyConnection) -> None:
    """Lists the values that occur in `made.events`."""
    for attribute, values in _VALUES.items():
        found = connection.execute(
            "SELECT DISTINCT * FROM"  # noqa: S608 - ours
            f" (SELECT {values} AS value, category FROM made.events) WHERE value IS NOT NULL"
            " LIMIT ?",
            [MOST_VALUES + 1],
        ).fetchall()
        if len(found) <= MOST_VALUES:
            listed = [*found, (None, None)]
            connection.execute(
                "INSERT INTO made.held SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                [attribute, *map(list, zip(*listed, strict=True))],
            )


class ValueFilter:
    """The values of a file, as hashes in order: eight bytes each, whatever their length.

    Args:
        rows: attribute, value and category, as `HELD` has them.
    """

    def __init__(self, rows: Iterable[tuple[str, str | None, str | None]]) -> None:
        hashes: dict[str, list[int]] = {}
        categories: set[str | None] = set()
        whole: set[str] = set()
        for attribute, value, category in rows:
            if value is None:
                whole.add(attribute)
            else:
                hashes.setdefault(attribute, []).append(hash((value, category)))
                categories.add(category)
        self._categories = tuple(categories)
        self._hashes = {
            attribute: array("q", sorted(hashes.get(attribute, ()))) for attribute in whole
        }

    def may_have(self, attribute: str, value: str, categories: Sequence[str] | None = None) -> bool:
        """Returns False only if no event of these categories, or of any, has this value."""
        hashes = self._hashes.get(attribute)
        if hashes is None:
            return True
        asked = self._categories if categories is None else categories
        return any(_has(hashes, hash((value, category))) for category in asked)


def _has(hashes: array[int], wanted: int) -> bool:
    place = bisect_left(hashes, wanted)
    return place < len(hashes) and hashes[place] == wanted
