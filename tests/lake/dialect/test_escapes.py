"""Statements reach nothing of DuckDB but what the dialect lists."""

from __future__ import annotations

import duckdb
import pytest

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect.expressions import CALLS
from opentrail.lake.dialect.functions import ALIASES, aggregates, scalars, windows
from opentrail.lake.dialect.scopes import QueryTable, Value
from opentrail.lake.dialect.statements import translate
from opentrail.lake.dialect.types import VARCHAR
from opentrail.lake.event_history import VIEW
from tests.cases import case
from tests.lake.oracle import Tables

TABLES = Tables({"own": QueryTable(VIEW, [("name", Value("name", VARCHAR))])})
#: Where a statement may name a function of DuckDB's.
RELATION_CALLS = (
    "SELECT * FROM {name}('x')",
    "SELECT * FROM {name}()",
    "SELECT * FROM \"{name}\"('/etc/passwd')",
    "SELECT * FROM own, LATERAL {name}(name)",
    "SELECT name FROM own WHERE name IN (SELECT * FROM {name}('x'))",
    "SELECT * FROM TABLE({name}('x'))",
    "SELECT * FROM system.main.{name}('x')",
    "SELECT main.{name}('x')",
    "SELECT system.main.{name}('x')",
    "SELECT 'x'.{name}()",
)
#: Relations that a query's process has, or may be thought to have.
RELATIONS = (
    VIEW,
    "tail",
    "events",
    "main.tail",
    "memory.tail",
    "memory.main.tail",
    f"main.{VIEW}",
    "file_0.events",
    "file_0.main.events",
    "file_1.events",
    "file_0.about",
    "file_0.values",
    "duckdb_tables",
    "duckdb_settings",
    "duckdb_databases",
    "duckdb_secrets",
    "sqlite_master",
    "sqlite_schema",
    "pragma_database_list",
    "information_schema.tables",
    "information_schema.columns",
    "information_schema.schemata",
    "pg_catalog.pg_tables",
    "pg_catalog.pg_settings",
    "system.information_schema.tables",
    "temp.main.sqlite_temp_master",
    "'/etc/passwd'",
    '"/etc/passwd"',
    '"/etc/passwd.csv"',
    '"events.parquet"',
    '"http://127.0.0.1/x.csv"',
    '"s3://bucket/x.parquet"',
    '"journal/*.db"',
    '"query_child.py"',
)
PLACES = (
    "SELECT * FROM {name}",
    "SELECT count(*) FROM {name}",
    "SELECT * FROM own JOIN {name} ON true",
    "SELECT * FROM own, {name}",
    "SELECT * FROM (SELECT * FROM {name}) x",
    "SELECT (SELECT count(*) FROM {name})",
    "SELECT name FROM own WHERE EXISTS (SELECT 1 FROM {name})",
    "SELECT name FROM own UNION ALL SELECT name FROM {name}",
    "WITH x AS (SELECT * FROM {name}) SELECT * FROM x",
    "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n FROM {name}) SELECT n FROM x",
)


def names_of_duckdb() -> list[str]:
    """Returns the names of all functions of DuckDB, also table functions and pragmas."""
    with duckdb.connect() as connection:
        found = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()")
        return sorted(name for (name,) in found.fetchall() if name.isidentifier())


def refuses(statement: str) -> None:
    with case(statement), pytest.raises(StatementRefused):
        translate(statement, TABLES)


@pytest.mark.parametrize("form", RELATION_CALLS)
def test_no_function_of_duckdb_is_reached_as_a_relation_or_by_its_schema(form: str) -> None:
    names = names_of_duckdb()
    assert len(names) > 500
    for name in names:
        refuses(form.format(name=name))


#: Functions of Trino's with a syntax of their own, which nodes of the tree translate.
WITH_SYNTAX = {"listagg"}


def test_calls_reach_only_listed_functions() -> None:
    listed = {*CALLS, *ALIASES, *scalars, *aggregates, *windows, *WITH_SYNTAX}
    unlisted = [name for name in names_of_duckdb() if name not in listed]
    assert len(unlisted) > 400
    for name in unlisted:
        for arguments in ("", "name", "'x', 'y'"):
            refuses(f"SELECT {name}({arguments}) FROM own")
            refuses(f'SELECT "{name}"({arguments}) FROM own')
            refuses(f"SELECT {name}({arguments}) OVER () FROM own")


@pytest.mark.parametrize("name", RELATIONS)
def test_statements_read_only_their_tables(name: str) -> None:
    for form in PLACES:
        refuses(form.format(name=name))


@pytest.mark.parametrize(
    "name", ["position", "recorded_at", "record", "account", "category", "region", "rowid", "tail"]
)
def test_statements_read_only_their_columns(name: str) -> None:
    for form in (
        "SELECT {0} FROM own",
        "SELECT own.{0} FROM own",
        "SELECT 1 FROM own ORDER BY {0}",
    ):
        refuses(form.format(name))
        refuses(form.format(f'"{name}"'))
