"""Secrets in YAML: whole values are hidden, and all other lines stay unchanged."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.secrets.secret_names import HIDDEN
from opentrail.core.secrets.yaml_text import is_hushed, without_yaml_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Password: two words # why\nA: b\n", f"Password: {HIDDEN}\nA: b\n"),
        ("UserData: !Sub |\n  a\n\n  b\nA: b", f"UserData: {HIDDEN}\nA: b"),
        ("UserData:\n  Fn::Base64:\n    !Sub |\n      a\nA: b\n", f"UserData: {HIDDEN}\nA: b\n"),
        (
            "db:\n  Passwords:\n  - one\n  - two\n  Host: h\n",
            f"db:\n  Passwords: {HIDDEN}\n  Host: h\n",
        ),
        ("- Key: password\n  Value: x\n- Key: a\n  Value: y\n", None),
        (
            "- Value: x\n  More: 1\n  Key: password\n",
            f"- Value: {HIDDEN}\n  More: 1\n  Key: password\n",
        ),
        (
            "- Name: tag:token\n  Values:\n    - x\n    - y\n",
            f"- Name: tag:token\n  Values: {HIDDEN}\n",
        ),
        ("P:\n  NoEcho: yes\n  Default: x\n", f"P:\n  NoEcho: yes\n  Default: {HIDDEN}\n"),
        ("P:\r\n  NoEcho: true\r\n  Default: x\r\n", None),
    ],
)
def test_value_is_hidden_with_all_of_its_lines(text: str, shown: str | None) -> None:
    found = without_yaml_secrets(text)
    assert HIDDEN in found
    assert found == shown or shown is None
    assert " x" not in found
    assert without_yaml_secrets(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "Password:\n",
        "Password: null\nA: b\n",
        "ManageMasterUserPassword: true\n",
        "P:\n  NoEcho: false\n  Default: x\n",
        "P:\n  Type: String\n  Default: x\n",
        "- Key: a\n  Value: password\n",
        "Key: password\nOther:\n  Value: x\n",
        "- Key: password\n- Value: x\n",
        "Secret-Arn: arn\nA: {Key: a, Value: x}\n",
        "Resources:\n  Bucket:\n    Type: AWS::S3::Bucket\n",
        "not yaml, at all\n  : x\n\t- : y",
    ],
)
def test_other_values_keep_their_bytes(text: str) -> None:
    assert without_yaml_secrets(text) == text


@pytest.mark.parametrize(
    ("value", "hushed"),
    [
        (True, True),
        ("true", True),
        ("yes", True),
        ({"Ref": "A"}, True),
        (False, False),
        (None, False),
    ],
)
def test_unasserted_values_are_not_echoed(value: object, hushed: bool) -> None:
    assert is_hushed(value) == hushed


LINES = st.sampled_from(
    ["a: b", "  - Key: password", "    Value: x", "- ", "#", "{a: b", "}", "\t"]
)


@given(st.lists(LINES | st.text(max_size=20), max_size=12))
def test_any_yaml_can_be_read_and_hidden_once(lines: list[str]) -> None:
    shown = without_yaml_secrets("\n".join(lines))
    assert without_yaml_secrets(shown) == shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["a: b\n", "  " * 20 + "a:\n", "{a: b, ", "- - - a: x\n", "'a': '"]
)
def test_a_long_text_costs_little_memory(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    tracemalloc.start()
    try:
        without_yaml_secrets(text)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
