"""`opentrail users`: its requests and its output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole, stub_console

ANN = {
    "name": "ann",
    "role": "auditor",
    "accounts": ["111111111111", "222222222222"],
    "created": "2020-01-01T09:00:00Z",
    "active": True,
    "mustChangePassword": False,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubConsole]:
    with stub_console(tmp_path) as stub:
        yield stub


def run(server: StubConsole, *arguments: str) -> int:
    return main(["users", *arguments, "--data-dir", str(server.data_dir)])


def asked(server: StubConsole) -> tuple[str, str, Any]:
    (one,) = server.asked
    return one.method, one.path, json.loads(one.body) if one.body else None


def test_a_new_users_password_is_printed_once(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"user": ANN, "password": "Zm9v"})
    assert run(server, "create", "ann", "--role", "auditor", "--accounts", "1,2") == 0
    given = {"name": "ann", "role": "auditor", "accounts": ["1", "2"]}
    assert asked(server) == ("POST", "/api/v1/users", given)
    printed = capsys.readouterr()
    assert printed.out == "password of ann for the next sign-in: Zm9v\n"
    assert "must be changed" in printed.err


def test_an_administrator_is_created_without_accounts(server: StubConsole) -> None:
    server.answers({"user": ANN, "password": "Zm9v"})
    assert run(server, "create", "ann", "--role", "admin") == 0
    assert asked(server)[2]["accounts"] is None


def test_users_are_one_line_each(server: StubConsole, capsys: pytest.CaptureFixture[str]) -> None:
    bob = {**ANN, "name": "bob.b", "role": "viewer", "accounts": None}
    server.answers({"users": [ANN, {**bob, "mustChangePassword": True}, {**bob, "active": False}]})
    assert run(server, "list") == 0
    assert asked(server) == ("GET", "/api/v1/users", None)
    assert capsys.readouterr().out.splitlines() == [
        "ann    auditor   111111111111,222222222222  active",
        "bob.b  viewer    all accounts  has not signed in yet",
        "bob.b  viewer    all accounts  disabled",
    ]


def test_without_users_it_explains_how_to_create_one(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"users": []})
    assert run(server, "list") == 0
    assert "opentrail users create" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "said"),
    [("disable", "disabled"), ("enable", "enabled"), ("delete", "deleted")],
)
def test_changes_are_confirmed(
    server: StubConsole, capsys: pytest.CaptureFixture[str], action: str, said: str
) -> None:
    server.answers({"user": ANN})
    assert run(server, action, "ann") == 0
    assert asked(server) == ("POST", "/api/v1/users/change", {"name": "ann", "action": action})
    assert capsys.readouterr().out == f"ann is {said}\n"


@pytest.mark.parametrize(
    ("count", "printed"), [(0, "0 sessions"), (1, "1 session"), (2, "2 sessions")]
)
def test_ended_sessions_are_counted(
    server: StubConsole, capsys: pytest.CaptureFixture[str], count: int, printed: str
) -> None:
    server.answers({"endedSessions": count})
    assert run(server, "end-sessions", "oidc:ann") == 0
    body = {"name": "oidc:ann", "action": "end-sessions"}
    assert asked(server) == ("POST", "/api/v1/users/change", body)
    assert capsys.readouterr().out == f"{printed} of oidc:ann ended\n"


def test_a_reset_prints_the_new_password(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"user": ANN, "password": "YmFy"})
    assert run(server, "reset-password", "ann", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"user": ANN, "password": "YmFy"}


def test_a_refusal_is_wrong_use(server: StubConsole, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers({"error": "user 'x' not found", "code": "InvalidParameterException"}, 400)
    assert run(server, "disable", "x") == 2
    assert "user 'x' not found" in capsys.readouterr().err


TOKEN = {
    "user": "ann",
    "name": "laptop",
    "created": "2020-01-01T09:00:00Z",
    "expires": "2020-03-31T09:00:00Z",
}


def test_only_a_new_token_is_printed(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"token": TOKEN, "secret": "ot_Zm9v"})
    assert run(server, "token", "add", "ann", "laptop", "--days", "30") == 0
    body = {"user": "ann", "name": "laptop", "days": 30}
    assert asked(server) == ("POST", "/api/v1/users/tokens", body)
    printed = capsys.readouterr()
    assert printed.out == "ot_Zm9v\n"
    assert "valid until 2020-03-31T09:00:00Z" in printed.err


def test_tokens_are_listed_without_secrets(
    server: StubConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers({"tokens": [TOKEN]})
    assert run(server, "token", "list") == 0
    assert asked(server) == ("GET", "/api/v1/users/tokens", None)
    assert capsys.readouterr().out.splitlines()[1] == "ann   laptop  2020-03-31T09:00:00Z"
    server.answers({"tokens": []})
    assert run(server, "token", "list") == 0
    assert "opentrail users token add" in capsys.readouterr().out


def test_a_token_is_removed(server: StubConsole, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers({})
    assert run(server, "token", "remove", "ann", "laptop") == 0
    body = {"user": "ann", "name": "laptop"}
    assert asked(server) == ("POST", "/api/v1/users/tokens/remove", body)
    assert capsys.readouterr().out == "token laptop of ann is removed\n"
