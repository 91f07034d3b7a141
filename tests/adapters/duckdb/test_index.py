"""The index of a sealed file; that look-ups through it are right is in the stores' contract."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from opentrail.adapters.duckdb.files import read_name
from opentrail.adapters.duckdb.index import Index
from opentrail.adapters.duckdb.schema import insert_sealed, row_of
from opentrail.adapters.duckdb.seal import merge
from opentrail.adapters.duckdb.sealed_file import Sealing, write_sealed
from opentrail.core.attributes import attributes_of
from tests.factories import a_record, an_entry, event_id

pytestmark = pytest.mark.slow


def a_file(folder: Path, first: int, last: int, is_import: bool) -> Path:
    sign = -1 if is_import else 1
    rows = []
    for number in range(first, last + 1):
        record = a_record(
            eventID=event_id(number),
            requestParameters={"userName": f"user-{number % 3}"},
            responseElements=None,
        )
        rows.append(row_of(an_entry(sign * number, record), attributes_of(record)))

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        for statement, arguments in insert_sealed(rows):
            connection.execute(statement, arguments)

    return write_sealed(Sealing(folder, first, last, is_import), fill)


def found(path: Path, condition: str, *arguments: str) -> list[int]:
    with duckdb.connect(":memory:") as database:
        database.execute(f"ATTACH '{path}' AS x (READ_ONLY)")
        rows = database.execute(
            f"SELECT position FROM x.events WHERE {condition} ORDER BY abs(position)",  # noqa: S608
            list(arguments),
        ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("is_import", [False, True])
@pytest.mark.parametrize("is_merged", [False, True])
def test_ids_and_names_lead_to_their_rows(tmp_path: Path, is_import: bool, is_merged: bool) -> None:
    parts = [a_file(tmp_path, first, first + 9, is_import) for first in (11, 21, 31)]
    path = merge(parts) if is_merged else parts[0]
    named = read_name(path)
    assert named is not None
    index = Index("x", named.first, is_import)
    sign = -1 if is_import else 1
    numbers = range(named.first, named.last + 1)
    for number in numbers:
        assert found(path, index.has_id, event_id(number)) == [sign * number]
    assert found(path, index.has_id, "none") == []
    for user in range(3):
        expected = [sign * number for number in numbers if number % 3 == user]
        name = f"user-{user}"
        assert found(path, index.has_resource, name, name) == expected
        assert found(path, index.has_resource_like, f"%-{user}") == expected
    assert found(path, index.has_resource, "user-9", "user-9") == []
    assert found(path, index.has_resource_like, "user%") == [sign * n for n in numbers]
