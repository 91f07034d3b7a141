"""The index of a sealed file: event ids and resource names, by hash, and the rows that have them.

Both have nearly as many values as there are events, so that looking through a column of them costs
far more than all else, and keeping one costs a quarter of the file. Hashes in order cost little,
and DuckDB finds one among a million by the ranges of its row groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

#: Forty bits of MD5: a row with the hash may still have another id, so it must be looked at.
_HASH = "CAST(md5_number_lower({}) >> 24 AS BIGINT)"
_TABLES = (
    "CREATE TABLE made.ids (h BIGINT, row INTEGER)",
    "CREATE TABLE made.resources (h BIGINT, name VARCHAR, category VARCHAR, rows INTEGER[])",
    "CREATE OR REPLACE TEMP TABLE keys"
    " (position BIGINT, category VARCHAR, event_id VARCHAR, names VARCHAR[])",
)
#: Look-ups are given rows one by one if there are no more than these.
MOST_ROWS = 1_000
#: Takes one list per column.
INSERT_KEYS = (
    "INSERT INTO temp.keys SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),"
    " unnest(?::VARCHAR[][])"
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
        return self._among("row", "ids", f"h = {_HASH.format('?')}")

    @property
    def has_resource(self) -> str:
        """A condition on positions, with the name as argument, twice."""
        return self._among("unnest(rows)", "resources", f"h = {_HASH.format('?')} AND name = ?")

    @property
    def has_resource_like(self) -> str:
        """A condition on positions, with a pattern of LIKE as argument."""
        return self._among("unnest(rows)", "resources", "name LIKE ? ESCAPE '\\'")

    def probe(
        self, key: str, value: str, categories: tuple[str, ...] | None
    ) -> tuple[str, list[str]] | None:
        """Returns a statement that gives lists of rows which may have an attribute of LookupEvents.

        It costs a tenth of a look-up: the events on an S3 object, say, are of another category than
        is mostly looked for. A list is cut behind `MOST_ROWS`. None if the index does not know the
        attribute.
        """
        where = f"h = {_HASH.format('?')}"
        if key == "EventId":
            return f"SELECT [row] FROM {self.database}.ids WHERE {where}", [value]  # noqa: S608
        if key == "ResourceName":
            where += " AND name = ?"
            rows = f"rows[:{MOST_ROWS + 1}]"
            found = f"SELECT {rows} FROM {self.database}.resources"  # noqa: S608 - ours
            known = [value, value]
            if categories is not None:
                where += f" AND category IN ({', '.join('?' * len(categories))})"
                known += categories
            return f"{found} WHERE {where}", known
        return None

    def _among(self, rows: str, table: str, where: str) -> str:
        position = self.position_of("row")
        inner = f"SELECT {rows} AS row FROM {self.database}.{table} WHERE {where}"  # noqa: S608
        return f"position IN (SELECT {position} FROM ({inner}))"  # noqa: S608 - ours

    def position_of(self, row: str) -> str:
        """Returns the expression of a row's position."""
        return f"{'-' if self.is_import else ''}({self.first} + {row})"

    @property
    def same_ids(self) -> str:
        """Pairs of numbers of `temp.hashed` and positions here whose ids have the same hash."""
        return (
            f"SELECT s.position, {self.position_of('e.row')} FROM {self.database}.ids e"  # noqa: S608
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
    connection.execute(
        f"INSERT INTO made.ids SELECT {_HASH.format('event_id')} AS h,"  # noqa: S608 - ours
        " abs(position) - ? AS row FROM temp.keys ORDER BY h, row",
        [first],
    )
    connection.execute(
        f"INSERT INTO made.resources SELECT {_HASH.format('name')} AS h, name, category,"  # noqa: S608
        " list(row ORDER BY row) FROM (SELECT unnest(list_distinct(names)) AS name, category,"
        " abs(position) - ? AS row FROM temp.keys) GROUP BY name, category"
        " ORDER BY h, name, category",
        [first],
    )
    connection.execute("DROP TABLE temp.keys")


def merge_indexes(
    connection: duckdb.DuckDBPyConnection, parts: list[tuple[str, int]], first: int
) -> None:
    """Fills the index from those of attached files, each given with its first row's number."""
    ids = " UNION ALL ".join(
        f"SELECT h, row + {begin - first} AS row FROM {name}.ids"  # noqa: S608 - ours
        for name, begin in parts
    )
    connection.execute(f"INSERT INTO made.ids SELECT * FROM ({ids}) ORDER BY h, row")  # noqa: S608
    rows = " UNION ALL ".join(
        f"SELECT h, name, category, unnest(rows) + {begin - first} AS row"  # noqa: S608 - ours
        f" FROM {name}.resources"
        for name, begin in parts
    )
    connection.execute(
        "INSERT INTO made.resources SELECT h, name, category, list(row ORDER BY row)"  # noqa: S608
        f" FROM ({rows}) GROUP BY h, name, category ORDER BY h, name, category"
    )
    connection.execute("DROP TABLE temp.keys")
