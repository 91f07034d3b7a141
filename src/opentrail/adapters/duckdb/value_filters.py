"""The attribute values of a sealed file, so that lookups skip files without a value."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import duckdb

#: Attribute key of LookupEvents → its values in a table of events.
COLUMNS = {
    "EventName": "event_name",
    "EventSource": "event_source",
    "Username": "username",
    "AccessKeyId": "access_key_id",
    "ResourceType": "unnest(resource_types)",
}
#: An attribute with more pairs of value and category than this is not listed.
MAX_VALUES = 5_000
#: One row per value and category, and one with NULL for each attribute that is listed.
VALUES = "CREATE TABLE made.held (attribute VARCHAR, value VARCHAR, category VARCHAR)"


def fill_values(connection: duckdb.DuckDBPyConnection) -> None:
    """Lists the values in `made.events`."""
    for attribute, values in COLUMNS.items():
        rows = connection.execute(
            "SELECT DISTINCT * FROM"  # noqa: S608 - ours
            f" (SELECT {values} AS value, category FROM made.events) WHERE value IS NOT NULL"
            " LIMIT ?",
            [MAX_VALUES + 1],
        ).fetchall()
        if len(rows) <= MAX_VALUES:
            with_mark = [*rows, (None, None)]
            connection.execute(
                "INSERT INTO made.held SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                [attribute, *map(list, zip(*with_mark, strict=True))],
            )


class ValueFilter:
    """The values of a file, as sorted hashes of eight bytes.

    Args:
        rows: attribute, value and category, as in `VALUES`.
    """

    def __init__(self, rows: Iterable[tuple[str, str | None, str | None]]) -> None:
        hashes: dict[str, list[int]] = {}
        categories: set[str | None] = set()
        attributes: set[str] = set()
        for attribute, value, category in rows:
            if value is None:
                attributes.add(attribute)
            else:
                hashes.setdefault(attribute, []).append(hash((value, category)))
                categories.add(category)
        self._categories = tuple(categories)
        self._hashes = {
            attribute: array("q", sorted(hashes.get(attribute, ()))) for attribute in attributes
        }

    def may_contain(
        self, attribute: str, value: str, categories: Sequence[str] | None = None
    ) -> bool:
        """Returns False only if no event of these categories (None: of any) has this value."""
        hashes = self._hashes.get(attribute)
        if hashes is None:
            return True
        searched = self._categories if categories is None else categories
        return any(_contains(hashes, hash((value, category))) for category in searched)


def _contains(hashes: array[int], value: int) -> bool:
    place = bisect_left(hashes, value)
    return place < len(hashes) and hashes[place] == value
