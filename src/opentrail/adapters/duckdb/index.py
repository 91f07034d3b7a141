"""The index of a sealed file: the places of event ids and resource names, by hash.

Both have nearly as many values as events. Scanning such a column would dominate a lookup, and
storing it takes a quarter of the file. Sorted hashes are small, and DuckDB finds one among a
million by the ranges of its row groups.

A place is the number of a row, from 0, and the column that contains its record: `row * PARTS +
part`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from opentrail.adapters.data_directory.sealed_file_names import Series
from opentrail.adapters.duckdb.record_columns import PARTS

#: Forty bits of MD5. Two ids may have the same hash, so the id itself is compared as well.
HASH = "CAST(md5_number_lower({}) >> 24 AS BIGINT)"
_TABLES = (
    "CREATE TABLE made.ids (h BIGINT, place INTEGER)",
    "CREATE TABLE made.resources (h BIGINT, name VARCHAR, category VARCHAR, places INTEGER[])",
    "CREATE OR REPLACE TEMP TABLE keys"
    " (position BIGINT, category VARCHAR, part TINYINT, event_id VARCHAR, names VARCHAR[])",
)
#: The attributes of LookupEvents that an index contains.
KNOWN = frozenset({"EventId", "ResourceName"})
#: Maximum places for a lookup to read its rows by place.
MAX_PLACES = 1_000
#: The places of a name are split into lists of this many places: DuckDB reads lists by 2,048, so
#: one long list would slow lookups of other names down.
_BAND = 1 << 18
#: Its arguments are one list per column.
INSERT_KEYS = (
    "INSERT INTO temp.keys SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::TINYINT[]),"
    " unnest(?::VARCHAR[]), unnest(?::VARCHAR[][])"
)


@dataclass(frozen=True, slots=True)
class Index:
    """The index of an attached file, whose first row has the number `first`."""

    database: str
    first: int
    series: Series

    def has_id(self, event_id: str) -> tuple[str, list[Any]]:
        """Returns a condition on positions and its arguments; few other ids match."""
        return self._among("place", "ids", "h = ?"), [hash_of(event_id)]

    def has_resource(self, name: str) -> tuple[str, list[Any]]:
        """Returns a condition on positions and its arguments."""
        condition = self._among("unnest(places)", "resources", "h = ? AND name = ?")
        return condition, [hash_of(name), name]

    def has_resource_where(self, condition: str) -> str:
        """Returns a condition on positions, given one on a resource's `name`."""
        return self._among("unnest(places)", "resources", condition)

    def _among(self, places: str, table: str, where: str) -> str:
        position = self.position_of("place")
        inner = f"SELECT {places} AS place FROM {self.database}.{table} WHERE {where}"  # noqa: S608
        return f"position IN (SELECT {position} FROM ({inner}))"  # noqa: S608 - ours

    def position_of(self, place: str) -> str:
        """Returns the expression of a place's position."""
        return f"{self.series.sign}({self.first} + {place} // {PARTS})"

    @property
    def same_ids(self) -> str:
        """Pairs with the same hash: a number of `temp.hashed`, and a position of this file."""
        return (
            f"SELECT s.position, {self.position_of('e.place')} FROM {self.database}.ids e"  # noqa: S608
            " JOIN temp.hashed s ON e.h = s.h"
        )


def hash_of(text: str) -> int:
    """Returns the value of `HASH`, which DuckDB would compute each time it plans a statement."""
    digest = hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") >> 24


def probe(
    indexes: Sequence[Index], key: str, value: str, categories: tuple[str, ...] | None
) -> tuple[str, list[Any]]:
    """Returns a statement that finds the places of events with an attribute, and its arguments.

    It takes a tenth of a lookup's time; one statement for several files takes half the time of
    separate ones.

    Args:
        indexes: the indexes to search.
        key: `EventId` or `ResourceName` of LookupEvents.
        value: the attribute's value.
        categories: the categories to find, None for all; ids are found in any category.

    Returns:
        A row is the number of an index and a list of places. If there are more than `MAX_PLACES`,
        the list is longer than that, but incomplete.
    """
    arguments: list[Any] = [hash_of(value)]
    table, places, where = "ids", "[place]", "h = $1"
    if key == "ResourceName":
        arguments.append(value)
        table, places, where = "resources", f"places[:{MAX_PLACES + 1}]", "h = $1 AND name = $2"
        if categories is not None:
            arguments += categories
            marks = ", ".join(f"${number}" for number in range(3, 3 + len(categories)))
            where += f" AND category IN ({marks})"
    parts = (
        f"SELECT {number}, {places} FROM {index.database}.{table} WHERE {where}"  # noqa: S608 - ours
        for number, index in enumerate(indexes)
    )
    return " UNION ALL ".join(parts), arguments


def hash_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates `temp.hashed`: the positions of the table `staged`, and the hashes of their ids."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE hashed AS SELECT position,"  # noqa: S608 - ours
        f" {HASH.format('event_id')} AS h FROM staged"
    )


def begin_index(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates the tables of a file's index, and `temp.keys`, which `INSERT_KEYS` fills."""
    for statement in _TABLES:
        connection.execute(statement)


def fill_index(connection: duckdb.DuckDBPyConnection, first: int) -> None:
    """Fills the index from `temp.keys`; the file's first row has the number `first`."""
    place = f"((abs(position) - ?) * {PARTS} + part)"
    connection.execute(
        f"INSERT INTO made.ids SELECT {HASH.format('event_id')} AS h,"  # noqa: S608 - ours
        f" {place} AS place FROM temp.keys ORDER BY h, place",
        [first],
    )
    names = (
        f"SELECT {HASH.format('name')} AS h, name, category, place FROM"  # noqa: S608 - ours
        f" (SELECT unnest(list_distinct(names)) AS name, category, {place} AS place FROM temp.keys)"
    )
    connection.execute(_INTO_LISTS.format(names), [first])
    connection.execute("DROP TABLE temp.keys")


#: Collects places, each with hash, name and category, into lists.
_INTO_LISTS = (
    "INSERT INTO made.resources SELECT h, name, category, list(place ORDER BY place)"  # noqa: S608
    f" FROM ({{}}) GROUP BY h, name, category, place // {_BAND}"
    f" ORDER BY h, name, category, min(place)"
)


def merge_indexes(
    connection: duckdb.DuckDBPyConnection, parts: list[tuple[str, int]], first: int
) -> None:
    """Fills the index from the indexes of attached files, each with the number of its first row."""
    ids = " UNION ALL ".join(
        f"SELECT h, place + {(begin - first) * PARTS} AS place FROM {name}.ids"  # noqa: S608 - ours
        for name, begin in parts
    )
    connection.execute(f"INSERT INTO made.ids SELECT * FROM ({ids}) ORDER BY h, place")  # noqa: S608
    places = " UNION ALL ".join(
        f"SELECT h, name, category, unnest(places) + {(begin - first) * PARTS} AS place"  # noqa: S608
        f" FROM {name}.resources"
        for name, begin in parts
    )
    connection.execute(_INTO_LISTS.format(places))
    connection.execute("DROP TABLE temp.keys")


def thin_index(connection: duckdb.DuckDBPyConnection, part: str, kept: str) -> None:
    """Fills the index from the index of an attached file, for the rows that meet a condition."""
    connection.execute(
        f"INSERT INTO made.ids SELECT h, place FROM {part}.ids WHERE place // {PARTS} IN"  # noqa: S608
        f" (SELECT rowid FROM {part}.events WHERE {kept}) ORDER BY h, place"
    )
    connection.execute(
        f"INSERT INTO made.resources SELECT * FROM {part}.resources WHERE {kept}"  # noqa: S608
        " ORDER BY h, name, category, places[1]"
    )
    connection.execute("DROP TABLE temp.keys")
