"""`opentrail query`: its requests and its output."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]
COLUMNS = [{"name": "eventName", "type": "varchar"}, {"name": "n", "type": "bigint"}]
PAGE: dict[str, Any] = {
    "queryId": "q1",
    "status": "FINISHED",
    "progress": None,
    "error": None,
    "columns": COLUMNS,
    "rows": [["CreateUser", "2"], [None, "1"]],
    "total": 2,
    "eventsScanned": 3,
    "bytesScanned": 300,
    "missing": [],
}


RUNNING = {**PAGE, "status": "RUNNING", "rows": [], "total": 0}


def answer_in_turn(console: StubConsole, *pages: dict[str, Any]) -> None:
    """Makes the stub send one page per request."""
    rest = list(pages)
    console.react = lambda _: (200, rest.pop(0))


def body(console: StubConsole, number: int = -1) -> Any:
    return json.loads(console.asked[number].body)


def test_result_is_a_table(console: StubConsole, capsys: Capture) -> None:
    console.answers(PAGE)
    assert main(["query", "SELECT 1"]) == 0
    assert capsys.readouterr().out == "eventName   n\nCreateUser  2\n            1\n"
    assert body(console) == {"statement": "SELECT 1", "limit": 1_000, "wait": 1}


@pytest.mark.parametrize(
    ("flag", "shown"),
    [
        ("--csv", "eventName,n\nCreateUser,2\n,1\n"),
        ("--json", '{"eventName": "CreateUser", "n": "2"}\n{"eventName": null, "n": "1"}\n'),
    ],
)
def test_other_forms(console: StubConsole, capsys: Capture, flag: str, shown: str) -> None:
    console.answers(PAGE)
    assert main(["query", flag, "SELECT 1"]) == 0
    assert capsys.readouterr().out == shown


def test_hostile_values_are_escaped(console: StubConsole, capsys: Capture) -> None:
    console.answers({**PAGE, "rows": [["=1+1\x1b[31m", "\u202e\x9b\x7f"]], "total": 1})
    assert main(["query", "--csv", "SELECT 1"]) == 0
    assert capsys.readouterr().out == "eventName,n\n'=1+1\\x1b[31m,\\u202e\\x9b\\x7f\n"
    assert main(["query", "--json", "SELECT 1"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip("\n").isprintable()
    assert json.loads(out) == {"eventName": "=1+1\x1b[31m", "n": "\u202e\x9b\x7f"}


def test_columns_of_one_name_are_kept(
    console: StubConsole, capsys: Capture, tmp_path: Path
) -> None:
    columns = [{"name": name, "type": "varchar"} for name in ("n", "N", "n")]
    console.answers({**PAGE, "columns": columns, "rows": [["a", "b", "c"]], "total": 1})
    assert main(["query", "--json", "SELECT 1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"n": "a", "N_1": "b", "n_2": "c"}
    file = tmp_path / "rows.parquet"
    assert main(["query", "--parquet", str(file), "SELECT 1"]) == 0
    found = duckdb.read_parquet(str(file))
    assert (found.columns, found.fetchall()) == (["n", "N_1", "n_2"], [("a", "b", "c")])


def test_parquet_has_typed_columns(console: StubConsole, tmp_path: Path) -> None:
    console.answers(PAGE)
    file = tmp_path / "out's.parquet"
    assert main(["query", "--parquet", str(file), "SELECT 1"]) == 0
    quoted = str(file).replace("'", "''")
    found = duckdb.sql(f"SELECT * FROM '{quoted}'")  # noqa: S608
    assert found is not None
    assert found.fetchall() == [("CreateUser", 2), (None, 1)]
    assert [str(kind) for kind in found.types] == ["VARCHAR", "BIGINT"]


def test_all_pages_are_read(console: StubConsole, capsys: Capture) -> None:
    answer_in_turn(console, {**PAGE, "rows": [["a", "1"]]}, {**PAGE, "rows": [["b", "2"]]})
    assert main(["query", "--csv", "SELECT 1"]) == 0
    assert capsys.readouterr().out == "eventName,n\na,1\nb,2\n"
    assert body(console) == {"queryId": "q1", "first": 1, "limit": 1_000}


def test_earlier_result_is_shown(console: StubConsole, capsys: Capture) -> None:
    console.answers(PAGE)
    assert main(["query", "--csv", "--id", "q1"]) == 0
    assert "CreateUser,2" in capsys.readouterr().out
    assert body(console) == {"queryId": "q1", "limit": 1_000, "wait": 1}


def test_command_waits_for_a_running_query(console: StubConsole, capsys: Capture) -> None:
    answer_in_turn(console, RUNNING, PAGE)
    assert main(["query", "SELECT 1"]) == 0
    printed = capsys.readouterr()
    assert "CreateUser" in printed.out
    assert printed.err == ""
    assert body(console) == {"queryId": "q1", "limit": 1_000, "wait": 1}


def test_terminal_shows_the_progress(
    console: StubConsole, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    answer_in_turn(console, RUNNING, {**RUNNING, "progress": 42}, PAGE)
    assert main(["query", "SELECT 1"]) == 0
    first, second, end = capsys.readouterr().err[1:-1].split("\r")
    assert (first, second) == ("running, Ctrl-C cancels", "42% done, Ctrl-C cancels")
    assert end == " " * len(second)


def test_interrupt_cancels_the_query(console: StubConsole) -> None:
    pages = [RUNNING, {**PAGE, "status": "CANCELLED"}]

    def react(request: Any) -> tuple[int, Any]:
        if "statement" not in json.loads(request.body) and len(pages) == 1:
            asked = json.loads(request.body)
            if "cancel" not in asked:
                os.kill(os.getpid(), signal.SIGINT)
                return 200, RUNNING
        return 200, pages.pop(0)

    console.react = react
    assert main(["query", "SELECT 1"]) == 130
    assert body(console) == {"queryId": "q1", "cancel": True}


def test_failed_query_is_an_error(console: StubConsole, capsys: Capture) -> None:
    console.answers({**PAGE, "status": "FAILED", "error": "Division by zero", "rows": []})
    assert main(["query", "SELECT 1 / 0"]) == 1
    assert "query failed: Division by zero" in capsys.readouterr().err


def test_refused_statement_is_an_error(console: StubConsole, capsys: Capture) -> None:
    error = {
        "error": "line 1:8: Column 'x' cannot be resolved",
        "code": "InvalidQueryStatementException",
    }
    console.answers(error, status=400)
    assert main(["query", "SELECT x"]) == 1
    assert "line 1:8: Column 'x' cannot be resolved" in capsys.readouterr().err


def test_statement_from_a_file_and_standard_input(
    console: StubConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "query.sql"
    file.write_text("SELECT 2")
    console.answers(PAGE)
    assert main(["query", "-f", str(file)]) == 0
    assert body(console)["statement"] == "SELECT 2"
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 3"))
    console.answers(PAGE)
    assert main(["query", "-f", "-"]) == 0
    assert body(console)["statement"] == "SELECT 3"


def test_samples_are_listed_and_run(console: StubConsole, capsys: Capture) -> None:
    assert main(["query", "--samples"]) == 0
    assert "created-users" in capsys.readouterr().out
    console.answers(PAGE)
    assert main(["query", "--sample", "created-users"]) == 0
    assert "CreateUser" in body(console)["statement"]


@pytest.mark.parametrize(
    "arguments", [[], ["SELECT 1", "-f", "x"], ["--sample", "nosuch"], ["-f", "/no/such/file"]]
)
def test_wrong_use(capsys: Capture, arguments: list[str]) -> None:
    assert main(["query", *arguments]) == 2
    assert capsys.readouterr().err.startswith("opentrail")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tables", "--csv"], "need a result"),
        (["--history", "--parquet", "x"], "need a result"),
        (["--tables", "SELECT 1"], "query needs one of"),
        (["--tables", "--limit", "5"], "--limit belongs to --history"),
    ],
)
def test_lists_take_no_statement_or_form(
    console: StubConsole, capsys: Capture, arguments: list[str], said: str
) -> None:
    assert main(["query", *arguments]) == 2
    assert said in capsys.readouterr().err
