"""Only SELECT statements over the caller's tables pass the translation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect.scopes import QueryTable, Value
from opentrail.lake.dialect.statements import translate
from opentrail.lake.dialect.types import VARCHAR
from tests.lake.oracle import Engine, Tables, engine

_ID = "0e2d3c4b-5678-90ab-cdef-0123456789ab"
_OWN = QueryTable("(SELECT 'a' AS name)", [("name", Value("name", VARCHAR))])

REFUSED = [
    "DROP TABLE own",
    "INSERT INTO own VALUES ('b')",
    "CREATE TABLE x AS SELECT 1",
    "COPY own TO '/tmp/x'",
    "ATTACH '/tmp/x' AS y",
    "PRAGMA database_list",
    "SET memory_limit = '1TB'",
    "RESET threads",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL duckdb_settings()",
    "EXPLAIN SELECT 1",
    "SHOW TABLES",
    "DESCRIBE own",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE own",
    "SELECT * FROM other",
    "SELECT * FROM visible_events",
    "SELECT * FROM file_0.events",
    "SELECT * FROM tail",
    "SELECT * FROM '/etc/passwd'",
    'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_parquet('x')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM sqlite_scan('x', 'y')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM main.own",
    "SELECT * FROM memory.main.own",
    "SELECT * FROM range(10)",
    "SELECT * FROM generate_series(1, 10)",
    "SELECT * FROM unnest_all(1)",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('own')",
    "SELECT getenv('HOME')",
    "SELECT current_setting('memory_limit')",
    "SELECT version()",
    "SELECT current_database()",
    "SELECT current_user",
    "SELECT pg_read_file('x')",
    "SELECT read_text('x')",
    "SELECT error('x')",
    "SELECT nextval('x')",
    "SELECT lake_fail('x')",
    "SELECT lake_member(name, '/x') FROM own",
    "SELECT rowid FROM own",
    "SELECT record FROM own",
    "SELECT own FROM own",
    "SELECT c1 FROM own",
    "SELECT name FROM own WHERE getvariable('x') = '1'",
    "SELECT * FROM own ORDER BY getenv('x')",
    "SELECT * FROM own TABLESAMPLE SYSTEM (10)",
    "SELECT * FROM own PIVOT (count(*) FOR name IN ('a'))",
    "SELECT * EXCLUDE (name) FROM own",
    "SELECT COLUMNS('n.*') FROM own",
    "SELECT name::int FROM own QUALIFY true",
    "SELECT name FROM own FOR UPDATE",
    "SELECT name INTO x FROM own",
    "SELECT $1",
    "SELECT ?",
    "SELECT :x",
    "SELECT @x",
    "WITH x AS (INSERT INTO own VALUES (1) RETURNING *) SELECT * FROM x",
    "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT * FROM own, LATERAL (SELECT * FROM read_text(name))",
    "SELECT 1 WHERE EXISTS (SELECT * FROM glob('*'))",
    "SELECT * FROM own UNION SELECT content FROM read_text('x')",
    "SELECT transform(array[1], x -> getenv('HOME'))",
    "SELECT cast(1 AS struct(a int))",
    "SELECT name COLLATE NOCASE FROM own",
    "SELECT {'a': 1}",
    "SELECT name[1:2] FROM own",
    "SELECT $$text$$",
    "SELECT E'\\x41'",
    "SELECT 'a' GLOB '*'",
    "SELECT 'a' SIMILAR TO 'a'",
    "SELECT 'a' ~ 'a'",
    "SELECT list_transform([1], lambda x: x)",
    "SELECT * FROM (VALUES (1)) t(a) ASOF JOIN (VALUES (1)) u(a) USING (a)",
    "SELECT name FROM own NATURAL JOIN own",
    "SELECT name FROM own GROUP BY ALL",
    "SELECT count(*) FILTER (WHERE true) OVER w FROM own",
    "SELECT 1 LIMIT 1 PERCENT",
    "SELECT 1 LIMIT (SELECT 1)",
    "",
    " ",
    ";",
    "--",
    "/* */",
    "SELECT",
    "SELECT 'unterminated",
    'SELECT "unterminated',
    "SELECT /* unterminated",
    "SELECT `name` FROM own",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "-" * 3_000 + "1",
    "SELECT " + "NOT " * 3_000 + "true",
    "SELECT 1" + " + (1" * 2_000 + ")" * 2_000,
    "SELECT " + "(SELECT " * 500 + "1" + ")" * 500,
    "SELECT * FROM " + "(SELECT * FROM " * 500 + "own" + ")" * 500,
    "SELECT CASE " * 500 + "1" + " END" * 500,
]


@pytest.fixture(scope="module")
def lake() -> Iterator[Engine]:
    with engine() as made:
        made.tables = Tables({"own": _OWN, _ID: _OWN})
        yield made


@pytest.mark.parametrize("statement", REFUSED, ids=lambda each: each[:60])
def test_translation_refuses_other_statements(statement: str) -> None:
    with pytest.raises(StatementRefused):
        translate(statement, Tables({"own": _OWN}))


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT name FROM own", [["a"]]),
        (f"SELECT name FROM {_ID}", [["a"]]),
        (f'SELECT name FROM "{_ID}"', [["a"]]),
        (f"SELECT '{_ID}' FROM {_ID.upper()} -- {_ID}", [[_ID]]),
        ("SELECT a.name, b.name FROM own a, own b", [["a", "a"]]),
        ("SELECT 'it''s', 'a;b', '--', '/*'", [["it's", "a;b", "--", "/*"]]),
        ("SELECT name FROM own;", [["a"]]),
        ('SELECT name FROM "AwsDataCatalog"."default"."own"', [["a"]]),
        ('SELECT "default"."own"."name" FROM "default"."own"', [["a"]]),
        ("SELECT awsdatacatalog.default.own.name FROM own GROUP BY default.own.name", [["a"]]),
        ("SELECT CAST(timestamp '2026-11-30 18:38 Z' AS varchar)", [["2026-11-30 18:38:00 UTC"]]),
        (
            "SELECT timestamp '2026-11-30 18:38:15 +00:00' = timestamp '2026-11-30 18:38:15 UTC'",
            [[True]],
        ),
        ("SELECT 'x' WHERE 'a' = any (SELECT name FROM own)", [["x"]]),
        ("WITH own AS (SELECT 'b' AS name) SELECT name FROM own", [["b"]]),
        ("SELECT " + " + ".join(["1"] * 300), [[300]]),
        ("SELECT 'x' WHERE " + " OR ".join(["1 = 1"] * 500), [["x"]]),
    ],
)
def test_statements_have_their_rows(lake: Engine, statement: str, rows: list[list[object]]) -> None:
    assert lake.run(statement)[1] == rows


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT nosuch FROM own", "line 1:8: Column 'nosuch' cannot be resolved"),
        ("SELECT name\nFROM own\nWHERE nosuch = 1", "line 3:7: Column 'nosuch' cannot be resolved"),
        ("SELECT name FROM nowhere", "line 1:18: Table 'nowhere' does not exist"),
        (
            "SELECT name FROM awsdatacatalog.own",
            "Schema or catalog 'awsdatacatalog' does not exist",
        ),
        ("SELECT sales.own.name FROM own", "Column 'sales.own.name' cannot be resolved"),
        ("SELECT name > 1 FROM own", "line 1:8: Cannot apply operator: varchar > integer"),
        ("SELECT name, count(*) FROM own", "'name' must be an aggregate expression"),
        ("SELECT name FROM own WHERE count(*) > 1", "WHERE clause cannot contain aggregations"),
        ("SELECT max(count(*)) FROM own", "Cannot nest aggregations"),
        ("SELECT timestamp '2026-11-30 18:38 +01:00'", "has a zone other than UTC"),
        (f"SELECT x, {_ID} FROM own", "line 1:8: Column 'x'"),
    ],
)
def test_errors_have_their_place(lake: Engine, statement: str, message: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        lake.run(statement)
    assert message in str(refused.value)


def test_an_error_in_a_branch_that_is_not_taken_does_not_happen(lake: Engine) -> None:
    assert lake.run("SELECT CASE WHEN true THEN 1 ELSE 1 / 0 END")[1] == [[1]]
    assert lake.run("SELECT 1 / 0 FROM (VALUES 1) t(x) WHERE false")[1] == []
    assert lake.run("SELECT try(1 / 0), coalesce(2, 1 / 0)")[1] == [[None, 2]]
