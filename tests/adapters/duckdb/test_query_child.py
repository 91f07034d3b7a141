"""A query process reads only visible events, and its errors hide DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.duckdb.worlds import World
from tests.factories import ACCOUNT, a_new_entry, a_record, an_audit_record, event_id
from tests.fakes import run


def answers(root: Path, statement: str, last: str = "", **changes: Any) -> list[dict[str, Any]]:
    """Runs a statement; returns what its process prints, until a line has the member `last`."""
    job = {
        "statement": statement,
        "tables": ["event_history"],
        "history": str(root / "history"),
        "journal": str(root / "journal"),
        "accounts": None,
        "since": 0,
        "data_since": None,
        "result": str(root / "result.rows"),
        "memory": 256 << 20,
        "result_bytes": 1 << 20,
        **changes,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "opentrail.adapters.duckdb.query_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        printed = []
        for line in process.stdout:
            printed.append(json.loads(line))
            if last in printed[-1]:
                process.kill()
                return printed
        assert process.wait() == 0
    return printed


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")

    async def story() -> None:
        world = World(folder)
        await world.write(20)
        await world.seal((1, 10))
        await world.journal.close()

    run(story())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, "20"),
        ({"accounts": [ACCOUNT]}, "20"),
        ({"accounts": ["000000000001"]}, "0"),
        ({"accounts": []}, "0"),
        ({"since": 1 << 60}, "0"),
        ({"data_since": 1 << 60}, "20"),
    ],
)
def test_only_visible_events_are_counted(root: Path, changes: dict[str, Any], count: str) -> None:
    assert len(answers(root, "SELECT count(*) FROM event_history", **changes)) == 2
    assert (root / "result.rows").read_text() == f'["{count}"]\n'


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM event_history",
        "SELECT eventjson FROM event_history WHERE recipientAccountId <> '' OR true",
        "SELECT eventjson FROM (VALUES 1) t(x) LEFT JOIN event_history ON true",
        "SELECT eventjson FROM event_history e FULL JOIN event_history f USING (eventjson)",
        "SELECT (SELECT max(eventjson) FROM event_history)",
        "SELECT array_agg(eventjson) FROM event_history GROUP BY GROUPING SETS ((), (eventid))",
        "SELECT eventjson FROM event_history UNION SELECT eventjson FROM event_history",
        "WITH RECURSIVE x(j, n) AS (SELECT max(eventjson), 1 FROM event_history UNION ALL"
        " SELECT j, n + 1 FROM x WHERE n < 3) SELECT j FROM x",
        "SELECT lag(eventjson) OVER (ORDER BY eventtime) FROM event_history",
        "SELECT u FROM event_history, UNNEST(array[eventjson]) t(u)",
        "SELECT if(count(*) > 0, max(eventjson)) FROM event_history",
    ],
)
def test_other_accounts_events_are_in_no_result(root: Path, statement: str) -> None:
    printed = answers(root, statement, accounts=["000000000001"])
    assert printed[-1]["outcome"]["events"] == 0
    assert ACCOUNT not in (root / "result.rows").read_text()
    answers(root, statement, accounts=[ACCOUNT])
    assert ACCOUNT in (root / "result.rows").read_text()


@pytest.mark.slow
def test_audit_events_have_their_records_members(tmp_path: Path) -> None:
    entries = [a_new_entry(an_audit_record()), a_new_entry(a_record(eventID=event_id(2)))]

    async def story() -> None:
        world = World(tmp_path)
        await world.journal.append([*entries, *entries])
        await world.seal((1, 2))
        await world.journal.close()

    run(story())
    statement = (
        "SELECT eventName, eventSource, sourceIPAddress, count(*) FROM event_history"
        " WHERE eventCategory = 'ActivityAuditLog' GROUP BY 1, 2, 3"
    )
    answers(tmp_path, statement)
    assert (tmp_path / "result.rows").read_text() == '[null,null,null,"2"]\n'


@pytest.mark.slow
def test_insights_events_have_the_names_in_their_records(tmp_path: Path) -> None:
    details = {"eventName": "RunInstances", "eventSource": "ec2.amazonaws.com", "state": "Start"}
    insight = a_record(
        eventID=event_id(1),
        eventName="Insight",
        eventSource="cloudtrail.amazonaws.com",
        eventCategory="Insight",
        insightDetails=details,
    )
    entries = [a_new_entry(insight), a_new_entry(a_record(eventID=event_id(2)))]

    async def story() -> None:
        world = World(tmp_path)
        await world.journal.append([*entries, *entries])
        await world.seal((1, 2))
        await world.journal.close()

    run(story())
    counted = "SELECT eventSource, count(*) FROM event_history WHERE eventName = '{}' GROUP BY 1"
    for name, rows in (("Insight", '["cloudtrail.amazonaws.com","2"]\n'), ("RunInstances", "")):
        answers(tmp_path, counted.format(name))
        assert (tmp_path / "result.rows").read_text() == rows


@pytest.mark.slow
def test_large_results_fail_without_a_file(root: Path) -> None:
    (root / "result.rows").unlink(missing_ok=True)
    text = "SELECT lpad('', 900, 'x') FROM UNNEST(sequence(1, 5000))"
    printed = answers(root, text)
    assert printed[-1] == {"failed": "the result is larger than 1 MB: add a LIMIT"}
    assert not (root / "result.rows").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT lpad('x', 2000000, 'y')",
        "SELECT repeat('x', 20000000)",
        "SELECT array_agg(lpad('x', 100000, 'y')) FROM UNNEST(sequence(1, 9999))",
        "SELECT reduce(sequence(1, 40), 'x', (s, i) -> s || s, s -> s)",
        "SELECT cast('x' AS bigint)",
        "SELECT array[1][2]",
    ],
)
def test_failures_tell_nothing_of_the_machine(root: Path, statement: str) -> None:
    (failure,) = [each["failed"] for each in answers(root, statement) if "failed" in each]
    assert failure
    assert len(failure) < 200
    assert not any(word in failure for word in ("duckdb", "DuckDB", "/", "Python", "UDF", "lake_"))


@pytest.mark.slow
def test_locked_engine_reads_no_files(root: Path, tmp_path: Path) -> None:
    """Even if the translation let a statement through."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    script = f"""
import duckdb
from opentrail.adapters.duckdb import query_child
from opentrail.lake.dialect.statements import Translated
statements = [
    "SELECT content FROM read_text('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "COPY (SELECT 1) TO '{tmp_path}/out.csv'",
    "ATTACH '{tmp_path}/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET lock_configuration",
    "SET temp_directory = '{tmp_path}'",
    "EXPORT DATABASE '{tmp_path}/x'",
]
job = query_child.Job(
    "", ["event_history"], r"{root}/history", r"{root}/journal", None, 0, None, "", 256 << 20, 1
)
def tried(job, connection, translated):
    for statement in statements:
        try:
            connection.execute(statement)
        except duckdb.Error:
            continue
        print("passed:", statement)
    return 0, ""
query_child._write = tried
query_child._run(job, query_child._Catalog(job), Translated("SELECT 1", []), None)
print("done", flush=True)
import os; os._exit(0)
"""  # noqa: S608
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "done\n", ran.stderr


@pytest.mark.slow
def test_long_statement_reports_its_progress(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        await world.write(3_000)
        await world.seal(*((first, first + 299) for first in range(1, 3_000, 300)))
        await world.journal.close()

    run(story())
    steps = "reduce(sequence(1, 8000), length(eventid), (s, x) -> (s + x) % 7, s -> s)"
    printed = answers(tmp_path, f"SELECT sum({steps}) FROM event_history", last="progress")  # noqa: S608
    assert 0 < printed[-1]["progress"] < 100
