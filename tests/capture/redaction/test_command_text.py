"""Passwords in commands and addresses, and pairs of fields."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.redaction.command_text import (
    without_command_secrets,
    without_logins,
    without_paired_fields,
)
from opentrail.capture.redaction.secret_names import HIDDEN


@pytest.mark.parametrize(
    "text",
    [
        "setx API_TOKEN {}",
        "ENV PW '{}'",
        "set -x PW {}",
        "mysqldump -h h -u a -p{} db > x",
        "mysql -p={}",
        "sudo docker login -u a -p {} r",
        "sqlcmd -S h -P {}",
        "redis-cli -h h -a {}",
        "curl -s --user a:{} https://h",
        "echo a:{} | sudo chpasswd",
        "net user a {} /add",
        "sqlplus a/{}",
        "sqlplus -s a/{}@h @x.sql",
        "expdp directory=d userid=a/{}@h",
    ],
)
def test_a_password_of_a_command_is_hidden(text: str) -> None:
    shown = without_command_secrets(text.format("x1y2z3"))
    assert shown == text.format(HIDDEN)
    assert without_command_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "setx PATH /usr/bin",
        "ENV HOST h",
        "mkdir -p /a/b",
        "docker run -p 80:80 image",
        "curl -o a https://h/a:b",
        "net user",
        "sqlplus / as sysdba",
        "mysql; mkdir -p a",
        "aws-cli/2.15.17 Python/3.11.6 command/iam.create-login-profile",
    ],
)
def test_a_command_without_one_stays(text: str) -> None:
    assert without_command_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "jdbc:oracle:thin:a/{}@h:1521/s",
        "jdbc:oracle:thin:@a/{}@h",
        "jdbc:mysql://a:{}@h/d?user=b@c",
        "postgres://a:{}@h/d",
        "https://{}@github.com/o/r",
    ],
)
def test_a_password_of_an_address_is_hidden(text: str) -> None:
    secret = "x1y2z3" if "github" not in text else "ghp_0123456789abcdefghij"
    shown = without_logins(text.format(secret))
    assert shown == text.format(HIDDEN)
    assert without_logins(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "jdbc:oracle:thin:@//h:1521/s",
        "jdbc:oracle:thin:@h:1521:s",
        "jdbc:postgresql://h:5432/d?user=a@b",
        "jdbc:sqlserver://h:1433;user=a",
        "https://org@dev.azure.com/org",
        "ssh://git@h/x",
        "git@github.com:o/r",
        "repository/image@sha256:0123",
        "a@b.example, http://h:80/x",
    ],
)
def test_an_address_without_one_stays(text: str) -> None:
    assert without_logins(text) == text


def test_fields_are_pairs_by_their_prefix_and_turn() -> None:
    text = "ParameterKey=a,ParameterValue=b ParameterKey=Pw,ParameterValue=c"
    assert without_paired_fields(text) == text.removesuffix("c") + HIDDEN
    text = "T.1.Key=password&T.2.Value=b&T.1.Value=c&T.2.Key=a"
    assert without_paired_fields(text) == text.replace("=c", f"={HIDDEN}")
    assert without_paired_fields("a=b&value=password") == "a=b&value=password"


def test_many_addresses_and_commands_beside_each_other_are_read_once() -> None:
    addresses = "jdbc:a:" * 14_000
    assert without_logins(f"{addresses} a@b") == f"{'jdbc:a:' * 3}{HIDDEN} a@b"
    assert without_logins(f"jdbc:a://u:{'x' * 600}@h") == f"jdbc:a://u:{HIDDEN}"
    commands = "docker login -x " * 6_000
    assert without_command_secrets(commands) == commands


@given(st.text())
def test_any_text_is_accepted(text: str) -> None:
    for change in (without_command_secrets, without_logins, without_paired_fields):
        assert isinstance(change(f"curl -u {text} jdbc:a:{text}@ key={text}"), str)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["mysql -p", "jdbc:a:", "sqlplus ", "env ", "://", "a.1.Key="])
@pytest.mark.parametrize("letters", ["x", "a:", "a/", " -", "a=", "'", "@", "mysql "])
def test_a_long_text_costs_little_memory(start: str, letters: str) -> None:
    text = start + letters * (100_000 // len(letters))
    tracemalloc.start()
    try:
        for change in (without_command_secrets, without_logins, without_paired_fields):
            change(text)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
