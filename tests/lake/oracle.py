"""What Trino answered, and DuckDB prepared to answer the same."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import duckdb

from opentrail.lake.dialect.engine import prepare
from opentrail.lake.dialect.scopes import QueryTable, Value
from opentrail.lake.dialect.statements import Column, translate
from opentrail.lake.dialect.types import Type, parse_type
from opentrail.lake.rendering import text

FOLDER = Path(__file__).parent.parent / "data" / "trino-oracle"
_TABLE = re.compile(r"CREATE TABLE (\w+) \(\n(.*?)\n\);", re.S)


def cases(name: str) -> list[dict[str, Any]]:
    """Returns recorded statements with their answers."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


class Tables:
    """A catalog of fixed tables."""

    def __init__(self, tables: Mapping[str, QueryTable]) -> None:
        self._tables = {name.lower(): table for name, table in tables.items()}

    def table(self, name: str) -> QueryTable | None:
        return self._tables.get(name.lower())


class Engine:
    """Runs statements as a query's process does."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, tables: dict[str, QueryTable]
    ) -> None:
        self.connection = connection
        self.tables = Tables(tables)

    def run(self, statement: str) -> tuple[list[Column], list[list[Any]]]:
        """Returns columns and rows, in the form of Trino's protocol."""
        translated = translate(statement, self.tables)
        rows = self.connection.execute(translated.sql).fetchall()
        columns = list(translated.columns)
        kinds = [column.type for column in columns]
        return columns, [list(map(protocol, row, kinds)) for row in rows]


@contextmanager
def engine(*, has_tables: bool = False) -> Iterator[Engine]:
    """Opens an engine; `has_tables` loads the tables of the oracle."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    try:
        tables = _load(connection) if has_tables else {}
        prepare(connection)
        yield Engine(connection, tables)
    finally:
        connection.close()


def _load(connection: duckdb.DuckDBPyConnection) -> dict[str, QueryTable]:
    schema = (FOLDER / "schema.sql").read_text()
    columns = dict(_TABLE.findall(schema))
    tables = {}
    for name in ("eds2", "eds3", "cfg", "activity", "insights"):
        kinds = {}
        for line in columns["eds2" if name == "eds3" else name].splitlines():
            column, _, kind = line.strip().rstrip(",").partition(" ")
            kinds[column] = parsed(kind)
        shown = ", ".join(
            f'{_stored(column, kind)} AS "{column}"' for column, kind in kinds.items()
        )
        file = FOLDER / "tables" / f"{name}.parquet"
        connection.execute(f"CREATE TABLE {name} AS SELECT {shown} FROM '{file}'")
        values = [(column, Value(f'"{column}"', kind)) for column, kind in kinds.items()]
        tables[name] = QueryTable(name, values)
    return tables


def parsed(kind: str) -> Type:
    """Returns the type of a name."""
    found = parse_type(kind)
    assert found is not None, kind
    return found


def _stored(sql: str, kind: Type) -> str:
    """Returns a value of a file as the translation expects it: fields have numbers."""
    if kind.name == "row":
        members = ", ".join(
            f"'f{n}': {_stored(f'({sql}).{field}', each)}"
            for n, (field, each) in enumerate(zip(kind.fields, kind.args, strict=True))
        )
        return f"CASE WHEN {sql} IS NOT NULL THEN {{{members}}} END"
    if kind.name == "array" and kind.args[0].args:
        name = f"e{len(sql)}"
        return f"list_transform({sql}, lambda {name}: {_stored(name, kind.args[0])})"
    return sql


def protocol(value: Any, kind: Type) -> Any:
    """Returns a value in the form of Trino's protocol."""
    if value is None:
        return None
    if kind.name == "array":
        return [protocol(each, kind.args[0]) for each in value]
    if kind.name == "row":
        return [protocol(each, own) for each, own in zip(value.values(), kind.args, strict=True)]
    if kind.name == "map":
        return {key: protocol(each, kind.args[1]) for key, each in value.items()}
    if kind.name == "varbinary":
        return base64.b64encode(value).decode()
    if kind.name in ("double", "real"):
        return float(str(text(value, kind))) if isfinite(value) else text(value, kind)
    return (
        value
        if isinstance(value, bool | int) and "interval" not in kind.name
        else text(value, kind)
    )


def same(got: Any, wanted: Any, kind: str) -> bool:
    """Tells whether two values are the same; digits of a second's fraction do not matter."""
    if isinstance(got, float) and isinstance(wanted, int | float):
        return abs(got - wanted) <= 1e-9 * max(abs(got), abs(wanted))
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(
            same(a, b, kind.removeprefix("array(")) for a, b in zip(got, wanted, strict=True)
        )
    if isinstance(got, dict) and isinstance(wanted, dict):
        return {str(k): v for k, v in got.items()} == wanted
    if isinstance(got, str) and isinstance(wanted, str) and kind.startswith("timestamp"):
        return _moment(got) == _moment(wanted)
    return bool(got == wanted) and type(got) is type(wanted)


def _moment(shown: str) -> tuple[datetime, bool]:
    return datetime.fromisoformat(shown.removesuffix(" UTC")), shown.endswith(" UTC")
