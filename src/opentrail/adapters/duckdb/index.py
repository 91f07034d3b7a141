"""The index of a sealed file: event ids and resource names, by hash, and where they are.

Both have nearly as many values as there are events, so that looking through a column of them costs
far more than all else, and keeping one costs a quarter of the file. Hashes in order cost little,
and DuckDB finds one among a million by the ranges of its row groups.

A place tells both the number of a row, counted from 0, and the part that its record is in:
`row * PARTS + part`.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from opentrail.adapters.duckdb.parts import PARTS

#: Forty bits of MD5: a row with the hash may still have another id, so it must be looked at.
_HASH = "CAST(md5_number_lower({}) >> 24 AS BIGINT)"
_TABLES = (
    "CREATE TABLE made.ids (h BIGINT, place INTEGER)",
    "CREATE TABLE made.resources (h BIGINT, name VARCHAR, category VARCHAR, places INTEGER[])",
    "CREATE OR REPLACE TEMP TABLE keys"
    " (position BIGINT, category VARCHAR, part TINYINT, event_id VARCHAR, names VARCHAR[])",
)
#: Look-ups are given places one by one if there are no more than these.
MOST_PLACES = 1_000
#: The places of a name are in several lists, each within so many places: who reads one list reads
#: those of two thousand other names, too.
_BAND = 1 << 18
#: Takes one list per column.
INSERT_KEYS = (
    "INSERT INTO temp.keys SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::TINYINT[]),"
    " unnest(?::VARCHAR[]), unnest(?::VARCHAR[][])"
)


@dataclass(frozen=True, slots=True)
class Index:
    """The index of an attached file whose rows are numbered from `first` on."""

    database: str
    first: int
    is_import: bool

    @property
    def has_id(self) -> str:
        """A condition on positions, with the id as argument; it holds for few others, too."""
        return self._among("place", "ids", f"h = {_HASH.format('?')}")

    @property
    def has_resource(self) -> str:
        """A condition on positions, with the name as argument, twice."""
        return self._among("unnest(places)", "resources", f"h = {_HASH.format('?')} AND name = ?")

    @property
    def has_resource_like(self) -> str:
        """A condition on positions, with a pattern of LIKE as argument."""
        return self._among("unnest(places)", "resources", "name LIKE ? ESCAPE '\\'")

    def probe(
        self, key: str, value: str, categories: tuple[str, ...] | None
    ) -> tuple[str, list[str]] | None:
        """Returns a statement that gives lists of places which may have an attribute.

        It costs a tenth of a look-up: the events on an S3 object, say, are of another category than
        is mostly looked for. Of more than `MOST_PLACES` it gives more than so many, but not all.
        None if the index does not know the attribute of LookupEvents.
        """
        where = f"h = {_HASH.format('?')}"
        if key == "EventId":
            return f"SELECT [place] FROM {self.database}.ids WHERE {where}", [value]  # noqa: S608
        if key == "ResourceName":
            where += " AND name = ?"
            places = f"places[:{MOST_PLACES + 1}]"
            found = f"SELECT {places} FROM {self.database}.resources"  # noqa: S608 - ours
            known = [value, value]
            if categories is not None:
                where += f" AND category IN ({', '.join('?' * len(categories))})"
                known += categories
            return f"{found} WHERE {where}", known
        return None

    def _among(self, places: str, table: str, where: str) -> str:
        position = self.position_of("place")
        inner = f"SELECT {places} AS place FROM {self.database}.{table} WHERE {where}"  # noqa: S608
        return f"position IN (SELECT {position} FROM ({inner}))"  # noqa: S608 - ours

    def position_of(self, place: str) -> str:
        """Returns the expression of a place's position."""
        return f"{'-' if self.is_import else ''}({self.first} + {place} // {PARTS})"

    @property
    def same_ids(self) -> str:
        """Pairs of numbers of `temp.hashed` and positions here whose ids have the same hash."""
        return (
            f"SELECT s.position, {self.position_of('e.place')} FROM {self.database}.ids e"  # noqa: S608
            " JOIN temp.hashed s ON e.h = s.h"
        )


def hash_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes `temp.hashed`: the numbers of the table `staged`, and the hashes of their ids."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE hashed AS SELECT position,"  # noqa: S608 - ours
        f" {_HASH.format('event_id')} AS h FROM staged"
    )


def begin_index(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables of a file's index, and `temp.keys`, which `INSERT_KEYS` fills."""
    for statement in _TABLES:
        connection.execute(statement)


def fill_index(connection: duckdb.DuckDBPyConnection, first: int) -> None:
    """Fills the index from `temp.keys`; the file's rows are numbered from `first` on."""
    place = f"((abs(position) - ?) * {PARTS} + part)"
    connection.execute(
        f"INSERT INTO made.ids SELECT {_HASH.format('event_id')} AS h,"  # noqa: S608 - ours
        f" {place} AS place FROM temp.keys ORDER BY h, place",
        [first],
    )
    named = (
        f"SELECT {_HASH.format('name')} AS h, name, category, place FROM"  # noqa: S608 - ours
        f" (SELECT unnest(list_distinct(names)) AS name, category, {place} AS place FROM temp.keys)"
    )
    connection.execute(_INTO_LISTS.format(named), [first])
    connection.execute("DROP TABLE temp.keys")


#: Puts the places that a statement finds, each with hash, name and category, into lists.
_INTO_LISTS = (
    "INSERT INTO made.resources SELECT h, name, category, list(place ORDER BY place)"  # noqa: S608
    f" FROM ({{}}) GROUP BY h, name, category, place // {_BAND}"
    f" ORDER BY h, name, category, min(place)"
)


def merge_indexes(
    connection: duckdb.DuckDBPyConnection, parts: list[tuple[str, int]], first: int
) -> None:
    """Fills the index from those of attached files, each given with its first row's number."""
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
